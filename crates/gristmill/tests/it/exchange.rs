//! A running `gristmill up` for tests: started, watched, asked, stopped.

use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

/// The starter model's name.
pub(crate) const MODEL: &str = "gristmill/numbers";
/// Engine start, ledger start and two blocks, on a busy machine in a debug build.
const READY: Duration = Duration::from_secs(120);
const CALM: Duration = Duration::from_secs(60);

/// The program under test.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gristmill"));
    command.env("CANDLE_NUM_THREADS", "1").env_remove("GRISTMILL_HOME");
    command
}

/// A running exchange.
pub(crate) struct Exchange {
    child: Child,
    events: Receiver<Value>,
    stderr: Arc<Mutex<String>>,
    pub(crate) home: PathBuf,
    pub(crate) ready: Value,
}

impl Exchange {
    /// Starts one on the home and waits until it is ready.
    pub(crate) fn start(home: &Path) -> Self {
        Self::start_with(home, &[])
    }

    /// Starts one with further arguments.
    pub(crate) fn start_with(home: &Path, arguments: &[&str]) -> Self {
        Self::start_command(home, "up", arguments, &mut program())
    }

    /// Starts one in an environment.
    pub(crate) fn start_in(home: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_command(home, "up", arguments, program().envs(environment.iter().copied()))
    }

    /// Starts a seller beside the exchange that runs on the home.
    pub(crate) fn sell(home: &Path, arguments: &[&str]) -> Self {
        Self::start_command(home, "sell", arguments, &mut program())
    }

    /// Starts a command that runs until it is stopped, and waits until it is ready.
    pub(crate) fn start_command(home: &Path, name: &str, arguments: &[&str], program: &mut Command) -> Self {
        let mut exchange = Self::spawn_command(home, name, arguments, program);
        exchange.ready = exchange.event("ready", READY);
        exchange
    }

    /// Starts one and does not wait for it.
    pub(crate) fn spawn(home: &Path, arguments: &[&str]) -> Self {
        Self::spawn_command(home, "up", arguments, &mut program())
    }

    /// Starts a command and does not wait for it.
    pub(crate) fn spawn_command(home: &Path, name: &str, arguments: &[&str], program: &mut Command) -> Self {
        let mut child = program
            .args(["--json", "--home"])
            .arg(home)
            .arg(name)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let (sender, events) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let event =
                    serde_json::from_str(&line).unwrap_or_else(|_| panic!("not a line of JSON: {line}"));
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        let stderr = Arc::new(Mutex::new(String::new()));
        let (copy, pipe) =
            (Arc::clone(&stderr), BufReader::new(child.stderr.take().expect("stderr is piped")));
        std::thread::spawn(move || {
            for line in pipe.lines().map_while(Result::ok) {
                copy.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        Self { child, events, stderr, home: home.to_owned(), ready: Value::Null }
    }

    /// The events that came since the last look.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.events.try_iter().collect()
    }

    /// Waits until it ends by itself.
    pub(crate) fn ended(&mut self, patience: Duration) -> std::process::ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                std::thread::sleep(Duration::from_millis(100));
                return status;
            }
            assert!(Instant::now() < deadline, "it goes on; stderr: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until it ends by itself or is ready. Its exit code, if it ended.
    pub(crate) fn outcome(&mut self) -> Option<std::process::ExitStatus> {
        let deadline = Instant::now() + READY;
        loop {
            match self.events.recv_timeout(Duration::from_millis(50)) {
                Ok(event) if event["event"] == "ready" => {
                    self.ready = event;
                    return None;
                }
                Ok(_) => {}
                Err(_) => {
                    if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                        // What it said last comes through the pipe after its end.
                        std::thread::sleep(Duration::from_millis(100));
                        return Some(status);
                    }
                }
            }
            assert!(Instant::now() < deadline, "neither ready nor ended; stderr: {}", self.stderr());
        }
    }

    fn event(&self, name: &str, patience: Duration) -> Value {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) if event["event"] == name => return event,
                Ok(_) => {}
                Err(_) => panic!("no event `{name}` came; stderr: {}", self.stderr()),
            }
        }
    }

    /// Waits for the next event of that name.
    pub(crate) fn wait_for(&self, name: &str) -> Value {
        self.event(name, CALM)
    }

    /// The OpenAI endpoint, with `/v1`.
    pub(crate) fn base_url(&self) -> &str {
        self.ready["base_url"].as_str().expect("ready has a base_url")
    }

    /// The key for it.
    pub(crate) fn api_key(&self) -> &str {
        self.ready["api_key"].as_str().expect("ready has an api_key")
    }

    /// Runs a command on the same home.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        run(&self.home, arguments)
    }

    /// Runs a command with `--json` that must succeed.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(arguments);
        let output = self.run(&all);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?} failed: {text}{error}");
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{arguments:?} printed no JSON: {text}"))
    }

    /// What it said on standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// What `gristmill status` says, whether all is well or not.
    pub(crate) fn status(&self) -> Value {
        let text = self.run(&["--json", "status"]).stdout;
        serde_json::from_slice(&text).expect("status prints JSON")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Stops it with SIGTERM and waits for its clean end.
    pub(crate) fn stop(mut self) {
        self.signal("-TERM");
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}: {}", self.stderr.lock().unwrap());
    }

    /// Kills it at once.
    pub(crate) fn kill(mut self) {
        self.signal("-KILL");
        self.child.wait().expect("it ends");
    }

    /// Kills it at once, unless it has ended; how it ended, and what it wrote on standard error.
    pub(crate) fn kill_or_ended(mut self) -> (std::process::ExitStatus, String) {
        drop(self.child.kill());
        let status = self.child.wait().expect("it ends");
        std::thread::sleep(Duration::from_millis(20));
        (status, self.stderr())
    }

    /// Grains of a wallet's one balance, proven.
    pub(crate) fn balance(&self, wallet: &str) -> u128 {
        let value = self.json(&["wallet", "show", wallet]);
        assert_eq!(value["proven"], true);
        grains(&value["balances"][0]["amount"])
    }

    /// Grains of the model's unclaimed royalties.
    pub(crate) fn royalties(&self) -> u128 {
        let value = self.json(&["model", "show", MODEL]);
        value["royalties"].as_array().expect("a list").iter().map(|pool| grains(&pool["balance"])).sum()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a command on a home. One that does not end by itself is killed, and fails.
pub(crate) fn run(home: &Path, arguments: &[&str]) -> Output {
    let mut command = program();
    command.arg("--home").arg(home).args(arguments).stdin(Stdio::null());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let (id, (done, ended)) = (child.id().to_string(), channel::<()>());
    let watchdog = std::thread::spawn(move || {
        let late =
            ended.recv_timeout(CALM).is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Timeout);
        if late {
            drop(Command::new("kill").args(["-KILL", &id]).status());
        }
        late
    });
    let output = child.wait_with_output().expect("it ends");
    drop(done);
    assert!(!watchdog.join().expect("the watchdog ends"), "{arguments:?} went on: {output:?}");
    output
}

/// The lines of `gristmill status` that are not `ok`, and their states. How full this machine's disk is
/// says nothing of the exchange.
pub(crate) fn unwell(status: &Value) -> Vec<(String, String)> {
    let checks = status["checks"].as_array().expect("a list").iter();
    checks
        .filter(|check| check["state"] != "ok" && check["name"] != "disk")
        .map(|check| {
            assert!(check["next"].is_string(), "{check}");
            (check["name"].as_str().unwrap().to_owned(), check["state"].as_str().unwrap().to_owned())
        })
        .collect()
}

/// An amount as JSON carries it.
pub(crate) fn grains(value: &Value) -> u128 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no amount: {value}"))
}
