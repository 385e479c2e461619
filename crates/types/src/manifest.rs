//! Manifests: what a model version consists of, by content.

use crate::{Digest, ModelId, Signable};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize};

/// One file of a model version.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct ManifestFile {
    /// Path relative to the model's folder, with `/` between its parts.
    pub path: String,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 of the content.
    pub sha256: Digest,
}

/// The files that make a model version, sorted by path. Its digest is the version's [`ModelId`]:
/// whoever holds the files can check that they are what the ledger names.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Manifest {
    #[borsh(deserialize_with = "sorted_bytes")]
    #[serde(deserialize_with = "sorted_json")]
    files: Vec<ManifestFile>,
    /// Digest of the text bundle: tokenizer, chat template and special tokens.
    tokenizer: Digest,
}

impl Manifest {
    /// A manifest of these files, in any order.
    pub fn new(mut files: Vec<ManifestFile>, tokenizer: Digest) -> Self {
        files.sort();
        Self { files, tokenizer }
    }

    /// The files, sorted by path.
    pub fn files(&self) -> &[ManifestFile] {
        &self.files
    }

    /// Digest of the text bundle.
    pub const fn tokenizer(&self) -> Digest {
        self.tokenizer
    }

    /// Length of all files in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum: u64, file| sum.saturating_add(file.bytes))
    }

    /// The version's id.
    pub fn id(&self) -> ModelId {
        self.digest().into()
    }
}

const UNSORTED: &str = "the files of a manifest are sorted by path";

/// Files in another order would make another id of the same version.
fn sorted_bytes<R: borsh::io::Read>(reader: &mut R) -> borsh::io::Result<Vec<ManifestFile>> {
    let files = Vec::<ManifestFile>::deserialize_reader(reader)?;
    let unsorted = || borsh::io::Error::new(borsh::io::ErrorKind::InvalidData, UNSORTED);
    files.is_sorted().then_some(files).ok_or_else(unsorted)
}

fn sorted_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ManifestFile>, D::Error> {
    let files = <Vec<ManifestFile> as Deserialize>::deserialize(deserializer)?;
    files.is_sorted().then_some(files).ok_or_else(|| serde::de::Error::custom(UNSORTED))
}

impl Signable for Manifest {
    const DOMAIN: &'static str = "gristmill/manifest/v1";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, encode, sha256};

    #[test]
    fn the_id_depends_on_content_and_not_on_order() {
        let file = |path: &str, content: &[u8]| ManifestFile {
            path: path.into(),
            bytes: content.len() as u64,
            sha256: sha256(&[content]),
        };
        let tokenizer = sha256(&[b"t"]);
        let one = Manifest::new(vec![file("a", b"1"), file("b", b"2")], tokenizer);
        let two = Manifest::new(vec![file("b", b"2"), file("a", b"1")], tokenizer);
        let other = Manifest::new(vec![file("a", b"1"), file("b", b"3")], tokenizer);
        assert_eq!(one.id(), two.id());
        assert_ne!(one.id(), other.id());
        assert_ne!(one.id(), Manifest::new(one.files.clone(), sha256(&[b"u"])).id());
        assert_eq!(one.bytes(), 2);
    }

    #[test]
    fn files_in_another_order_are_refused() {
        let file = |path: &str| ManifestFile { path: path.into(), bytes: 1, sha256: sha256(&[b"1"]) };
        let good = Manifest::new(vec![file("a"), file("b")], sha256(&[b"t"]));
        let mut bad = good.clone();
        bad.files.swap(0, 1);
        for (manifest, fits) in [(&good, true), (&bad, false)] {
            assert_eq!(decode::<Manifest>(&encode(manifest)).is_ok(), fits);
            let json = serde_json::to_string(manifest).unwrap();
            assert_eq!(serde_json::from_str::<Manifest>(&json).is_ok(), fits);
        }
    }
}
