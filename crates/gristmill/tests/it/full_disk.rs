//! A disk that fills up under load: the exchange says so and stops, or refuses; nothing is delivered unpaid
//! and nothing is lost. With space again it goes on, and the books agree.
//!
//! Needs a disk of its own, thus root on Linux, or `sudo` that does not ask. Root never skips it; for others it
//! is skipped with a line that says so, unless GRISTMILL_E2E_REQUIRED is set, as continuous integration does.

use crate::{
    exchange::Exchange,
    storm::{books::Books, clients::Load},
};
use std::{
    fs::File,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// A small disk in memory, as long as this lives.
struct Disk {
    owner: u32,
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Disk {
    /// None where this user may not mount one.
    fn mount(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::create_dir(&path).unwrap();
        let owner = std::fs::metadata(&path).unwrap();
        let options = format!("size={megabytes}m,mode=700,uid={},gid={}", owner.uid(), owner.gid());
        let mut mount = as_root(owner.uid(), "mount");
        let output = mount.args(["-t", "tmpfs", "-o", &options, "gristmill-test"]).arg(&path).output();
        if output.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Self { owner: owner.uid(), _folder: folder, path });
        }
        let required = owner.uid() == 0 || std::env::var_os("GRISTMILL_E2E_REQUIRED").is_some();
        assert!(!required, "a small disk cannot be mounted here: {output:?}");
        eprintln!("skipped: mounting a small disk needs root, or sudo that does not ask");
        None
    }

    /// Fills it but for so many bytes.
    fn fill(&self, left: u64) -> PathBuf {
        let path = self.path.join("filler");
        let mut file = File::create(&path).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(left)).unwrap();
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(as_root(self.owner, "umount").arg("-l").arg(&self.path).status());
    }
}

/// A program run as root by this user.
fn as_root(user: u32, program: &str) -> Command {
    if user == 0 {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

/// Waits until it ends by itself: with an error that says what is wrong and what to do.
fn ended_full(mut exchange: Exchange) {
    let status = exchange.ended(Duration::from_secs(90));
    let stderr = exchange.stderr();
    assert!(!status.success(), "{stderr}");
    assert!(stderr.contains("full") && stderr.contains("free some space"), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

async fn filled_up(left: u64) {
    let Some(disk) = Disk::mount(32) else { return };
    let home = disk.path.join("home");
    let exchange = Exchange::start(&home);
    let keys = vec![exchange.api_key().to_owned()];
    let mut books = Books::new(&exchange, keys.clone());
    let mut load = Load::new(7, keys);
    let running = load.start(exchange.base_url(), 4);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let filler = disk.fill(left);
    let ended = tokio::task::spawn_blocking(move || ended_full(exchange));
    ended.await.unwrap();
    books.requested(running.end().await);
    // While it is full: refused cleanly, or it has just enough to run.
    let mut full = Exchange::spawn(&home, &[]);
    if let Some(status) = full.outcome() {
        let stderr = full.stderr();
        assert!(!status.success() && stderr.contains("space"), "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    } else {
        full.kill();
    }
    remove(&filler);
    let exchange = Exchange::start(&home);
    let found = books.reconcile(&exchange).await;
    assert!(found.requests > 0 && found.paid > 0, "{found:?}");
    let running = load.start(exchange.base_url(), 4);
    tokio::time::sleep(Duration::from_secs(1)).await;
    books.requested(running.end().await);
    let found = books.reconcile(&exchange).await;
    assert!(found.receipts > 0, "business goes on: {found:?}");
    exchange.stop();
}

fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_a_free_byte() {
    filled_up(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_with_little_left() {
    filled_up(300_000).await;
}
