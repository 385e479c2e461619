//! The judgement, case by case.

use super::*;
use crate::{commands::status::facts::Said, home::Running, sell::seller::Announced};
use gristmill_client::schema::{Status, SupplyAnswer};
use gristmill_metrics::read;
use gristmill_types::{BlockHash, ChainId, ChannelId};
use serde_json::{Map, json};

const PROCESSOR: &str = "gristmill_processor_store_failed 0\ngristmill_processor_ledger_up 1\n\
    gristmill_processor_requests_running 0\ngristmill_processor_engine_up{model=\"a/b\"} 1\n\
    gristmill_processor_engine_running{model=\"a/b\"} 1\ngristmill_processor_engine_queued{model=\"a/b\"} 0\n\
    gristmill_processor_engine_places{model=\"a/b\"} 72\ngristmill_processor_engine_silent_seconds 0.1\n\
    gristmill_processor_closing_grains 0\ngristmill_processor_closing_left_seconds 0.0\n";
const GATEWAY: &str = "gristmill_gateway_store_failed 0\ngristmill_gateway_ledger_up 1\n";
const NODE: &str = "gristmill_ledger_transactions_refused_total{reason=\"fault\"} 0\n";

fn running() -> Running {
    Running {
        pid: 7,
        base_url: "http://127.0.0.1:1/v1".into(),
        api_key: "sk-secret".into(),
        operator_key: "sk-other".into(),
        ledger: "http://127.0.0.1:2".into(),
        processor: "http://127.0.0.1:3".into(),
        model: "a/b".into(),
        limited: false,
    }
}

fn credits(number: u64) -> Value {
    json!(Amount::from_credits(number))
}

/// An exchange of which every part is well.
fn well() -> Facts {
    let balances: Map<String, Value> = [("consumer", 100), ("processor", 10)]
        .map(|(name, of)| (name.to_owned(), credits(of)))
        .into_iter()
        .collect();
    let channel = json!({
        "id": ChannelId::new([1; 32]), "state": "open", "deposit": credits(5), "settled": "0",
        "free": credits(4), "held": "0", "in_doubt": 0,
    });
    let parts = Parts {
        running: running(),
        ledger: Ok(Status {
            name: "local".into(),
            chain: ChainId::new([1; 32]),
            height: 9,
            block: BlockHash::new([2; 32]),
            time_ms: 0,
            clock_ms: 0,
            waiting: 3,
            stalled_ms: 10,
            version: "0".into(),
        }),
        node: Ok(read(NODE)),
        supply: Ok(SupplyAnswer { height: 9, adds_up: true, supplies: Vec::new(), faults: Vec::new() }),
        processor: Ok(read(PROCESSOR)),
        sellers: Vec::new(),
        gateway: Ok(read(GATEWAY)),
        key: Ok(json!({"limit": credits(100), "spent": credits(1), "remaining": credits(99)})),
        channels: Ok(json!({"channels": [channel]})),
        receipts: Ok(json!({"total": 1})),
        balances: Ok(balances),
        claims: Ok(Vec::new()),
        spending_key: hangs(),
        lifted: false,
        fees: gristmill_ledger::Fees::default(),
        min_deposit: Amount::from_grains(1_000),
    };
    Facts {
        root: "/home".into(),
        founded: true,
        stage: Stage::Running(running()),
        broken: None,
        parts: Some(parts),
        disk: Some(Disk { free: 50 << 30, total: 100 << 30 }),
    }
}

/// The lines that are not well, after a change: name, state, and whether there is something to do.
fn after(change: impl FnOnce(&mut Parts)) -> Vec<(&'static str, Health)> {
    let mut facts = well();
    change(facts.parts.as_mut().unwrap());
    unwell(&facts)
}

fn unwell(facts: &Facts) -> Vec<(&'static str, Health)> {
    let checks = judge(facts);
    for check in &checks {
        let advised = check.next.is_some();
        assert_eq!(advised, check.state != Health::Ok, "{check:?}");
    }
    checks.iter().filter(|check| check.state != Health::Ok).map(|check| (check.name, check.state)).collect()
}

fn hangs<T>() -> Result<T, String> {
    Err("it did not answer within 3 s".to_owned())
}

use Health::{Down, Warn};

#[test]
fn an_exchange_that_is_well() {
    assert_eq!(judge(&well()).len(), 12);
    assert_eq!(unwell(&well()), []);
    let json = well().to_json();
    assert_eq!((&json["pid"], &json["lanes_in_doubt"]), (&json!(7), &json!(0)));
    assert_eq!(json["in_channels"], credits(5));
    assert!(!json.to_string().contains("sk-secret"), "the API key is not shown: {json}");
}

#[test]
fn an_exchange_that_does_not_run() {
    for (stage, founded, state) in
        [(Stage::Stopped, true, Down), (Stage::Stopped, false, Down), (Stage::Starting, true, Warn)]
    {
        let facts = Facts { stage, founded, parts: None, ..well() };
        assert_eq!(unwell(&facts), [("exchange", state)]);
        assert_eq!(judge(&facts).len(), 2, "nothing is claimed about parts that were not asked");
    }
    let broken = Facts { broken: Some("genesis.json is damaged".into()), parts: None, ..well() };
    assert_eq!(unwell(&broken), [("exchange", Down)]);
}

#[test]
fn parts_that_hang() {
    assert_eq!(
        after(|parts| {
            parts.ledger = hangs();
            parts.node = hangs();
            parts.supply = hangs();
            parts.balances = hangs();
            parts.claims = hangs();
        }),
        [("ledger", Down), ("money", Warn), ("consumer", Warn), ("earnings", Warn), ("claims", Warn)]
    );
    assert_eq!(after(|parts| parts.processor = hangs()), [("processor", Down), ("engine", Down)]);
    assert_eq!(
        after(|parts| {
            parts.gateway = hangs();
            parts.key = hangs();
            parts.channels = hangs();
            parts.claims = hangs();
        }),
        [("gateway", Down), ("channels", Down), ("claims", Warn), ("key", Down)]
    );
}

#[test]
fn a_ledger_that_makes_no_block() {
    for (stalled_ms, expected) in
        [(4_000, vec![]), (6_000, vec![("ledger", Warn)]), (40_000, vec![("ledger", Down)])]
    {
        let found = after(|parts| parts.ledger.as_mut().unwrap().stalled_ms = stalled_ms);
        assert_eq!(found, expected, "{stalled_ms}");
    }
}

#[test]
fn money_that_does_not_add_up() {
    let supply = |faults: Vec<String>| SupplyAnswer { height: 9, adds_up: false, supplies: vec![], faults };
    assert_eq!(after(|parts| parts.supply = Ok(supply(vec!["a lane".into()]))), [("money", Down)]);
    assert_eq!(after(|parts| parts.supply = Ok(supply(vec![]))), [("money", Down)]);
    let fault = NODE.replace("} 0", "} 2");
    assert_eq!(after(|parts| parts.node = Ok(read(&fault))), [("money", Down)]);
}

#[test]
fn engines_and_records() {
    let processor = |from: &str, to: &str| {
        assert!(PROCESSOR.contains(from));
        let text = PROCESSOR.replace(from, to);
        after(move |parts| parts.processor = Ok(read(&text)))
    };
    assert_eq!(processor("engine_up{model=\"a/b\"} 1", "engine_up{model=\"a/b\"} 0"), [("engine", Down)]);
    assert_eq!(processor("engine_up{", "nothing{"), [("engine", Down)]);
    assert_eq!(processor("silent_seconds 0.1", "silent_seconds 30.0"), [("engine", Warn)]);
    assert_eq!(processor("silent_seconds 0.1", "silent_seconds 300.0"), [("engine", Down)]);
    assert_eq!(processor("queued{model=\"a/b\"} 0", "queued{model=\"a/b\"} 71"), [("engine", Warn)]);
    assert_eq!(processor("store_failed 0", "store_failed 1"), [("processor", Down)]);
    assert_eq!(processor("ledger_up 1", "ledger_up 0"), [("processor", Warn)]);
    let failed = GATEWAY.replace("store_failed 0", "store_failed 1");
    assert_eq!(after(|parts| parts.gateway = Ok(read(&failed))), [("gateway", Down)]);
}

#[test]
fn accounts_that_cannot_pay() {
    let balance = |name: &'static str, grains: u128, free: Value| {
        after(move |parts| {
            let amount = json!(Amount::from_grains(grains));
            parts.balances.as_mut().unwrap().insert(name.to_owned(), amount);
            parts.channels.as_mut().unwrap()["channels"][0]["free"] = free;
        })
    };
    let fees = gristmill_ledger::Fees::default();
    let settle = fees.settle.grains();
    for (grains, expected) in
        [(settle - 1, vec![("earnings", Down)]), (settle, vec![("earnings", Warn)]), (settle * 20, vec![])]
    {
        assert_eq!(balance("processor", grains, credits(4)), expected, "{grains}");
    }
    let needed = fees.open_channel.max(fees.top_up).grains() + 1_000;
    for (grains, free, expected) in [
        (needed, credits(4), vec![]),
        (needed - 1, credits(4), vec![("consumer", Warn)]),
        (needed, json!("1"), vec![("consumer", Warn)]),
        // Nearly spent: a tenth of the deposit is half a credit.
        (needed, json!("400000000"), vec![]),
        (0, json!("400000000"), vec![("consumer", Warn), ("channels", Warn)]),
        (0, json!("40000000"), vec![("consumer", Warn), ("channels", Warn)]),
        (0, json!("0"), vec![("consumer", Down), ("channels", Warn)]),
    ] {
        assert_eq!(balance("consumer", grains, free.clone()), expected, "{grains} {free}");
    }
    let doubt = after(|parts| parts.channels.as_mut().unwrap()["channels"][0]["in_doubt"] = json!(2));
    assert_eq!(doubt, [("channels", Warn)]);
}

#[test]
fn limits_of_spending_keys() {
    for (may, free, expected) in [
        (90_000_000_000_u128, credits(4), vec![]),
        (0, credits(4), vec![("consumer", Warn)]),
        (0, json!("400000000"), vec![("consumer", Warn), ("channels", Warn)]),
        (0, json!("0"), vec![("consumer", Down), ("channels", Warn)]),
    ] {
        let account = "gristmill_gateway_account_grains 90000000001\n";
        let text = format!("{GATEWAY}{account}gristmill_gateway_spendable_grains {may}\n");
        let found = after(|parts| {
            parts.gateway = Ok(read(&text));
            parts.channels.as_mut().unwrap()["channels"][0]["free"] = free;
        });
        assert_eq!(found, expected, "{may}");
    }
    // One that is revoked is told from one that is used up.
    let text =
        format!("{GATEWAY}gristmill_gateway_account_grains 9000\ngristmill_gateway_spendable_grains 0\n");
    let mut facts = well();
    let parts = facts.parts.as_mut().unwrap();
    (parts.gateway, parts.spending_key) = (Ok(read(&text)), Ok(None));
    parts.running.limited = true;
    let checks = judge(&facts);
    let consumer = checks.iter().find(|check| check.name == "consumer").unwrap();
    assert_eq!(consumer.state, Warn);
    assert!(consumer.reason.contains("revoked"), "{consumer:?}");
    assert!(consumer.next.as_ref().unwrap().contains("spend again"), "{consumer:?}");
}

#[test]
fn an_account_that_was_filled_a_moment_ago_has_no_key() {
    for gauges in [(0, 0), (5, 5)] {
        let text = format!(
            "{GATEWAY}gristmill_gateway_account_grains {}\ngristmill_gateway_spendable_grains {}\n",
            gauges.0, gauges.1
        );
        let filled = |parts: &mut Parts| {
            parts.gateway = Ok(read(&text));
            parts.channels = Ok(json!({"channels": []}));
        };
        assert_eq!(after(filled), [], "{gauges:?}");
    }
}

#[test]
fn servers_that_are_sold() {
    let announced = Announced { processor: "http://127.0.0.1:4".into(), model: "a/b".into() };
    let seller = |runs, said: Said<Reading>| {
        let known = Known { wallet: "seller".into(), announced: announced.clone(), runs };
        after(|parts| parts.sellers = vec![(known, said)])
    };
    assert_eq!(seller(true, Ok(read(PROCESSOR))), []);
    let dead = PROCESSOR.replace("engine_up{model=\"a/b\"} 1", "engine_up{model=\"a/b\"} 0");
    assert_eq!(seller(true, Ok(read(&dead))), [("seller", Down)]);
    let failing = format!("{PROCESSOR}gristmill_processor_engine_failing{{model=\"a/b\"}} 1\n");
    assert_eq!(seller(true, Ok(read(&failing))), [("seller", Warn)]);
    let failed = PROCESSOR.replace("store_failed 0", "store_failed 1");
    assert_eq!(seller(true, Ok(read(&failed))), [("seller", Down)]);
    assert_eq!(seller(true, hangs()), [("seller", Down)]);
    assert_eq!(seller(false, Err("it does not run".into())), [("seller", Down)]);
}

#[test]
fn claims_near_their_deadline() {
    let claim =
        |left_ms| PendingClaim { channel: ChannelId::new([1; 32]), amount: Amount::from_credits(1), left_ms };
    assert_eq!(after(|parts| parts.claims = Ok(vec![claim(800_000)])), []);
    assert_eq!(after(|parts| parts.claims = Ok(vec![claim(800_000), claim(60_000)])), [("claims", Warn)]);
    // Earnings on a channel that closes go back to the payer.
    for (left, expected) in [("60.5", vec![("claims", Down)]), ("800.0", vec![])] {
        let text = PROCESSOR
            .replace("closing_grains 0", "closing_grains 500")
            .replace("left_seconds 0.0", &format!("left_seconds {left}"));
        assert_eq!(after(|parts| parts.processor = Ok(read(&text))), expected, "{left}");
    }
}

#[test]
fn budgets_and_disks() {
    for (remaining, expected) in
        [(credits(11), vec![]), (credits(9), vec![("key", Warn)]), (json!("0"), vec![("key", Down)])]
    {
        let found = after(|parts| parts.key.as_mut().unwrap()["remaining"] = remaining);
        assert_eq!(found, expected);
    }
    for (free, expected) in
        [(2 << 30, vec![]), (900 << 20, vec![("disk", Warn)]), (100 << 20, vec![("disk", Down)])]
    {
        let facts = Facts { disk: Some(Disk { free, total: 100 << 30 }), ..well() };
        assert_eq!(unwell(&facts), expected, "{free}");
    }
    assert_eq!(unwell(&Facts { disk: None, ..well() }), [("disk", Warn)]);
}
