//! How calls are signed: as Standard Webhooks has it, so that its libraries verify them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The header with the id of what is told, the same whenever it is told again.
pub(super) const ID: &str = "webhook-id";
/// The header with the time of the call, in seconds since 1970.
pub(super) const TIMESTAMP: &str = "webhook-timestamp";
/// The header with the signature.
pub(super) const SIGNATURE: &str = "webhook-signature";

/// Before a secret in base64.
const PREFIX: &str = "whsec_";

/// What calls are signed with.
pub(super) struct Key(Vec<u8>);

impl Key {
    /// Reads a secret: `whsec_` and base64, or the bytes of any other text.
    pub fn read(secret: &str) -> Result<Self, String> {
        let key = match secret.strip_prefix(PREFIX) {
            None => secret.as_bytes().to_vec(),
            Some(coded) => STANDARD.decode(coded).map_err(|_| format!("what follows {PREFIX} is not base64"))?,
        };
        if key.is_empty() { Err("it is empty".to_owned()) } else { Ok(Self(key)) }
    }

    /// `v1,` and the HMAC-SHA256 of `id.seconds.body`, in base64.
    pub fn sign(&self, id: &str, seconds: u64, body: &str) -> String {
        // Keys of any length do.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body.as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        // The example of its specification.
        let key = Key::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(Key::read("whsec_!").is_err() && Key::read("").is_err());
        assert_ne!(Key::read("any text").unwrap().sign("a", 1, "b"), key.sign("a", 1, "b"));
    }
}
