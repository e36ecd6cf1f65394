//! Pages of lists: what a request asks for, and tokens that are good for the same request only.
//!
//! A token is base64 of a hash of the request, but for its page and its encoding, and of the token inside.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use prost::Message;
use runloom::v1::{
    ListAssistantVersionsRequest, ListAssistantsRequest, ListCheckpointsRequest, ListCronsRequest, ListGraphsRequest,
    ListNamespacesRequest, ListRunsRequest, ListThreadsRequest, ListWorkersRequest, SearchItemsRequest,
};
use runloom_core::{Error, Reason, store::PageRequest};
use sha2::{Digest, Sha256};

/// The most that one page holds.
const MAX_PAGE: u32 = 1000;
/// How much of the hash is in a token: enough to tell requests apart, which is not to guard them.
const HASH: usize = 8;

/// A request for a page of a list.
pub(crate) trait Paged: Message + Clone {
    /// How many are asked for, and after which token.
    fn page(&self) -> (u32, &str);

    /// The same request for its first page, in the encoding that is the default.
    fn first(self) -> Self;
}

/// What is the same in all requests for pages.
macro_rules! paged {
    ($($request:ty $({ $($other:ident),* })?),* $(,)?) => {
        $(impl Paged for $request {
            fn page(&self) -> (u32, &str) {
                (self.page_size, &self.page_token)
            }

            fn first(self) -> Self {
                Self { page_size: 0, page_token: String::new(), $($($other: 0,)*)? ..self }
            }
        })*
    };
}

paged!(
    ListAssistantVersionsRequest { json_encoding, max_part_bytes },
    ListAssistantsRequest { json_encoding, max_part_bytes },
    ListCheckpointsRequest { json_encoding, max_part_bytes },
    ListCronsRequest { json_encoding, max_part_bytes },
    ListGraphsRequest,
    ListNamespacesRequest,
    ListRunsRequest { json_encoding, max_part_bytes },
    ListThreadsRequest { json_encoding, max_part_bytes },
    ListWorkersRequest,
    SearchItemsRequest { json_encoding, max_part_bytes },
);

/// The pages of one list, as a request asks for them.
pub(crate) struct Pages {
    hash: [u8; HASH],
}

impl Pages {
    /// Of a request, with the page it asks for: `default` to a page where it does not say how many.
    pub fn of(request: &impl Paged, default: u32) -> Result<(Self, PageRequest), Error> {
        let (size, token) = request.page();
        let mut hash = [0; HASH];
        hash.copy_from_slice(&Sha256::digest(request.clone().first().encode_to_vec())[..HASH]);
        let pages = Self { hash };
        let token = if token.is_empty() { None } else { Some(pages.inside(token)?) };
        let size = if size == 0 { default } else { size.min(MAX_PAGE) };
        Ok((pages, PageRequest { size: size as usize, token, skip: 0 }))
    }

    /// The token inside one that was sent.
    fn inside(&self, token: &str) -> Result<String, Error> {
        let invalid = |what| Error::new(Reason::PageTokenInvalid, what);
        let raw = BASE64.decode(token).unwrap_or_default();
        let parts = raw.split_first_chunk::<HASH>();
        match parts.and_then(|(hash, inner)| Some((hash, std::str::from_utf8(inner).ok()?))) {
            Some((hash, inner)) if *hash == self.hash => Ok(inner.to_owned()),
            Some(_) => Err(invalid(
                "the page token is of another request: send what was sent for the first page, with the token and nothing else \
                 changed, or start at the first page",
            )),
            None => Err(invalid("the page token is not one that a list gave; start at the first page")),
        }
    }

    /// The token to send for the next page; empty where there is none.
    pub fn next(&self, inner: Option<String>) -> String {
        inner.map_or_else(String::new, |inner| BASE64.encode([&self.hash, inner.as_bytes()].concat()))
    }
}

#[cfg(test)]
mod tests {
    use runloom::v1::Json;
    use serde_json::json;

    use super::*;

    #[test]
    fn pages_have_a_default_and_a_bound() {
        let size = |page_size| Pages::of(&ListRunsRequest { page_size, ..Default::default() }, 50).unwrap().1.size;
        assert_eq!((size(0), size(7), size(u32::MAX)), (50, 7, 1000));
    }

    #[test]
    fn a_token_is_good_for_the_same_request_only() {
        let filter = |n: i64| Some(Json::text(&json!({ "n": n })));
        let request = ListRunsRequest { thread_id: "t".into(), metadata_filter: filter(1), ..Default::default() };
        let token = Pages::of(&request, 50).unwrap().0.next(Some("inner".into()));
        let after = |change: fn(&mut ListRunsRequest), metadata_filter| {
            let mut next = ListRunsRequest { page_token: token.clone(), metadata_filter, ..request.clone() };
            change(&mut next);
            Pages::of(&next, 50).map(|(_, page)| page.token).map_err(|error| error.reason)
        };
        assert_eq!(after(|_| {}, filter(1)), Ok(Some("inner".to_owned())));
        assert_eq!(after(|r| (r.page_size, r.json_encoding) = (9, 3), filter(1)), Ok(Some("inner".to_owned())));
        assert_eq!(after(|_| {}, filter(2)), Err(Reason::PageTokenInvalid));
        assert_eq!(after(|r| r.thread_id.clear(), filter(1)), Err(Reason::PageTokenInvalid));
        assert_eq!(after(|r| r.states = vec![1], filter(1)), Err(Reason::PageTokenInvalid));
        for nonsense in ["x", "!!", "AAAA", "AAAAAAAAAAA"] {
            let wrong = ListRunsRequest { page_token: nonsense.into(), ..request.clone() };
            assert_eq!(Pages::of(&wrong, 50).map(|_| ()).map_err(|e| e.reason), Err(Reason::PageTokenInvalid));
        }
        assert_eq!(Pages { hash: [0; HASH] }.next(None), "");
    }
}
