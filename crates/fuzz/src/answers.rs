//! Answers of other servers: of a processor to a gateway, of a gateway to its command.

use crate::through_json;
use gristmill_net::{
    openai::{Answer, ApiError, Chunk, EmbeddingList, Encoding, ModelList, Usage, read_vectors, vector_line},
    pay::Problem,
    peer::{ChannelState, MAX_LANES, MAX_QUOTES, Quotes},
    trace::{Served, Trace},
};
use gristmill_types::Unit;
use http::StatusCode;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

const MAX_TEXT: usize = 2_000;

/// The first byte says which kind.
pub fn run(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    match kind {
        0 => json::<Answer>(body),
        1 => json::<Chunk>(body),
        2 => json::<ModelList>(body),
        3 => {
            let error = ApiError::from_answer(StatusCode::BAD_GATEWAY, body);
            assert!(error.message.chars().count() <= MAX_TEXT);
            let again = ApiError::from_answer(StatusCode::BAD_GATEWAY, error.body().as_bytes());
            assert_eq!(again, error);
        }
        4 => {
            let Ok(quotes) = Quotes::parse(body) else { return };
            assert!(quotes.quotes.len() <= MAX_QUOTES);
            through_json(&quotes);
        }
        5 => {
            let Ok(state) = ChannelState::parse(body) else { return };
            assert!(state.lanes.len() <= MAX_LANES && state.lanes.is_sorted_by(|a, b| a.lane < b.lane));
            through_json(&state);
        }
        6 => {
            let problem = Problem::read(StatusCode::PAYMENT_REQUIRED, body);
            assert!(problem.detail.chars().count() <= MAX_TEXT && problem.code.chars().count() <= MAX_TEXT);
        }
        7 => json::<EmbeddingList>(body),
        8 => json::<Trace>(body),
        9 => json::<Served>(body),
        10 => vectors(body),
        _ => {}
    }
}

/// The text of an answer that is vectors: one text for the same vectors.
fn vectors(body: &[u8]) {
    let Ok(text) = std::str::from_utf8(body) else { return };
    let Ok(vectors) = read_vectors(text) else { return };
    assert_eq!(vectors.iter().map(|vector| vector_line(vector)).collect::<String>(), text);
    for encoding in [Encoding::Float, Encoding::Base64] {
        let usage = Usage::new(1, 0, Unit::Token, None);
        let list = EmbeddingList::new(text, encoding, "m".to_owned(), usage).unwrap();
        assert_eq!(list.data.len(), vectors.len());
        through_json(&list);
    }
}

fn json<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(body) else { return };
    // A cost is a number, exact up to four million credits; after one reading it stays what it is.
    if !String::from_utf8_lossy(body).contains("cost") {
        through_json(&value);
    }
}
