//! The whole check, in the order in which mistakes are cheapest to find. It stops at the first failure
//! and says how to run that step alone.

use crate::tidy;
use anyhow::{Context as _, Result, bail};
use std::{
    process::Command,
    time::{Duration, Instant},
};

enum Action {
    Cargo { arguments: &'static [&'static str], rustdoc_flags: Option<&'static str> },
    Tidy,
}

struct Step {
    name: &'static str,
    action: Action,
}

const fn cargo(name: &'static str, arguments: &'static [&'static str]) -> Step {
    Step { name, action: Action::Cargo { arguments, rustdoc_flags: None } }
}

const STEPS: &[Step] = &[
    cargo("format", &["fmt", "--all", "--check"]),
    cargo("clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    Step { name: "tidy", action: Action::Tidy },
    // The same words as in the README: what a newcomer runs is what is checked.
    cargo("tests", &["test", "--workspace"]),
    Step {
        name: "docs",
        action: Action::Cargo {
            arguments: &["doc", "--workspace", "--no-deps"],
            rustdoc_flags: Some("-D warnings"),
        },
    },
];

/// Runs every step.
pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    for (index, step) in STEPS.iter().enumerate() {
        let number = index + 1;
        eprintln!("\nxtask: [{number}/{}] {}: {}", STEPS.len(), step.name, step.command());
        let began = Instant::now();
        step.run().with_context(|| {
            format!(
                "the check stopped at step {number} of {}, {}; to run it alone: {}",
                STEPS.len(),
                step.name,
                step.command()
            )
        })?;
        eprintln!("xtask: [{number}/{}] {}: passed in {}", STEPS.len(), step.name, shown(began.elapsed()));
    }
    eprintln!("\nxtask: the check passed in {}", shown(start.elapsed()));
    Ok(())
}

fn shown(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {} s", seconds / 60, seconds % 60)
    }
}

impl Step {
    fn command(&self) -> String {
        match self.action {
            Action::Tidy => "cargo xtask tidy".to_owned(),
            Action::Cargo { arguments, rustdoc_flags } => {
                let flags = rustdoc_flags.map(|flags| format!("RUSTDOCFLAGS='{flags}' ")).unwrap_or_default();
                format!("{flags}cargo {}", arguments.join(" "))
            }
        }
    }

    fn run(&self) -> Result<()> {
        match self.action {
            Action::Tidy => tidy::run(),
            Action::Cargo { arguments, rustdoc_flags } => {
                let mut command = crate::workspace::cargo();
                command.args(arguments);
                if let Some(flags) = rustdoc_flags {
                    command.env("RUSTDOCFLAGS", flags);
                }
                succeed(&mut command)
            }
        }
    }
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?} did not start"))?;
    if !status.success() {
        bail!("it ended with {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_step_is_the_readmes_command() {
        let tests = STEPS.iter().find(|step| step.name == "tests").unwrap();
        assert_eq!(tests.command(), "cargo test --workspace");
    }

    #[test]
    fn durations() {
        assert_eq!(shown(Duration::from_millis(2_340)), "2.3 s");
        assert_eq!(shown(Duration::from_secs(125)), "2 min 5 s");
    }
}
