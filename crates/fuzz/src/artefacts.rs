//! Signed artefacts and what else travels in canonical bytes: one encoding each, in base64url one text
//! each, and JSON that gives the same value.

use crate::{canonical, through_json};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_net::{Base64, MAX_ARTEFACT_BYTES};
use gristmill_types::{
    Approval, ChannelTerms, Manifest, Order, ProcessorNonce, Quote, Receipt, SecretKey, Signable, Signed,
    Voucher,
};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

/// The first byte says which kind, its highest bit whether base64url follows or bytes.
pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let text = kind & 0x80 != 0;
    match kind & 0x7f {
        0 => signed::<Quote>(text, rest),
        1 => signed::<Voucher>(text, rest),
        2 => signed::<Approval>(text, rest),
        3 => signed::<Order>(text, rest),
        4 => signed::<Receipt>(text, rest),
        5 => {
            let Some(manifest) = either::<Manifest>(text, rest) else { return };
            let again = Manifest::new(manifest.files().to_vec(), manifest.tokenizer());
            assert_eq!(again.id(), manifest.id(), "the same files have two ids");
            let _ = manifest.bytes();
        }
        6 => {
            either::<ChannelTerms>(text, rest).map(|terms| terms.id());
        }
        7 => {
            either::<ProcessorNonce>(text, rest);
        }
        _ => {}
    }
}

fn signed<T>(text: bool, rest: &[u8])
where
    T: Signable + Serialize + DeserializeOwned + PartialEq + Debug + Clone,
{
    let Some(value) = either::<Signed<T>>(text, rest) else { return };
    // Nobody has this key's signature but who signed with it.
    let key = SecretKey::from_seed(&[0x5e; 32]);
    assert!(value.verify_strict(&key.public()).is_err(), "a forged signature");
    assert_eq!(Signed::sign(value.body, &key).verify_strict(&key.public()), Ok(()));
}

fn either<T>(text: bool, rest: &[u8]) -> Option<T>
where
    T: BorshSerialize + BorshDeserialize + Serialize + DeserializeOwned + PartialEq + Debug,
{
    let value = if text {
        let text = std::str::from_utf8(rest).ok()?;
        let value = Base64::<T>::from_text(text).ok()?;
        assert_eq!(value.to_text(), text);
        value.0
    } else {
        canonical::<T>(rest)?
    };
    through_json(&value);
    let bytes = gristmill_types::encode(&value);
    if bytes.len() <= MAX_ARTEFACT_BYTES {
        let text = Base64(&value).to_text();
        assert_eq!(Base64::<T>::from_text(&text).unwrap().0, value);
    }
    Some(value)
}
