//! The starter model: shipped inside the binary, so that the first prompt needs no download.

use crate::{home::Home, models};
use anyhow::{Context as _, Result};
use gristmill_types::Manifest;

/// Its name on the ledger.
pub(crate) const NAME: &str = "gristmill/numbers";
/// Its royalty in hundredths of a percent: 10 %.
pub(crate) const ROYALTY_BPS: u16 = 1_000;
/// Its licence, as an SPDX expression.
pub(crate) const LICENCE: &str = "MIT OR Apache-2.0";

const FILES: [(&str, &[u8]); 4] = [
    ("config.json", include_bytes!("../../../models/numbers/config.json")),
    ("model.safetensors", include_bytes!("../../../models/numbers/model.safetensors")),
    ("tokenizer.json", include_bytes!("../../../models/numbers/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../../../models/numbers/tokenizer_config.json")),
];

/// Puts the starter model into the home.
pub(crate) fn install(home: &Home) -> Result<Manifest> {
    let folder = tempfile::tempdir().context("making a temporary folder")?;
    for (name, content) in FILES {
        std::fs::write(folder.path().join(name), content).with_context(|| format!("writing {name}"))?;
    }
    models::install(home, folder.path())
}
