//! The home: the folder that holds all state of one exchange or one member.
//!
//! ```text
//! HOME/
//!   lock             held by the running `up`, whose process id is in it
//!   run.json         where the running `up` listens; gone when it stops
//!   ports.json       the ports of the last run
//!   genesis.json     the ledger's first state
//!   wallets/NAME.key secret keys, readable by the owner alone
//!   ledger/          blocks and state
//!   processor/       records of what was served and earned
//!   gateway/         records of what was bought and spent
//!   sellers/NAME/    records of what `sell` served and earned with that wallet; `run.json` while it runs
//! ```

use crate::failure::Failure;
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// A folder with everything that one `gristmill up` owns.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    root: PathBuf,
}

/// Where a running exchange listens, for the other commands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Running {
    /// The process.
    pub(crate) pid: u32,
    /// The OpenAI-compatible endpoint, with `/v1`.
    pub(crate) base_url: String,
    /// The key for it.
    pub(crate) api_key: String,
    /// The key that manages such keys, and reads what all of them bought.
    pub(crate) operator_key: String,
    /// The ledger's endpoint.
    pub(crate) ledger: String,
    /// The processor's endpoint.
    pub(crate) processor: String,
    /// The model that answers by default.
    pub(crate) model: String,
    /// Whether its gateway spends with a key that has a limit.
    #[serde(default)]
    pub(crate) limited: bool,
}

/// What runs on a home.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// Nothing.
    Stopped,
    /// An exchange that is not ready yet, or is stopping.
    Starting,
    /// An exchange.
    Running(Running),
}

/// Room on a home's disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Disk {
    pub(crate) free: u64,
    pub(crate) total: u64,
}

impl Disk {
    /// Less than this is a warning: 1 GiB.
    const LOW: u64 = 1 << 30;
    /// Less than this stops everything soon: 128 MiB.
    const FULL: u64 = 128 << 20;

    pub(crate) const fn is_low(&self) -> bool {
        self.free < Self::LOW
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.free < Self::FULL
    }
}

/// Whether a process that runs holds this lock.
pub(crate) fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| match file.try_lock_shared() {
        Ok(()) => {
            drop(file.unlock());
            false
        }
        Err(_) => true,
    })
}

/// Held while this process owns the home; released by the system when the process ends, however.
#[derive(Debug)]
pub(crate) struct HomeLock(#[allow(dead_code)] File);

impl Home {
    /// The home at the path, or the default one in the user's data folder.
    pub(crate) fn locate(path: Option<PathBuf>) -> Result<Self> {
        let root = match path {
            Some(path) => path,
            None => {
                use etcetera::BaseStrategy as _;
                etcetera::choose_base_strategy()
                    .map_err(|_| {
                        Failure::new("there is no home folder for this user to keep data in")
                            .next("name a folder: --home DIR")
                    })?
                    .data_dir()
                    .join("gristmill")
            }
        };
        let root = std::path::absolute(&root).with_context(|| format!("reading {}", root.display()))?;
        // A home that cannot be looked into would look like none.
        match std::fs::read_dir(&root) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                Err(Failure::new(format!("the home {} cannot be read: {error}", root.display()))
                    .next("run as the user that it belongs to, or name another: --home DIR")
                    .into())
            }
            _ => Ok(Self { root }),
        }
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path inside the home.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Room on its disk; where the home does not exist yet, on that of the folder that it would be made in.
    pub(crate) fn disk(&self) -> Option<Disk> {
        let folder = self.root.ancestors().find(|folder| folder.exists())?;
        let of = rustix::fs::statvfs(folder).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(of.f_frsize);
        Some(Disk { free: bytes(of.f_bavail), total: bytes(of.f_blocks) })
    }

    /// Refuses a folder of something else: an exchange would fill it with its own files.
    pub(crate) fn check_ours(&self) -> Result<()> {
        const OURS: [&str; 3] = ["genesis.json", "wallets", "lock"];
        let names = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        let names: Vec<String> = names.map(|of| of.file_name().to_string_lossy().into_owned()).collect();
        // A disk of its own begins with the one, and a file manager leaves the others.
        let foreign = names.iter().find(|name| *name != "lost+found" && !name.starts_with('.'));
        match foreign {
            Some(name) if !names.iter().any(|name| OURS.contains(&name.as_str())) => Err(Failure::new(
                format!("the folder {} holds other things (`{name}`), and no exchange", self.root.display()),
            )
            .next("give a new or an empty folder: --home DIR")
            .into()),
            _ => Ok(()),
        }
    }

    /// Creates the folder, for its owner alone, if it is missing.
    pub(crate) fn create(&self) -> Result<()> {
        self.folder("")?;
        Ok(())
    }

    /// Creates a folder inside the home, for its owner alone, if it is missing.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = if name.is_empty() { self.root.clone() } else { self.root.join(name) };
        let create = || -> std::io::Result<()> {
            let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
            // A folder is on disk when the one that it stands in is.
            missing.into_iter().filter_map(Path::parent).try_for_each(|parent| File::open(parent)?.sync_all())
        };
        create().map_err(|error| {
            Failure::new(format!("cannot create the folder {}: {error}", path.display()))
                .next("give a folder that you may write to: --home DIR")
        })?;
        Ok(path)
    }

    /// Takes the home for this process.
    pub(crate) fn lock(&self) -> Result<HomeLock> {
        let path = self.path("lock");
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(
                |error| {
                    Failure::new(format!("cannot write in the home {}: {error}", self.root.display()))
                        .next("give a folder that you may write to: --home DIR")
                },
            )?;
        match file.try_lock() {
            Ok(()) => {
                // For whoever comes second.
                let whose = std::process::id().to_string();
                drop(file.set_len(0).and_then(|()| (&file).write_all(whose.as_bytes())));
                Ok(HomeLock(file))
            }
            Err(TryLockError::WouldBlock) => {
                let process = std::fs::read_to_string(&path).unwrap_or_default();
                let whom = match (process.trim().parse::<u32>(), self.running_unlocked()) {
                    (Ok(pid), Some(running)) => {
                        format!("`gristmill up`, process {pid}, endpoint {}", running.base_url)
                    }
                    (Ok(pid), None) => {
                        format!("`gristmill up`, process {pid}, which is starting or stopping")
                    }
                    (Err(_), _) => "another gristmill process".to_owned(),
                };
                Err(Failure::new(format!("the home {} is in use by {whom}", self.root.display()))
                    .next(
                        "use the running one (gristmill status, gristmill ask \"…\"), stop it, or take another folder: \
                         --home DIR",
                    )
                    .into())
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("locking {}", path.display()))
            }
        }
    }

    /// What runs on this home.
    pub(crate) fn stage(&self) -> Stage {
        let started = is_locked(&self.path("lock"));
        match self.running_unlocked() {
            Some(running) if started => Stage::Running(running),
            _ if started => Stage::Starting,
            _ => Stage::Stopped,
        }
    }

    /// The running exchange of this home, or an error that says how to start one.
    pub(crate) fn running(&self) -> Result<Running> {
        match self.stage() {
            Stage::Running(running) => Ok(running),
            Stage::Starting => Err(Failure::new("the exchange of this home is still starting")
                .next("wait until `gristmill up` says that it is ready, then try again")
                .into()),
            Stage::Stopped => {
                Err(Failure::new(format!("no exchange is running on the home {}", self.root.display()))
                    .next("start one in another terminal: gristmill up")
                    .into())
            }
        }
    }

    fn running_unlocked(&self) -> Option<Running> {
        serde_json::from_slice(&std::fs::read(self.path("run.json")).ok()?).ok()
    }

    /// Says where this process listens.
    pub(crate) fn announce(&self, running: &Running) -> Result<()> {
        self.write_secret("run.json", &serde_json::to_vec_pretty(running)?)
    }

    /// Takes the announcement back.
    pub(crate) fn retract(&self) {
        drop(std::fs::remove_file(self.path("run.json")));
    }

    /// Writes a file that only its owner may read: whole or not at all, and on disk when it returns.
    pub(crate) fn write_secret(&self, name: &str, content: &[u8]) -> Result<()> {
        self.write(name, content, true).map(drop)
    }

    /// The same for a file that must not be there yet. False if it is: nothing was written then.
    pub(crate) fn write_new_secret(&self, name: &str, content: &[u8]) -> Result<bool> {
        self.write(name, content, false)
    }

    fn write(&self, name: &str, content: &[u8], replace: bool) -> Result<bool> {
        let path = self.path(name);
        let folder = path.parent().unwrap_or(&self.root);
        // A temporary file is created with mode 0600.
        let write = || -> std::io::Result<bool> {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(content)?;
            file.as_file().sync_all()?;
            let kept = if replace { file.persist(&path) } else { file.persist_noclobber(&path) };
            match kept.map_err(|error| error.error) {
                Err(error) if !replace && error.kind() == std::io::ErrorKind::AlreadyExists => {
                    return Ok(false);
                }
                kept => drop(kept?),
            }
            File::open(folder)?.sync_all()?;
            Ok(true)
        };
        write().map_err(|error| {
            Failure::new(format!("cannot write {}: {error}", path.display()))
                .next("check free space and permissions, or give another folder: --home DIR")
                .into()
        })
    }
}
