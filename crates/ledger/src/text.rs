//! Checks of bounded text.

use crate::{invalid::Malformed, params};

/// A model line's name: lower-case segments between slashes.
pub fn name(text: &str) -> Result<(), Malformed> {
    let segment = |part: &str| {
        part.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
    };
    let good = text.len() <= params::MAX_NAME_BYTES && text.split('/').all(segment);
    let rule = "1 to 64 of a-z 0-9 . _ - and /, each part between slashes starting with a letter or digit";
    good.then_some(()).ok_or(Malformed::Text { what: "the model line's name", rule })
}

/// A licence: an SPDX expression by its characters.
pub fn licence(text: &str) -> Result<(), Malformed> {
    let good = (1..=params::MAX_NAME_BYTES).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b" .+-()".contains(&b));
    let rule = "an SPDX expression of 1 to 64 characters, for example `MIT OR Apache-2.0`";
    good.then_some(()).ok_or(Malformed::Text { what: "the licence", rule })
}

/// An engine requirement.
pub(crate) fn engine(text: &str) -> Result<(), Malformed> {
    let good = (1..=params::MAX_NAME_BYTES).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
    let rule = "1 to 64 of a-z 0-9 . _ -, for example `llama-f32`";
    good.then_some(()).ok_or(Malformed::Text { what: "the engine requirement", rule })
}

/// Where a processor answers.
pub(crate) fn endpoint(text: &str) -> Result<(), Malformed> {
    let good =
        (1..=params::MAX_ENDPOINT_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    let rule = "1 to 128 printable ASCII characters without spaces, for example `https://host:8443`";
    good.then_some(()).ok_or(Malformed::Text { what: "an endpoint", rule })
}

/// A redemption's reference, which only its holder and its issuer understand.
pub(crate) fn reference(text: &str) -> Result<(), Malformed> {
    let good = (1..=params::MAX_REFERENCE_BYTES).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    let rule = "1 to 64 printable ASCII characters, for example the hash of a bank account";
    good.then_some(()).ok_or(Malformed::Text { what: "the reference", rule })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowed_and_refused() {
        let long = "a".repeat(64);
        let too_long = "a".repeat(65);
        for (text, names, licences, engines, endpoints) in [
            ("", false, false, false, false),
            ("a", true, true, true, true),
            ("acme/speller-1.2_b", true, false, false, true),
            ("llama-f32", true, true, true, true),
            ("MIT OR Apache-2.0", false, true, false, false),
            ("(MIT OR GPL-3.0+)", false, true, false, false),
            ("/a", false, false, false, true),
            ("a/", false, false, false, true),
            ("a//b", false, false, false, true),
            ("a/.b", false, false, false, true),
            ("Acme", false, true, false, true),
            ("https://host:8443/v1?x=%20", false, false, false, true),
            ("a b", false, true, false, false),
            ("a\n", false, false, false, false),
            ("ä", false, false, false, false),
            (&long, true, true, true, true),
            (&too_long, false, false, false, true),
        ] {
            assert_eq!(name(text).is_ok(), names, "name {text:?}");
            assert_eq!(licence(text).is_ok(), licences, "licence {text:?}");
            assert_eq!(engine(text).is_ok(), engines, "engine {text:?}");
            assert_eq!(endpoint(text).is_ok(), endpoints, "endpoint {text:?}");
        }
        assert!(endpoint(&"a".repeat(128)).is_ok() && endpoint(&"a".repeat(129)).is_err());
    }
}
