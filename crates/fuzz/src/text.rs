//! Amounts, ids and accounts as people and JSON write them: one value for a text, and where the text is
//! meant to be the only one, one text for a value.

use gristmill_types::{AccountId, Amount, ChannelId, Digest, Signature, StateKey};
use std::{fmt::Display, str::FromStr};

/// Reads the bytes as each kind of text.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    amount(text);
    one_spelling::<AccountId>(text);
    one_spelling::<ChannelId>(text);
    one_spelling::<StateKey>(text);
    one_spelling::<Digest>(text);
    let json = serde_json::Value::from(text).to_string();
    one_json_spelling::<Amount>(&json);
    one_json_spelling::<AccountId>(&json);
    one_json_spelling::<Digest>(&json);
    if let Ok(signature) = serde_json::from_str::<Signature>(&json) {
        assert!(serde_json::to_string(&signature).unwrap().eq_ignore_ascii_case(&json), "{json}");
    }
}

fn amount(text: &str) {
    let by_hand = by_hand(text);
    match text.parse::<Amount>() {
        Ok(amount) => {
            assert_eq!(Some(amount.grains()), by_hand, "{text}");
            assert_eq!(amount.to_string().parse(), Ok(amount), "{text}");
        }
        Err(_) => assert_eq!(by_hand, None, "{text} is refused"),
    }
}

/// Grains by moving the point nine places, digit by digit.
fn by_hand(text: &str) -> Option<u128> {
    let (mut grains, mut places, mut digits) = (0_u128, None, 0);
    for character in text.chars() {
        match (character, places) {
            ('.', None) if digits > 0 => (places, digits) = (Some(0), 0),
            ('0'..='9', _) => {
                digits += 1;
                places = places.map(|places| places + 1);
                grains = grains.checked_mul(10)?.checked_add(u128::from(character.to_digit(10)?))?;
            }
            _ => return None,
        }
    }
    let missing = 9_u32.checked_sub(places.unwrap_or(0))?;
    (digits > 0).then_some(())?;
    grains.checked_mul(10_u128.pow(missing))
}

fn one_spelling<T: FromStr + Display>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string(), text);
    }
}

fn one_json_spelling<T: serde::Serialize + serde::de::DeserializeOwned>(json: &str) {
    if let Ok(value) = serde_json::from_str::<T>(json) {
        assert_eq!(serde_json::to_string(&value).unwrap(), json);
    }
}
