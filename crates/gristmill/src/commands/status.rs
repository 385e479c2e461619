//! `gristmill status`: whether money, ledger and engine are well, in one screen.
//!
//! [`facts`] asks the parts, each for a bounded time; [`checks`] judges what they said. It works on a
//! home whose exchange does not run, and on one of which a part hangs.

mod checks;
mod facts;

use crate::{
    home::Home,
    output::{Output, dim},
};
use anyhow::Result;
use checks::{Check, Health, judge};
use clap::Args;
use facts::Facts;
use serde_json::json;
use std::process::ExitCode;

/// Arguments of `status`.
#[derive(Debug, Args)]
#[command(after_help = "The exit code is 0 only if all is well.")]
pub(crate) struct Status {}

impl Status {
    pub(crate) async fn run(self, home: &Home, output: Output) -> Result<ExitCode> {
        let facts = Facts::gather(home).await;
        let checks = judge(&facts);
        let well = checks.iter().all(|check| check.state == Health::Ok);
        let mut value = facts.to_json();
        value["well"] = json!(well);
        value["checks"] = json!(checks);
        output.show(&value, || screen(&checks, output))?;
        Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn screen(checks: &[Check], output: Output) -> String {
    let mut lines = Vec::new();
    for Check { name, state, reason, next } in checks {
        lines.push(format!("{name:<10} {:<5} {reason}", state.word()));
        let next = next.as_ref().map(|next| output.commands(next));
        lines.extend(next.map(|next| format!("{:<16} {} {next}", "", dim("next:"))));
    }
    let attention = checks.iter().filter(|check| check.state != Health::Ok).count();
    lines.push(match attention {
        0 => "all is well".to_owned(),
        1 => "1 line needs attention".to_owned(),
        some => format!("{some} lines need attention"),
    });
    lines.join("\n")
}
