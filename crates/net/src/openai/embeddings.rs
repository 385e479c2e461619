//! Vectors of texts: their one text form, and the answer that carries them.
//!
//! Between processor and gateway, and under a receipt's digest, the answer to an embeddings request is
//! a text: a line for each input, with its vector's numbers (f32, little endian) in base64, the form in
//! which OpenAI's clients ask for them. A vector thus has one text, and the text one digest.

use super::{Extension, Usage};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How numbers are sent to a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// As numbers.
    #[default]
    Float,
    /// As base64 of their bytes: shorter, and exact.
    Base64,
}

/// A vector in the form asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Vector {
    /// Its numbers.
    Float(Vec<f32>),
    /// Base64 of their bytes.
    Base64(String),
}

/// One vector of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EmbeddingItem {
    /// Always `embedding`.
    pub object: String,
    /// Which input.
    pub index: u32,
    /// Its vector.
    pub embedding: Vector,
}

/// An answer to an embeddings request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EmbeddingList {
    /// Always `list`.
    pub object: String,
    /// A vector for each input, in their order.
    pub data: Vec<EmbeddingItem>,
    /// The model as it was asked for.
    pub model: String,
    /// What was used.
    pub usage: Usage,
    /// What we add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gristmill: Option<Extension>,
}

impl EmbeddingList {
    /// The vectors of an answer's text; an error where it is no such text.
    pub fn new(text: &str, encoding: Encoding, model: String, usage: Usage) -> Result<Self, BadVectors> {
        let vectors = read_vectors(text)?;
        let data = (0_u32..).zip(text.lines().zip(vectors)).map(|(index, (line, vector))| EmbeddingItem {
            object: "embedding".to_owned(),
            index,
            embedding: match encoding {
                Encoding::Float => Vector::Float(vector),
                Encoding::Base64 => Vector::Base64(line.to_owned()),
            },
        });
        Ok(Self { object: "list".to_owned(), data: data.collect(), model, usage, gristmill: None })
    }
}

impl axum::response::IntoResponse for EmbeddingList {
    fn into_response(self) -> axum::response::Response {
        super::error::json(&self)
    }
}

/// A text that is no list of vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadVectors(&'static str);

/// The line of a vector.
pub fn vector_line(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    STANDARD.encode(bytes) + "\n"
}

/// Reads lines of vectors: as long as each other, and of finite numbers.
pub fn read_vectors(text: &str) -> Result<Vec<Vec<f32>>, BadVectors> {
    let mut vectors: Vec<Vec<f32>> = Vec::new();
    for line in text.split_inclusive('\n') {
        let line = line.strip_suffix('\n').ok_or(BadVectors("the last vector was cut off"))?;
        let bytes = STANDARD.decode(line).map_err(|_| BadVectors("a vector is no base64"))?;
        let (numbers, rest) = bytes.as_chunks::<4>();
        let vector: Vec<f32> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        if vector.is_empty() || !rest.is_empty() {
            return Err(BadVectors("a vector is empty, or ends within a number"));
        }
        if !vector.iter().all(|number| number.is_finite()) {
            return Err(BadVectors("a vector holds what is no number"));
        }
        if vectors.first().is_some_and(|first| first.len() != vector.len()) {
            return Err(BadVectors("the vectors have different lengths"));
        }
        vectors.push(vector);
    }
    Ok(vectors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_types::Unit;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn both_forms() {
        let text = [vector_line(&[1.0, -0.5]), vector_line(&[0.0, f32::MIN_POSITIVE])].concat();
        assert_eq!(text.lines().next(), Some("AACAPwAAAL8="));
        let usage = Usage::new(3, 0, Unit::Token, None);
        let list = |encoding| EmbeddingList::new(&text, encoding, "m".into(), usage).unwrap();
        let json = serde_json::to_value(list(Encoding::Float)).unwrap();
        assert_eq!(json["data"][0], json!({"object": "embedding", "index": 0, "embedding": [1.0, -0.5]}));
        assert_eq!((&json["object"], &json["usage"]["prompt_tokens"]), (&json!("list"), &json!(3)));
        let json = serde_json::to_value(list(Encoding::Base64)).unwrap();
        assert_eq!(
            (&json["data"][0]["embedding"], &json["data"][1]["index"]),
            (&json!("AACAPwAAAL8="), &json!(1))
        );
    }

    #[test]
    fn what_is_no_vector() {
        let good = vector_line(&[1.0]);
        for (text, about) in [
            ("AACAPw==".to_owned(), "cut off"),
            ("AACAPw\n".to_owned(), "base64"),
            ("\n".to_owned(), "empty"),
            ("AACA\n".to_owned(), "within"),
            (vector_line(&[f32::NAN]), "no number"),
            (vector_line(&[f32::INFINITY]), "no number"),
            (good.clone() + &vector_line(&[1.0, 2.0]), "different"),
        ] {
            assert!(read_vectors(&text).unwrap_err().to_string().contains(about), "{text}");
        }
        assert_eq!(read_vectors(""), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn numbers_come_back_to_the_bit(vector in prop::collection::vec(-1e30f32..1e30, 1..50), count in 1usize..4) {
            let text = vector_line(&vector).repeat(count);
            prop_assert_eq!(read_vectors(&text), Ok(vec![vector; count]));
        }
    }
}
