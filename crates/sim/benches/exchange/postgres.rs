//! The peer of the ledger: double entry in PostgreSQL, one transaction with an insert and two
//! updates, committed synchronously, on the disk of the bench's folder.

use anyhow::{Context as _, Result, bail, ensure};
use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
};

/// Who may run the server where the bench runs as root, which the server refuses.
const USER: &str = "postgres";
const ACCOUNTS: u32 = 10_000;
const SCHEMA: &str = "
    CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL);
    INSERT INTO accounts SELECT id, 1000000000 FROM generate_series(1, 10000) AS id;
    CREATE TABLE transfers (id bigserial PRIMARY KEY, debit int NOT NULL, credit int NOT NULL,
        amount bigint NOT NULL);
";
/// Accounts are locked in ascending order, so that no two transactions wait for each other.
const SCRIPT: &str = "\
\\set one random(1, 9999)
\\set two random(:one + 1, 10000)
BEGIN;
INSERT INTO transfers (debit, credit, amount) VALUES (:one, :two, 1);
UPDATE accounts SET balance = balance - 1 WHERE id = :one;
UPDATE accounts SET balance = balance + 1 WHERE id = :two;
COMMIT;
";

/// Transactions per second.
pub(crate) struct Peer {
    pub(crate) version: String,
    /// At one client.
    pub(crate) one: f64,
    /// At 32 clients.
    pub(crate) many: f64,
}

/// A running server; stopped when dropped.
struct Server {
    bin: PathBuf,
    folder: PathBuf,
    user: Option<(u32, u32)>,
}

pub(crate) fn measure(folder: &Path, seconds: usize) -> Result<Peer> {
    let bin = match binaries() {
        Some(bin) => bin,
        None => {
            install()?;
            binaries().context("the package was installed, but its programs are not where they should be")?
        }
    };
    let server = Server::start(bin, &folder.join("postgres"))?;
    server.tool("psql", &["-q", "-v", "ON_ERROR_STOP=1", "-c", SCHEMA, "postgres"])?;
    server.check()?;
    let version = server.tool("psql", &["-Atc", "SHOW server_version", "postgres"])?;
    let version = version.split(['.', ' ']).next().unwrap_or_default().trim().to_owned();
    let version = format!("PostgreSQL {version}");
    Ok(Peer { version, one: server.bench(1, seconds)?, many: server.bench(32, seconds)? })
}

/// The programs of the newest version.
fn binaries() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            let bin = entry.path().join("bin");
            ["initdb", "pg_ctl", "psql", "pgbench"]
                .iter()
                .all(|name| bin.join(name).exists())
                .then_some((number, bin))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, bin)| bin)
}

/// Installs the server where that is possible without asking anybody.
fn install() -> Result<()> {
    ensure!(is_root(), "no programs under /usr/lib/postgresql; install the package postgresql");
    ensure!(Path::new("/usr/bin/apt-get").exists(), "no programs under /usr/lib/postgresql, and no apt-get");
    let settings = Path::new("/etc/postgresql-common/createcluster.conf");
    if !settings.exists() {
        fs::create_dir_all("/etc/postgresql-common")?;
        fs::write(settings, "create_main_cluster = false\n")?;
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args([
            "-y",
            "-o",
            "Dpkg::Options::=--force-confold",
        ]);
        run(command.args(arguments))
    };
    apt(&["update"])?;
    apt(&["install", "--no-install-recommends", "postgresql"]).map(drop)
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|of| std::os::unix::fs::MetadataExt::uid(&of) == 0)
}

/// Runs a program to its end; gives what it said.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?} does not start"))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} ended with {}: {}", output.status, error.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Server {
    fn start(bin: PathBuf, folder: &Path) -> Result<Self> {
        fs::create_dir(folder)?;
        let user = if is_root() { Some(user()?) } else { None };
        if let Some((uid, gid)) = user {
            chown(folder, Some(uid), Some(gid))?;
            // The folder above is private to whoever runs the bench.
            for above in folder.ancestors().skip(1).take(1) {
                chown(above, None, Some(gid))?;
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o710);
                fs::set_permissions(above, mode)?;
            }
        }
        let server = Self { bin, folder: folder.to_owned(), user };
        let data = folder.join("data");
        run(server.command("initdb").args(["-A", "trust", "-U", USER, "-D"]).arg(&data))?;
        let options = format!("-c listen_addresses='' -c unix_socket_directories='{}'", folder.display());
        let log = folder.join("log");
        run(server
            .command("pg_ctl")
            .arg("-D")
            .arg(&data)
            .arg("-o")
            .arg(options)
            .arg("-l")
            .arg(log)
            .args(["-w", "start"]))?;
        Ok(server)
    }

    /// A program of the server, as the user who may run it.
    fn command(&self, name: &str) -> Command {
        let program = self.bin.join(name);
        let mut command = match self.user {
            None => Command::new(program),
            Some((uid, gid)) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).arg("--clear-groups");
                command.arg(program);
                command
            }
        };
        command.current_dir("/").stdin(std::process::Stdio::null());
        command
    }

    fn tool(&self, name: &str, arguments: &[&str]) -> Result<String> {
        run(self.command(name).arg("-h").arg(&self.folder).args(["-U", USER]).args(arguments))
    }

    /// That a commit is durable, as the ledger's is.
    fn check(&self) -> Result<()> {
        for setting in ["fsync", "synchronous_commit"] {
            let value = self.tool("psql", &["-Atc", &format!("SHOW {setting}"), "postgres"])?;
            ensure!(value.trim() == "on", "{setting} is {value}");
        }
        Ok(())
    }

    fn bench(&self, clients: usize, seconds: usize) -> Result<f64> {
        let script = self.folder.join("transfer.sql");
        fs::write(&script, SCRIPT)?;
        let (clients, seconds) = (clients.to_string(), seconds.to_string());
        let script = script.to_string_lossy();
        let threads = if clients == "1" { "1" } else { "2" };
        let said = self.tool(
            "pgbench",
            &[
                "-n", "-M", "prepared", "-c", &clients, "-j", threads, "-T", &seconds, "-f", &script,
                "postgres",
            ],
        )?;
        let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        let rate = rate.with_context(|| format!("pgbench named no rate: {said}"))?;
        let sum = self.tool("psql", &["-Atc", "SELECT sum(balance) FROM accounts", "postgres"])?;
        let expected = u64::from(ACCOUNTS) * 1_000_000_000;
        ensure!(sum.trim() == expected.to_string(), "the books do not add up: {sum}");
        Ok(rate)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut command = self.command("pg_ctl");
        command.arg("-D").arg(self.folder.join("data")).args(["-m", "immediate", "-w", "stop"]);
        if let Err(error) = run(&mut command) {
            eprintln!("PostgreSQL may still run: {error:#}");
        }
    }
}

/// The ids of the server's user.
fn user() -> Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd")?;
    let line = users.lines().find(|line| line.split(':').next() == Some(USER));
    let mut fields = line.with_context(|| format!("there is no user {USER}"))?.split(':').skip(2);
    let mut id = || fields.next().and_then(|id| id.parse().ok()).context("/etc/passwd is damaged");
    Ok((id()?, id()?))
}
