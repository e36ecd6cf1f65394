//! Secrets in headers: a document names a variable of the environment, and the operator says where it may be sent.

use std::{fmt, str::FromStr};

use reqwest::Url;

/// A variable of the environment that documents may have sent, in a header, to one origin: `WEATHER_TOKEN@api.example.org`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    name: String,
    /// `https://` where the operator wrote none.
    to: Url,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.to)
    }
}

impl FromStr for Secret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            |why: &str| format!("`{text}` {why}; write VARIABLE@api.example.org, or VARIABLE@http://localhost:8080");
        let (name, to) = text.split_once('@').ok_or_else(|| wrong("does not say where it may be sent"))?;
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name {
            return Err(wrong("does not begin with the name of a variable"));
        }
        let url = if to.contains("://") { to.to_owned() } else { format!("https://{to}") };
        let to = Url::parse(&url).map_err(|_| wrong("names no host"))?;
        let is_origin = ["http", "https"].contains(&to.scheme())
            && to.path() == "/"
            && to.query().is_none()
            && to.username().is_empty();
        if is_origin { Ok(Self { name: name.to_owned(), to }) } else { Err(wrong("names more than an origin")) }
    }
}

impl Secret {
    /// The value of a variable for a call of a URL, where one of these allows it.
    pub(super) fn find(all: &[Self], name: &str, url: &Url) -> Result<String, String> {
        let origin = url.origin();
        if !all.iter().any(|secret| secret.name == name && secret.to.origin() == origin) {
            let at = match url.scheme() {
                "https" => {
                    url.host_str().unwrap_or_default().to_owned()
                        + &url.port().map(|p| format!(":{p}")).unwrap_or_default()
                }
                _ => origin.ascii_serialization(),
            };
            return Err(format!(
                "the variable {name} may not be sent to {at}; the operator may allow it: --http-secret {name}@{at}"
            ));
        }
        match std::env::var(name) {
            Ok(value) if !value.is_empty() => Ok(value),
            _ => Err(format!("the variable {name} is not set where Runloom runs")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_goes_to_its_origin_and_to_no_other() {
        let all: Vec<Secret> =
            ["PATH@api.example.org", "PATH@http://localhost:80"].iter().map(|s| s.parse().unwrap()).collect();
        let find = |name: &str, url: &str| Secret::find(&all, name, &Url::parse(url).unwrap());
        assert!(find("PATH", "https://api.example.org/v1?x=y").is_ok());
        assert!(find("PATH", "http://localhost/").is_ok());
        for url in [
            "http://api.example.org/",
            "https://api.example.org:8443/",
            "https://example.org/",
            "https://api.example.org.evil.net/",
            "https://localhost/",
        ] {
            assert!(find("PATH", url).unwrap_err().contains("may not be sent"), "{url}");
        }
        assert_eq!(
            find("HOME", "https://a.org:81/x?secret").unwrap_err(),
            "the variable HOME may not be sent to a.org:81; the operator may allow it: --http-secret HOME@a.org:81"
        );
    }

    #[test]
    fn a_secret_names_its_variable_and_an_origin() {
        for wrong in ["", "X", "X@", "@host", "a b@host", "X@host/path", "X@ftp://host", "X@https://u:p@host"] {
            assert!(wrong.parse::<Secret>().is_err(), "{wrong}");
        }
    }
}
