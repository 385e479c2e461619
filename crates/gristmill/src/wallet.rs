//! Wallets: secret keys in files that only their owner may read.

use crate::{failure::Failure, home::Home};
use anyhow::{Context as _, Result};
use gristmill_types::{AccountId, SecretKey};
use serde::{Deserialize, Serialize};
use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::PathBuf,
};
use zeroize::{Zeroize as _, Zeroizing};

/// The wallet that pays for this member's own requests.
pub(crate) const CONSUMER: &str = "consumer";
/// The key that signs the running exchange's vouchers; its spending key, where it was given a limit.
pub(crate) const VOUCHERS: &str = "gateway-vouchers";

#[derive(Serialize, Deserialize)]
struct KeyFile {
    account: AccountId,
    secret: String,
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// The name of a wallet is a file name: letters, digits, `-` and `_`.
pub(crate) fn file(home: &Home, name: &str) -> Result<PathBuf> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        return Err(Failure::new(format!("`{name}` cannot name a wallet"))
            .next("use up to 64 letters, digits, - and _, for example: gristmill wallet create alice")
            .into());
    }
    Ok(home.path("wallets").join(format!("{name}.key")))
}

/// Names of the wallets in the home, sorted.
pub(crate) fn names(home: &Home) -> Result<Vec<String>> {
    let folder = home.path("wallets");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", folder.display())),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".key")) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Reads a wallet.
pub(crate) fn load(home: &Home, name: &str) -> Result<SecretKey> {
    let path = file(home, name)?;
    let text = match std::fs::read(&path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::new(format!("there is no wallet `{name}` in {}", home.root().display()))
                .next(format!(
                    "see which there are: gristmill wallet show, or make it: gristmill wallet create {name}"
                ))
                .into());
        }
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let mode = std::fs::metadata(&path)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Failure::new(format!("others may read the secret key in {}", path.display()))
            .next(format!("close it: chmod 600 {}", path.display()))
            .into());
    }
    parse(&text).ok_or_else(|| {
        Failure::new(format!("{} is not a wallet, or it was damaged", path.display()))
            .next("restore the file from a backup; a wallet whose recovery phrase you have: gristmill wallet create NAME --restore")
            .into()
    })
}

fn parse(text: &[u8]) -> Option<SecretKey> {
    let file: KeyFile = serde_json::from_slice(text).ok()?;
    let mut seed = Zeroizing::new([0; 32]);
    hex::decode_to_slice(&file.secret, seed.as_mut()).ok()?;
    let key = SecretKey::from_seed(&seed);
    (key.account() == file.account).then_some(key)
}

/// The turn to send. Two commands that count at the same moment would sign the same nonce: the same payment
/// twice would be one, and of two others one would fail.
pub(crate) fn turn(home: &Home) -> Result<Option<File>> {
    let path = home.path("wallets").join("turn");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    match file.and_then(|file| file.lock().map(|()| file)) {
        Ok(file) => Ok(Some(file)),
        // No wallet is here, so nothing can be sent: whoever reads it says so.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}

/// The account that an address or the name of a wallet in the home stands for.
pub(crate) fn account(home: &Home, text: &str) -> Result<AccountId> {
    let error = match text.parse::<AccountId>() {
        Ok(account) => return Ok(account),
        Err(error) => error,
    };
    if names(home)?.iter().any(|name| name == text) {
        return Ok(load(home, text)?.account());
    }
    Err(Failure::new(format!("`{text}` is no wallet of this home, and no address: {error}"))
        .next("give an address (gm1…), or a wallet's name: gristmill wallet show")
        .into())
}

/// Writes a new wallet; an existing one is never overwritten.
pub(crate) fn store(home: &Home, name: &str, key: &SecretKey) -> Result<PathBuf> {
    let path = file(home, name)?;
    if !store_new(home, name, key)? {
        return Err(Failure::new(format!("there is a wallet `{name}` already: {}", path.display()))
            .next("choose another name; a wallet is never overwritten")
            .into());
    }
    Ok(path)
}

/// False if there is one already.
fn store_new(home: &Home, name: &str, key: &SecretKey) -> Result<bool> {
    file(home, name)?;
    home.create()?;
    home.folder("wallets")?;
    let content = KeyFile { account: key.account(), secret: hex::encode(key.to_seed().as_ref()) };
    let text = Zeroizing::new(serde_json::to_vec_pretty(&content)?);
    home.write_new_secret(&format!("wallets/{name}.key"), &text)
}

/// A new key from the system's randomness.
pub(crate) fn generate() -> Result<SecretKey> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut())
        .map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
    Ok(SecretKey::from_seed(&seed))
}

/// The wallet of that name, made first if it is missing.
pub(crate) fn load_or_create(home: &Home, name: &str) -> Result<SecretKey> {
    if file(home, name)?.exists() {
        return load(home, name);
    }
    let key = generate()?;
    // Another process may have made it in this moment.
    if store_new(home, name, &key)? { Ok(key) } else { load(home, name) }
}

/// A wallet that an exchange on this home was founded with.
pub(crate) fn load_of_exchange(home: &Home, name: &str) -> Result<SecretKey> {
    let path = file(home, name)?;
    if path.exists() {
        return load(home, name);
    }
    Err(Failure::new(format!(
        "the exchange's wallet {} is missing, and with it what it owns",
        path.display()
    ))
    .next("restore the file from a backup, or start a new exchange in another folder: --home DIR")
    .into())
}

/// The key as 24 words (BIP 39, English): whoever has the words has the key.
pub(crate) fn phrase(key: &SecretKey) -> Result<Zeroizing<String>> {
    let mnemonic = bip39::Mnemonic::from_entropy(key.to_seed().as_ref())?;
    Ok(Zeroizing::new(mnemonic.to_string()))
}

/// The key of a recovery phrase.
pub(crate) fn from_phrase(words: &str) -> Result<SecretKey> {
    let wrong = || {
        Failure::new("these are not the 24 words of a recovery phrase")
            .next("check each word and their order; the last word holds a checksum")
    };
    let mnemonic =
        bip39::Mnemonic::parse_in_normalized(bip39::Language::English, words.trim()).map_err(|_| wrong())?;
    let seed: Zeroizing<[u8; 32]> = Zeroizing::new(mnemonic.to_entropy().try_into().map_err(|_| wrong())?);
    Ok(SecretKey::from_seed(&seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::locate(Some(dir.path().join("home"))).unwrap();
        (dir, home)
    }

    #[test]
    fn a_wallet_survives_and_is_never_overwritten() {
        let (_dir, home) = home();
        let key = generate().unwrap();
        let path = store(&home, "alice", &key).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load(&home, "alice").unwrap().account(), key.account());
        assert!(store(&home, "alice", &generate().unwrap()).is_err());
        assert_eq!(load(&home, "alice").unwrap().account(), key.account());
        assert_eq!(names(&home).unwrap(), ["alice"]);
    }

    #[test]
    fn of_many_that_make_a_wallet_at_once_all_have_the_same_key() {
        let (_dir, home) = home();
        let all = std::sync::Barrier::new(16);
        let accounts: Vec<_> = std::thread::scope(|scope| {
            let make = || {
                all.wait();
                load_or_create(&home, "alice").unwrap().account()
            };
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let kept = load(&home, "alice").unwrap().account();
        assert!(accounts.iter().all(|account| *account == kept), "{accounts:?}");
    }

    #[test]
    fn damaged_open_and_misnamed_wallets_are_refused() {
        let (_dir, home) = home();
        let path = store(&home, "alice", &generate().unwrap()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(load(&home, "alice").unwrap_err().to_string().contains("others may read"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen("\"secret\": \"", "\"secret\": \"0", 1)).unwrap();
        assert!(load(&home, "alice").unwrap_err().to_string().contains("not a wallet"));
        for name in ["", "../alice", "a/b", "a b", &"x".repeat(65)] {
            assert!(load(&home, name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_phrase_restores_the_key() {
        let key = generate().unwrap();
        let words = phrase(&key).unwrap();
        assert_eq!(words.split_whitespace().count(), 24);
        assert_eq!(from_phrase(&words).unwrap().account(), key.account());
        assert!(from_phrase("abandon abandon").is_err());
        let swapped: Vec<&str> = words.split_whitespace().rev().collect();
        assert!(from_phrase(&swapped.join(" ")).map_or(true, |k| k.account() != key.account()));
    }
}
