//! Pinned wire forms: one file per form under `golden/`. A change of any byte is a change of the wire.

use std::{fs, path::PathBuf};

/// Compares with the pinned form. `GRISTMILL_BLESS=1` writes it anew, after the change of the wire has
/// been decided and recorded.
pub(crate) fn pinned(name: &str, text: &str) {
    let path: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "src/pay/golden", &format!("{name}.txt")].iter().collect();
    if std::env::var_os("GRISTMILL_BLESS").is_some() {
        fs::write(&path, format!("{text}\n")).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(format!("{text}\n"), expected, "the wire form '{name}' is not the pinned one");
}
