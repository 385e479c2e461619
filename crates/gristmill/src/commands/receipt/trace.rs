//! `gristmill receipt trace`: when the request of a receipt passed which stage, on both sides and on the
//! ledger.
//!
//! Gateway and processor each wrote their trace down with the receipt; the ledger's block is verified.
//! The two sides' clocks are their own: on one machine they are the same.

use crate::{
    connection::Connection,
    endpoint::Endpoint,
    home::Home,
    output::{Output, dim},
};
use anyhow::{Context as _, Result};
use gristmill_gateway::ReceiptEntry;
use gristmill_ledger::{
    keys,
    record::{Processor, Stored as _},
};
use gristmill_net::{
    http::read_body,
    trace::{Served, Trace, path},
};
use gristmill_types::{AccountId, Receipt};
use serde::Serialize;
use serde_json::json;
use std::time::Duration;

/// How long a processor may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// One line of the timeline.
#[derive(Debug, PartialEq, Serialize)]
struct Line {
    /// Unix time in microseconds.
    at_us: u64,
    side: &'static str,
    stage: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

pub(super) async fn run(home: &Home, output: Output, entry: &ReceiptEntry) -> Result<()> {
    let connection = Connection::open(home)?;
    let endpoint = Endpoint::new(&connection.running)?;
    let (id, payee) = (entry.id, entry.terms.payee);
    let own: Option<Trace> = endpoint.find(&format!("/receipts/{id}/trace")).await?;
    let served = ask(&connection, &payee, &entry.receipt.body).await;
    let settled = served.as_ref().ok().and_then(|served| served.settled);
    let block = match settled {
        Some(settled) => connection.ledger.block(settled.height).await?.map(|block| block.value),
        None => None,
    };
    let mut lines = Vec::new();
    if let Some(trace) = &own {
        lines.extend(of_trace("gateway", trace));
    }
    if let Ok(served) = &served {
        lines.extend(of_trace("processor", &served.trace));
        lines.extend(served.approved_us.map(|at_us| Line {
            at_us,
            side: "processor",
            stage: "approved".to_owned(),
            note: None,
        }));
    }
    if let (Some(settled), Some(block)) = (&settled, &block) {
        lines.push(Line {
            at_us: block.time_ms.saturating_mul(1_000),
            side: "ledger",
            stage: "settled".to_owned(),
            note: Some(format!(
                "block {}, transaction {}, fee {} credits",
                settled.height, settled.transaction, settled.fee
            )),
        });
    }
    lines.sort_by_key(|line| line.at_us);
    let missing = |side: &str, why: &str| format!("{side}: {why}");
    let mut notes = Vec::new();
    if own.is_none() {
        notes.push(missing("gateway", "it kept no trace: the request is too old, or was interrupted"));
    }
    match &served {
        Err(error) => notes.push(missing("processor", &format!("{error:#}"))),
        Ok(served) if served.approved_us.is_none() => notes.push("not approved yet".to_owned()),
        Ok(served) if served.settled.is_none() => {
            notes
                .push("not settled yet: small sums wait for more, or until the channel is closed".to_owned());
        }
        Ok(_) => {}
    }
    let value = json!({
        "receipt": id,
        "gateway_request": own.as_ref().map(|trace| &trace.request),
        "processor_request": served.as_ref().ok().map(|served| &served.trace.request),
        "channel": entry.receipt.body.channel,
        "lane": entry.receipt.body.lane,
        "settled": settled,
        "timeline": lines,
        "notes": notes,
    });
    output.show(&value, || text(entry, &value, &lines, &notes))
}

fn text(entry: &ReceiptEntry, value: &serde_json::Value, lines: &[Line], notes: &[String]) -> String {
    let word = |name: &str| value[name].as_str().unwrap_or("unknown").to_owned();
    let mut shown = vec![
        format!("receipt    {}", entry.id),
        format!(
            "requests   {} at the gateway, {} at the processor",
            word("gateway_request"),
            word("processor_request")
        ),
        format!("channel    {}, lane {}", entry.receipt.body.channel, entry.receipt.body.lane),
        String::new(),
    ];
    let first = lines.first().map_or(0, |line| line.at_us);
    for line in lines {
        let after = Duration::from_micros(line.at_us.saturating_sub(first)).as_secs_f64() * 1e3;
        let note = line.note.as_deref().map(dim).unwrap_or_default();
        let stage = format!("{after:>10.1} ms  {:<10} {:<20} {note}", line.side, line.stage);
        shown.push(stage.trim_end().to_owned());
    }
    shown.extend(notes.iter().map(|note| dim(note)));
    shown.join("\n")
}

fn of_trace(side: &'static str, trace: &Trace) -> Vec<Line> {
    let line = |stage: &gristmill_net::trace::Stage| Line {
        at_us: trace.began_us.saturating_add(stage.after_us),
        side,
        stage: stage.stage.to_string(),
        note: stage.note.clone(),
    };
    let mut lines: Vec<Line> = trace.stages.iter().map(line).collect();
    if let Some(last) = lines.last_mut().filter(|_| trace.left_out > 0) {
        last.note = Some(format!("{} stages found no room in the trace", trace.left_out));
    }
    lines
}

/// The processor's side.
async fn ask(connection: &Connection, processor: &AccountId, receipt: &Receipt) -> Result<Served> {
    let found = connection.ledger.state(&[keys::processor(processor)]).await?.value;
    let endpoint =
        found.iter().flatten().filter_map(Processor::of).next().and_then(|of| of.endpoints.first());
    let endpoint = endpoint.context("the processor has no endpoint on the ledger")?;
    let url = format!("{}{}", endpoint.trim_end_matches('/'), path(receipt));
    let answer = gristmill_net::http::client()?.get(url).timeout(PATIENCE).send().await?;
    let status = answer.status();
    let body = read_body(answer.bytes_stream(), MAX_ANSWER_BYTES).await?;
    anyhow::ensure!(status.is_success(), "it kept no trace of the request (status {status})");
    Ok(serde_json::from_slice(&body)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_net::trace::Stages;
    use gristmill_types::ChannelId;

    #[test]
    fn stages_become_lines_at_their_time() {
        let mut stages = Stages::begin("asked");
        stages.reach("quoted", Some("7 prompt tokens".to_owned()));
        let mut trace = stages.trace("a".to_owned(), None, ChannelId::new([1; 32]), 0);
        trace.left_out = 2;
        let lines = of_trace("gateway", &trace);
        assert_eq!((lines[0].at_us, lines[0].stage.as_str()), (trace.began_us, "asked"));
        assert_eq!(lines[1].at_us, trace.began_us + trace.stages[1].after_us);
        assert!(lines[1].note.as_ref().unwrap().contains("2 stages"));
    }
}
