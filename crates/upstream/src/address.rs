//! Where an upstream is.

use crate::UpstreamError;
use std::{fmt, str::FromStr};

/// The URL of an upstream, as far as its API's paths begin. It holds nothing secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// The URL of a path of the API, for example `/models`.
    pub(crate) fn api(&self, path: &str) -> String {
        format!("{}/v1{path}", self.0)
    }

    /// The URL of a path beside the API.
    pub(crate) fn beside(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

impl FromStr for Address {
    type Err = UpstreamError;

    /// Reads `http://host:port`, with or without the `/v1` at its end.
    fn from_str(text: &str) -> Result<Self, UpstreamError> {
        let wrong = |address: &str, reason| UpstreamError::Address { address: address.to_owned(), reason };
        let Ok(url) = reqwest::Url::parse(text.trim()) else {
            return Err(wrong(text, "it is no URL; give one like http://127.0.0.1:8080"));
        };
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(wrong(text, "it is no URL of http or https; give one like http://127.0.0.1:8080"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            let place = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
            return Err(wrong(
                &place,
                "it holds a user, a password or a query, which would be shown; give a key in a file or a variable",
            ));
        }
        let mut url = url;
        url.set_fragment(None);
        // Of the path alone: a host may be called v1, too.
        let path = url.path().trim_end_matches('/');
        let path = path.strip_suffix("/v1").unwrap_or(path).trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, read) in [
            ("http://127.0.0.1:8080", Some("http://127.0.0.1:8080")),
            ("http://127.0.0.1:8080/", Some("http://127.0.0.1:8080")),
            ("http://127.0.0.1:8080/v1", Some("http://127.0.0.1:8080")),
            (" https://host/llm/v1/ ", Some("https://host/llm")),
            ("http://[::1]:8080/v1#top", Some("http://[::1]:8080")),
            ("http://v1", Some("http://v1")),
            ("https://v1/v1/", Some("https://v1")),
            ("127.0.0.1:8080", None),
            ("localhost:8080", None),
            ("ftp://host", None),
            ("unix:/socket", None),
            ("", None),
            ("http://user:secret@host", None),
            ("http://secret@host", None),
            ("https://host/v1?key=secret", None),
        ] {
            let found = text.parse::<Address>();
            assert_eq!(found.as_ref().ok().map(ToString::to_string).as_deref(), read, "{text}");
            assert!(!format!("{found:?}").contains("secret"), "{found:?}");
        }
        let address: Address = "http://host/v1".parse().unwrap();
        assert_eq!(address.api("/models"), "http://host/v1/models");
    }
}
