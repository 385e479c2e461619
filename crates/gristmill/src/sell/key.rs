//! The upstream's API key: from a file that only its owner may read, or from the environment. Never
//! from the command line, which others on the machine can see.

use crate::failure::Failure;
use anyhow::{Context as _, Result};
use gristmill_upstream::ApiKey;
use std::{
    ffi::OsString,
    fs::File,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// The variable that is looked at where none is named.
pub(super) const VARIABLE: &str = "GRISTMILL_UPSTREAM_KEY";
const MAX_FILE_BYTES: u64 = 64 << 10;

/// Reads the key, if there is one.
pub(super) fn read(
    file: Option<PathBuf>,
    variable: Option<&str>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<ApiKey>> {
    if let Some(file) = file {
        return Ok(Some(key(&from_file(&file)?, &format!("the file {}", file.display()))?));
    }
    let name = variable.unwrap_or(VARIABLE);
    match environment(name).map(OsString::into_string) {
        Some(Ok(text)) => Ok(Some(key(&Zeroizing::new(text), &format!("the variable {name}"))?)),
        Some(Err(_)) => Err(unusable(&format!("the variable {name}"), "it is not UTF-8")),
        None if variable.is_none() => Ok(None),
        None => Err(unusable(&format!("the variable {name}"), "it is not set")),
    }
}

fn key(text: &str, place: &str) -> Result<ApiKey> {
    ApiKey::new(text).map_err(|error| unusable(place, &error.to_string()))
}

fn unusable(place: &str, reason: &str) -> anyhow::Error {
    Failure::new(format!("{place} holds no usable API key: {reason}"))
        .next("put the key alone into a file, close it with chmod 600, and name it: --key-file FILE")
        .into()
}

fn from_file(path: &Path) -> Result<Zeroizing<String>> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Failure::new(format!("others may read the API key in {}", path.display()))
            .next(format!("close it: chmod 600 {}", path.display()))
            .into());
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_FILE_BYTES)
        .read_to_string(&mut text)
        .with_context(|| format!("reading {}", path.display()))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_files_and_variables() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "sk-secret\n").unwrap();
        let environment = |name: &str| {
            (name == "SET" || name == "BAD").then(|| if name == "BAD" { "a b" } else { "sk-secret" }.into())
        };
        let read = |file: Option<&Path>, variable| read(file.map(Path::to_owned), variable, environment);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read(Some(&file), None).unwrap_err().to_string().contains("others may read"));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(read(Some(&file), None).unwrap().is_some());
        assert!(read(None, Some("SET")).unwrap().is_some());
        assert!(read(None, None).unwrap().is_none());
        for (variable, about) in [("UNSET", "not set"), ("BAD", "printable")] {
            assert!(read(None, Some(variable)).unwrap_err().to_string().contains(about), "{variable}");
        }
        std::fs::write(&file, "sk secret").unwrap();
        let error = read(Some(&file), None).unwrap_err().to_string();
        assert!(error.contains("usable") && !error.contains("secret"), "{error}");
        assert!(read(Some(&folder.path().join("none")), None).is_err());
    }
}
