//! Answers of a node of the ledger to its client. What needs no trust is proven, see the target `proof`;
//! here, that whatever reads is written so that it reads the same.

use gristmill_client::schema::{
    AccountInfo, BlockEvents, BlockInfo, ChannelInfo, Claims, ErrorBody, GenesisAnswer, Holders, Models,
    Offers, Processors, StateAnswer, Status, SupplyAnswer, TransactionStatus,
};
use serde::{Serialize, de::DeserializeOwned};

/// The first byte says which answer.
pub fn run(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    match kind {
        0 => same::<TransactionStatus>(body),
        1 => same::<BlockInfo>(body),
        2 => same::<StateAnswer>(body),
        3 => same::<AccountInfo>(body),
        4 => same::<ChannelInfo>(body),
        5 => same::<Claims>(body),
        6 => same::<Holders>(body),
        7 => same::<Models>(body),
        8 => same::<Offers>(body),
        9 => same::<Processors>(body),
        10 => same::<SupplyAnswer>(body),
        11 => same::<BlockEvents>(body),
        12 => same::<Status>(body),
        13 => same::<GenesisAnswer>(body),
        14 => same::<ErrorBody>(body),
        _ => {}
    }
}

fn same<T: Serialize + DeserializeOwned>(body: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(body) else { return };
    let json = serde_json::to_string(&value).expect("an answer is written as JSON");
    let again: T = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
    assert_eq!(serde_json::to_string(&again).unwrap(), json);
}
