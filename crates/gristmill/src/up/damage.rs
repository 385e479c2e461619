//! Files that are not as they were left, and disks that are full: refused before anything is changed, with
//! the file or folder and what to do.

use super::exchange::{API_KEY, GENESIS, PORTS, port_in_use};
use crate::{failure::Failure, home::Home};
use anyhow::{Context as _, Result};
use gristmill_chain::NodeError;
use gristmill_gateway::StartError as GatewayError;
use gristmill_processor::StartError as ProcessorError;
use gristmill_types::SecretKey;
use std::path::Path;

/// Why the ledger does not start, or stopped.
pub(super) fn ledger_failure(home: &Home, error: &NodeError) -> anyhow::Error {
    let folder = home.path("ledger");
    let reason = match error {
        NodeError::Listen { address, error } => {
            return port_in_use("ledger", "--ledger-port", *address, error);
        }
        NodeError::OtherLedger { .. } => {
            let genesis = home.path(GENESIS);
            return Failure::new(format!(
                "{} is not the genesis of the ledger beside it: {error}",
                genesis.display()
            ))
            .next(restore(&genesis))
            .into();
        }
        NodeError::Stopped(reason) => crate::LEDGER_PANIC.get().unwrap_or(reason).clone(),
        error => error.to_string(),
    };
    let failure = Failure::new(format!("the ledger in {} cannot go on: {reason}", folder.display()));
    let failure = if is_full(&folder) { failure.next(FREE_SPACE) } else { failure.next(restore(&folder)) };
    failure.into()
}

/// Why the ledger stopped, if it did: whoever speaks with it may notice before its own end is told.
pub(super) fn ledger_failed_first(home: &Home) -> Option<anyhow::Error> {
    let reason = crate::LEDGER_PANIC.get()?;
    Some(ledger_failure(home, &NodeError::Stopped(reason.clone())))
}

/// Why the processor does not start, or stopped.
pub(super) fn processor_failure(home: &Home, error: &ProcessorError) -> anyhow::Error {
    match error {
        ProcessorError::Listen { address, source } => {
            port_in_use("processor", "--processor-port", *address, source)
        }
        error => records_failure(&home.path("processor"), error, error.is_damage(), error.is_full()),
    }
}

/// Why the gateway does not start, or stopped.
pub(super) fn gateway_failure(home: &Home, error: &GatewayError) -> anyhow::Error {
    match error {
        GatewayError::Listen { address, source } => port_in_use("gateway", "--port", *address, source),
        error => records_failure(&home.path("gateway"), error, error.is_damage(), error.is_full()),
    }
}

/// What to do where a disk is full.
const FREE_SPACE: &str = "the disk is full: free some space, then the same command goes on; what was reported as final \
                          or paid is on the disk";

/// What to do where files are not as they were left.
fn restore(folder: &Path) -> String {
    format!(
        "check the disk and its free space. If files are damaged, restore {} from a backup; without one, what is \
         still there can be read, and a new exchange starts in another folder: --home DIR. --log debug tells more",
        folder.display()
    )
}

/// Whether the disk takes nothing more.
fn is_full(folder: &Path) -> bool {
    use std::io::{ErrorKind, Write as _};
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&[0x5a; 256 << 10])?;
        file.as_file().sync_all()
    };
    write().is_err_and(|error| matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
}

/// Why a role cannot use what it wrote down in its folder.
pub(crate) fn records_failure(
    folder: &Path,
    error: &impl std::error::Error,
    damaged: bool,
    full: bool,
) -> anyhow::Error {
    let failure = Failure::new(error.to_string());
    let failure = match damaged {
        true => failure.next(restore(folder)),
        false if full || is_full(folder) => failure.next(FREE_SPACE),
        false => failure.next("see what else uses the folder, and `gristmill help up`"),
    };
    failure.into()
}

/// Refuses records that are damaged, before anything that could change them is started.
pub(super) fn check_records(home: &Home, vouchers: &SecretKey) -> Result<()> {
    if ![PORTS, API_KEY].iter().any(|file| home.path(file).exists()) {
        return Ok(());
    }
    let key = stored_key(home, API_KEY)?;
    let known = gristmill_gateway::check(&home.path("gateway"), vouchers, key.as_deref())
        .map_err(|error| gateway_failure(home, &error))?;
    if !known {
        return Err(unknown_api_key(home));
    }
    gristmill_processor::check(&home.path("processor")).map_err(|error| processor_failure(home, &error))
}

/// Refuses a home that ran before and has lost a part since: to make that anew would lose money without a
/// word.
pub(super) fn check_whole(home: &Home) -> Result<()> {
    // The gateway's records are the last part that a first start makes, the ports are written at the end of
    // every start: any of them shows that all parts were there.
    if ![PORTS, API_KEY, "gateway/gateway.db"].iter().any(|file| home.path(file).exists()) {
        return Ok(());
    }
    for (part, file, loss) in [
        ("ledger", "ledger/ledger", "all accounts and balances"),
        ("ledger", "ledger/chain", "all accounts and balances"),
        ("processor", "processor/processor.db", "what it is owed"),
        ("gateway", "gateway/gateway.db", "what is in its channels"),
    ] {
        if !home.path(file).exists() {
            return Err(Failure::new(format!(
                "{} is missing; a new {part} would not know {loss}",
                home.path(file).display()
            ))
            .next("restore it from a backup, or start a new exchange in another folder: --home DIR")
            .into());
        }
    }
    Ok(())
}

/// A key of the gateway as the home keeps it.
pub(super) fn stored_key(home: &Home, file: &str) -> Result<Option<String>> {
    let path = home.path(file);
    match std::fs::read(&path) {
        Ok(text) => Ok(Some(String::from_utf8_lossy(&text).trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// One that is not right any more is not replaced by itself: a new key has a budget of its own.
pub(super) fn unknown_api_key(home: &Home) -> anyhow::Error {
    let path = home.path(API_KEY);
    Failure::new(format!("{} holds no API key of this gateway: the file was changed", path.display()))
        .next("restore the file from a backup, or remove it: the next start makes a new key, and the one before it ends")
        .into()
}
