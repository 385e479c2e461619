//! The log: what goes into it, and in which form. It goes to standard error.
//!
//! No prompt, no answer, no API key and no secret key is ever logged, at any level of ours; a test reads
//! the log of a paid request for them.

use crate::failure::Failure;
use clap::{Args, ValueEnum};
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// What is logged unless it is said otherwise. The engine of the ledger calls a clean stop an error, and of
/// one that is none the reason comes out as ours.
const QUIET: &str = "error,commonware=off,commonware_resolver=off";
/// The parts that have a level of their own, and the crates behind them.
const PARTS: &[(&str, &[&str])] = &[
    ("ledger", &["gristmill_chain", "gristmill_ledger"]),
    ("consensus", &["commonware"]),
    ("processor", &["gristmill_processor"]),
    ("gateway", &["gristmill_gateway"]),
    ("engine", &["gristmill_engine"]),
    ("upstream", &["gristmill_upstream"]),
    ("store", &["gristmill_store"]),
    ("client", &["gristmill_client", "gristmill_net"]),
];
const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Arguments about the log.
#[derive(Debug, Args)]
pub(crate) struct Log {
    /// What to log: a level, or levels by part, as in `info` or `gateway=debug,ledger=info`
    #[arg(long, global = true, value_name = "LEVELS", env = "GRISTMILL_LOG", help_heading = "Log")]
    log: Option<String>,

    /// Text, or one JSON object a line
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        env = "GRISTMILL_LOG_FORMAT",
        default_value = "text",
        hide_possible_values = true,
        help_heading = "Log"
    )]
    log_format: Format,
}

impl Log {
    /// Starts logging.
    pub(crate) fn start(&self) -> Result<(), Failure> {
        let filter = match &self.log {
            Some(levels) => EnvFilter::new(directives(levels)?),
            None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(QUIET)),
        };
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        match self.log_format {
            Format::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
            Format::Json => lines.json().flatten_event(true).with_span_list(false).init(),
        }
        Ok(())
    }
}

/// The filter for these levels. One without a part is for all of ours.
fn directives(levels: &str) -> Result<String, Failure> {
    let wrong = |item: &str| {
        let parts: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
        Failure::new(format!("`{item}` is not a level to log")).next(format!(
            "give one of {}, or PART=LEVEL where PART is one of {}: --log gateway=debug,ledger=info",
            LEVELS.join(", "),
            parts.join(", ")
        ))
    };
    let mut directives = vec![QUIET.to_owned()];
    for item in levels.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let (targets, level) = match item.split_once('=') {
            None => (&["gristmill"][..], item),
            Some((part, level)) => {
                let known = PARTS.iter().find(|(name, _)| *name == part.trim());
                (known.ok_or_else(|| wrong(item))?.1, level.trim())
            }
        };
        let level = level.to_ascii_lowercase();
        if !LEVELS.contains(&level.as_str()) {
            return Err(wrong(item));
        }
        directives.extend(targets.iter().map(|target| format!("{target}={level}")));
    }
    Ok(directives.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_by_part() {
        for (levels, expected) in [
            ("info", Some(",gristmill=info")),
            ("", Some("")),
            ("warn, gateway=DEBUG", Some(",gristmill=warn,gristmill_gateway=debug")),
            ("ledger=trace", Some(",gristmill_chain=trace,gristmill_ledger=trace")),
            ("loud", None),
            ("gateway=loud", None),
            ("hyper=debug", None),
        ] {
            let expected = expected.map(|rest| format!("{QUIET}{rest}"));
            assert_eq!(directives(levels).ok(), expected, "{levels}");
        }
        let advice = directives("hyper=debug").unwrap_err();
        assert!(advice.advice().unwrap().contains("processor"), "{advice:?}");
    }
}
