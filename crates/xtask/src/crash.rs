//! The long forms of the tests `storm` and `corruption` of `crates/gristmill`: `gristmill up` under load,
//! killed at random moments, and the books after each; and every file of a home damaged.

use anyhow::{Context as _, Result, bail};
use std::time::{SystemTime, UNIX_EPOCH};

const MINUTES: u64 = 10;
/// Read by the test.
const SECONDS: &str = "GRISTMILL_CRASH_SECONDS";
const SEED: &str = "GRISTMILL_CRASH_SEED";
/// How often `--damage` damages each file.
const DAMAGES: u64 = 4;
const EACH: &str = "GRISTMILL_DAMAGE_EACH";
const DAMAGE_TEST: &str = "corruption::cut_and_flipped_files_are_recovered_or_refused";
const TEST: &str = "storm::books_agree_after_kills_at_random_moments";

/// How long, from which seed, and in which profile.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    seconds: u64,
    seed: u64,
    release: bool,
    damage: bool,
}

/// Runs the test with what the arguments say.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let wanted = read(arguments, now.subsec_nanos().into())?;
    let mut command = crate::workspace::cargo();
    command.args(["test", "--package", "gristmill", "--test", "it"]);
    if wanted.release {
        command.arg("--release");
    }
    command.args(["--", "--exact", "--nocapture", if wanted.damage { DAMAGE_TEST } else { TEST }]);
    command.env(SECONDS, wanted.seconds.to_string()).env(SEED, wanted.seed.to_string());
    if wanted.damage {
        command.env(EACH, DAMAGES.to_string());
    }
    let status = command.status().with_context(|| format!("{command:?} did not start"))?;
    if !status.success() {
        bail!(
            "the test ended with {status}; the same seed again: cargo xtask crash{} --seed {}",
            if wanted.damage { " --damage" } else { "" },
            wanted.seed
        );
    }
    Ok(())
}

fn read(arguments: &[String], seed: u64) -> Result<Wanted> {
    let mut wanted = Wanted { seconds: MINUTES * 60, seed, release: false, damage: false };
    let mut arguments = arguments.iter();
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--release" => wanted.release = true,
            "--damage" => wanted.damage = true,
            _ => {}
        }
        if ["--release", "--damage"].contains(&name.as_str()) {
            continue;
        }
        let value = arguments.next().with_context(|| format!("{name} needs a number"))?;
        let value: u64 = value.parse().with_context(|| format!("{name}: {value} is no number"))?;
        match name.as_str() {
            "--minutes" => wanted.seconds = value.saturating_mul(60),
            "--seconds" => wanted.seconds = value,
            "--seed" => wanted.seed = value,
            _ => bail!("{name} is unknown: --minutes N, --seconds N, --seed N, --release, --damage"),
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let read = |text: &str| {
            let arguments: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            read(&arguments, 7).ok()
        };
        let wanted = |seconds, seed, release| Some(Wanted { seconds, seed, release, damage: false });
        assert_eq!(read(""), wanted(600, 7, false));
        assert_eq!(read("--minutes 2 --seed 9"), wanted(120, 9, false));
        assert_eq!(read("--release --seconds 30"), wanted(30, 7, true));
        for wrong in ["--seed", "--seed x", "--hours 1"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
