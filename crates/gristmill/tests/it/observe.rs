//! What operators see: metrics that the documentation lists, and logs without secrets.

use crate::exchange::{Exchange, MODEL, grains, run, unwell};
use gristmill_metrics::{MEDIA_TYPE, Reading, read};
use serde_json::{Value, json};
use std::{collections::BTreeSet, net::TcpListener, path::Path};

/// What `GET /metrics` of each role says.
pub(crate) struct Metrics {
    pub(crate) gateway: Reading,
    pub(crate) processor: Reading,
    pub(crate) ledger: Reading,
}

impl Metrics {
    pub(crate) async fn of(exchange: &Exchange) -> Self {
        let http = gristmill_net::http::client().unwrap();
        let get = async |base: &str| {
            let answer = http.get(format!("{base}/metrics")).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.headers()["content-type"], MEDIA_TYPE);
            let text = answer.text().await.unwrap();
            assert!(text.ends_with("\n# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
            read(&text)
        };
        Self {
            gateway: get(exchange.base_url().trim_end_matches("/v1")).await,
            processor: get(exchange.ready["processor"].as_str().unwrap()).await,
            ledger: get(exchange.ready["ledger"].as_str().unwrap()).await,
        }
    }
}

/// The rows of a role's table in the documentation.
fn table(role: &str, reading: &Reading) -> Vec<String> {
    let ours = reading.families.iter().filter(|(name, _)| name.starts_with(&format!("gristmill_{role}_")));
    ours.map(|(name, of)| {
        let own = ["", "_total", "_bucket"].map(|suffix| format!("{name}{suffix}"));
        let samples = reading.samples.iter().filter(|sample| own.contains(&sample.name));
        let labels: BTreeSet<&str> =
            samples.flat_map(|sample| sample.labels.keys().map(String::as_str)).collect();
        let labels: Vec<_> = labels.into_iter().filter(|label| *label != "le").collect();
        let shown = if of.kind == "counter" { format!("{name}_total") } else { name.clone() };
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(", ")) };
        format!("| `{shown}{labels}` | {} | {} |", of.kind, of.help)
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paid_request_shows_in_all_metrics_and_the_documentation_lists_them() {
    let folder = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(folder.path());
    let answer = exchange.json(&["ask", "Spell 777777 in English"]);
    let settled = exchange.wait_for("settled");
    let usage = &answer["usage"];
    let cost = (usage["cost"].as_f64().unwrap() * 1e9).round();
    exchange.json(&["ledger", "supply"]);
    let Metrics { gateway, processor, ledger } = Metrics::of(&exchange).await;

    let number = |value: &serde_json::Value| value.as_u64().unwrap() as f64;
    let settled = |part: &str| grains(&settled[part]) as f64;
    for (reading, name, labels, value) in [
        (&gateway, "gristmill_gateway_requests_total", &[("outcome", "paid")][..], 1.0),
        (&gateway, "gristmill_gateway_requests_total", &[], 1.0),
        (&gateway, "gristmill_gateway_requests_running", &[], 0.0),
        (&gateway, "gristmill_gateway_spent_grains_total", &[], cost),
        (&gateway, "gristmill_gateway_input_tokens_total", &[], number(&usage["prompt_tokens"])),
        (&gateway, "gristmill_gateway_output_tokens_total", &[], number(&usage["completion_tokens"])),
        (&gateway, "gristmill_gateway_first_text_seconds_count", &[], 1.0),
        (&gateway, "gristmill_gateway_channels", &[("state", "open")], 1.0),
        (&gateway, "gristmill_gateway_ledger_up", &[], 1.0),
        (&gateway, "gristmill_gateway_upstream_errors_total", &[], 0.0),
        (&processor, "gristmill_processor_requests_total", &[("finish", "stop")], 1.0),
        (&processor, "gristmill_processor_challenges_total", &[], 1.0),
        (&processor, "gristmill_processor_delivered_grains_total", &[], cost),
        (&processor, "gristmill_processor_settled_grains_total", &[], settled("earned")),
        (&processor, "gristmill_processor_royalties_grains_total", &[], settled("royalty")),
        (&processor, "gristmill_processor_settle_fees_grains_total", &[], settled("fee")),
        (&processor, "gristmill_processor_approved_grains", &[], 0.0),
        (&processor, "gristmill_processor_unapproved_grains", &[], 0.0),
        (&processor, "gristmill_processor_engine_up", &[("model", MODEL)], 1.0),
        (&ledger, "gristmill_ledger_transactions_total", &[("kind", "settle"), ("outcome", "applied")], 1.0),
        (&ledger, "gristmill_ledger_transactions_total", &[("outcome", "rejected")], 0.0),
        (&ledger, "gristmill_ledger_transactions_refused_total", &[], 0.0),
        (&ledger, "gristmill_ledger_conserved", &[], 1.0),
        (&ledger, "gristmill_ledger_certificate_signers", &[], 1.0),
        (&ledger, "gristmill_ledger_stalled_seconds", &[], 0.0),
    ] {
        assert_eq!(reading.value(name, labels), Some(value), "{name} {labels:?}");
    }
    let height = number(&exchange.status()["ledger"]["height"]);
    assert_eq!(ledger.value("gristmill_ledger_height", &[]), Some(height));
    assert!(ledger.value("gristmill_ledger_disk_bytes", &[]).unwrap() > 10_000.0);
    assert!(ledger.value("gristmill_ledger_finality_seconds_count", &[]).unwrap() >= 5.0);
    // Consensus, network and storage count for themselves.
    assert!(ledger.families.keys().any(|name| name.starts_with("runtime_")));

    let document = include_str!("../../../../docs/operations.md");
    let (tables, alerts) = document.split_once("### What to alert on").unwrap();
    let mut known = BTreeSet::new();
    for (role, reading) in [("gateway", &gateway), ("processor", &processor), ("ledger", &ledger)] {
        let rows = table(role, reading);
        let prefix = format!("| `gristmill_{role}_");
        let listed: Vec<&str> = tables.lines().filter(|line| line.starts_with(&prefix)).collect();
        assert_eq!(listed, rows, "docs/operations.md has to list:\n{}", rows.join("\n"));
        known.extend(reading.families.keys().cloned());
    }
    // What the advice names exists as well.
    let words = alerts.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    for word in words.filter(|word| word.starts_with("gristmill_")) {
        let family = ["_total", "_sum", "_count"].iter().find_map(|suffix| word.strip_suffix(suffix));
        assert!(known.contains(family.unwrap_or(word)), "docs/operations.md advises on {word}");
    }
    exchange.stop();
}

/// Every line of JSON in the log of a run in which everything is logged at `debug`.
fn lines(log: &str) -> Vec<Value> {
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The secrets of a home: API key, and every wallet's key in hexadecimal.
fn secrets(exchange: &Exchange, home: &Path) -> Vec<String> {
    let mut secrets = vec![exchange.api_key().to_owned()];
    for entry in std::fs::read_dir(home.join("wallets")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        secrets.extend(words.filter(|word| word.len() >= 32).map(str::to_owned));
    }
    secrets
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_names_requests_on_both_sides_and_holds_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [("RUST_LOG", "debug"), ("GRISTMILL_LOG_FORMAT", "json")];
    let exchange = Exchange::start_in(folder.path(), &[], &environment);
    let answer = exchange.json(&["ask", "Spell 424242 in English"]);
    let text = answer["answer"].as_str().unwrap().to_owned();
    // Refused ones too, here and at the processor.
    for prompt in ["Spell 424242 in English ".repeat(400), "Spell 424242 in English".to_owned()] {
        let http = gristmill_net::http::client().unwrap();
        let temperature = if prompt.len() > 100 { 0.0 } else { 9.0 };
        let body = json!({
            "model": MODEL, "temperature": temperature, "stream": true,
            "messages": [{"role": "user", "content": prompt}],
        });
        let url = format!("{}/chat/completions", exchange.base_url());
        let refused = http.post(url).bearer_auth(exchange.api_key()).json(&body).send().await.unwrap();
        assert_eq!(refused.status(), 400);
    }
    exchange.wait_for("settled");
    let trace = exchange.json(&["receipt", "trace", answer["receipt"].as_str().unwrap()]);
    let log = exchange.stderr();

    // The same request in the lines of both, found by the ids that its trace tells.
    let of = |target: &str, id: &Value| {
        let found: Vec<Value> = lines(&log)
            .into_iter()
            .filter(|line| line["target"].as_str().is_some_and(|of| of.starts_with(target)))
            .filter(|line| line["span"]["request"] == *id)
            .collect();
        assert!(found.len() > 3, "{target} {id}: {found:?}");
        found
    };
    let gateway = of("gristmill_gateway", &trace["gateway_request"]);
    let processor = of("gristmill_processor", &trace["processor_request"]);
    assert_eq!(processor[0]["span"]["caller"], trace["gateway_request"]);
    for side in [&gateway, &processor] {
        let last = side.last().unwrap();
        assert_eq!(last["span"]["receipt"], answer["receipt"], "{last}");
        assert_eq!(last["span"]["channel"], trace["channel"]);
        assert_eq!(last["span"]["lane"], trace["lane"]);
    }
    // Nothing of what was asked, answered or kept secret. The log is not empty of everything else.
    assert!(log.contains("gristmill_chain") || log.contains("commonware"), "other parts log as well");
    let mut hidden = secrets(&exchange, folder.path());
    assert!(hidden.len() >= 8, "{}", hidden.len());
    hidden.extend([text, "424242".to_owned(), "in English".to_owned()]);
    for secret in &hidden {
        let line = log.lines().find(|line| line.contains(secret.as_str()));
        assert_eq!(line, None, "the log holds {secret}");
    }
    exchange.stop();
}

#[test]
fn a_trace_tells_every_stage_from_the_request_to_the_block() {
    let folder = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(folder.path());
    let answer = exchange.json(&["ask", "Spell 777777 in German"]);
    let settled = exchange.wait_for("settled");
    let id = answer["receipt"].as_str().unwrap();
    let stages = |trace: &Value, side: &str| -> Vec<String> {
        let lines = trace["timeline"].as_array().unwrap().iter().filter(|line| line["side"] == side);
        lines.map(|line| line["stage"].as_str().unwrap().to_owned()).collect()
    };
    let check = |trace: &Value| {
        let mut gateway = stages(trace, "gateway");
        gateway.dedup();
        let expected = [
            "asked",
            "quoted",
            "reserved",
            "ordered",
            "accepted",
            "started",
            "first text",
            "window",
            "receipt",
        ];
        assert_eq!(gateway, expected, "{trace:#}");
        let mut processor = stages(trace, "processor");
        processor.retain(|stage| !stage.contains("voucher"));
        let expected =
            ["arrived", "verified", "engine asked", "durable", "first token", "receipt", "approved"];
        assert_eq!(processor, expected, "{trace:#}");
        assert_eq!(stages(trace, "ledger"), ["settled"]);
        assert_eq!(trace["settled"]["transaction"], settled["transaction"]);
        let times: Vec<u64> = trace["timeline"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line["at_us"].as_u64().unwrap())
            .collect();
        assert!(times.is_sorted());
    };
    check(&exchange.json(&["receipt", "trace", id]));
    exchange.stop();
    // It is on disk: the next run tells the same.
    let exchange = Exchange::start(folder.path());
    check(&exchange.json(&["receipt", "trace", id]));
    let text = exchange.run(&["receipt", "trace", &id[..8]]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("first token") && text.contains("block "), "{text}");
    exchange.stop();
}

#[test]
fn status_tells_what_is_not_well() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let status = |home: &Path| {
        let output = run(home, &["--json", "status"]);
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.success(), value["well"] == true, "{value}");
        let text = String::from_utf8(run(home, &["status"]).stdout).unwrap();
        assert_eq!(text.contains("all is well"), value["well"] == true, "{text}");
        value
    };
    let down = |names: &[&str]| -> Vec<(String, String)> {
        names.iter().map(|name| ((*name).to_owned(), "down".to_owned())).collect()
    };
    // Nothing runs.
    assert_eq!(unwell(&status(&home)), down(&["exchange"]));
    let exchange = Exchange::start(&home);
    exchange.json(&["ask", "Spell 4 in English"]);
    let value = status(&home);
    assert_eq!(unwell(&value), []);
    assert_eq!(value["receipts"], 1);

    // One part is dead, another hangs: what the others say is still told.
    let announced = std::fs::read(home.join("run.json")).unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let point = |part: &str, to: String| {
        let mut value: Value = serde_json::from_slice(&announced).unwrap();
        value[part] = json!(to);
        std::fs::write(home.join("run.json"), value.to_string()).unwrap();
    };
    point("processor", format!("http://{closed}"));
    assert_eq!(unwell(&status(&home)), down(&["processor", "engine"]));
    point("base_url", format!("http://{}/v1", silent.local_addr().unwrap()));
    let names: Vec<String> = unwell(&status(&home)).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["gateway", "channels", "claims", "key"]);
    std::fs::write(home.join("run.json"), &announced).unwrap();

    // The whole process hangs.
    exchange.signal("-STOP");
    let hung = unwell(&status(&home));
    exchange.signal("-CONT");
    assert!(hung.contains(&("ledger".to_owned(), "down".to_owned())), "{hung:?}");
    assert!(!hung.iter().any(|(name, _)| name == "exchange"), "{hung:?}");

    // The processor cannot pay for settlements.
    let consumer = exchange.json(&["wallet", "show", "consumer"])["address"].as_str().unwrap().to_owned();
    let all = exchange.balance("processor");
    let kept = 60_000;
    let amount = gristmill_types::Amount::from_grains(all - kept).to_string();
    exchange.json(&["wallet", "send", &amount, &consumer, "--from", "processor"]);
    assert_eq!(unwell(&status(&home)), [("earnings".to_owned(), "warn".to_owned())]);
    exchange.kill();
    // It was killed, so its announcement lies there still.
    assert_eq!(unwell(&status(&home)), down(&["exchange"]));
}
