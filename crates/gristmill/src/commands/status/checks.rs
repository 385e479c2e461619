//! The judgement: one line for each part, with a reason, and with what to do where it is not well.

use super::facts::{Facts, Parts, PendingClaim, grains};
use crate::{
    home::{Disk, Stage},
    sell::seller::Known,
};
use gristmill_metrics::Reading;
use gristmill_types::Amount;
use serde::Serialize;
use serde_json::Value;

/// How a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Health {
    Ok,
    Warn,
    Down,
}

impl Health {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Down => "down",
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) state: Health,
    pub(super) reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

impl Check {
    fn ok(name: &'static str, reason: impl Into<String>) -> Self {
        Self { name, state: Health::Ok, reason: reason.into(), next: None }
    }

    fn warn(name: &'static str, reason: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name, state: Health::Warn, reason: reason.into(), next: Some(next.into()) }
    }

    fn down(name: &'static str, reason: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name, state: Health::Down, reason: reason.into(), next: Some(next.into()) }
    }
}

/// Without a block for so long although transactions wait.
const STALLED_WARN_MS: u64 = 5_000;
const STALLED_DOWN_MS: u64 = 30_000;
/// An engine with a job and without a token for so long. A long prompt takes seconds on a small machine.
const SILENT_WARN_S: f64 = 20.0;
const SILENT_DOWN_S: f64 = 90.0;
/// A pending claim is close to its end.
const CLAIM_NEAR_MS: u64 = 120_000;
/// The processor pays one fee for each settlement.
const FEES_LOW: u128 = 20;
/// With less than this in all, a request may need more: 0.05 credits, a hundredth of a usual deposit.
const LITTLE: u128 = 50_000_000;
const MIB: u64 = 1 << 20;

const RESTART: &str = "stop it (Ctrl-C, or kill the process) and start it again: gristmill up";

/// Every line, in the order in which they matter.
pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![exchange(facts)];
    if let Some(parts) = &facts.parts {
        checks.extend([
            ledger(parts),
            money(parts.supply.as_ref(), parts.node.as_ref()),
            processor(parts.processor.as_ref()),
            engine(parts.processor.as_ref()),
        ]);
        checks.extend(parts.sellers.iter().map(|(known, said)| seller(known, said.as_ref())));
        checks.extend([
            gateway(parts.gateway.as_ref()),
            consumer(parts),
            earnings(parts),
            channels(parts),
            claims(parts.claims.as_ref(), parts.processor.as_ref()),
            key(parts.key.as_ref()),
        ]);
    }
    checks.push(disk(facts.disk));
    checks
}

fn exchange(facts: &Facts) -> Check {
    const NAME: &str = "exchange";
    let root = &facts.root;
    match (&facts.stage, &facts.broken) {
        (Stage::Running(running), None) => {
            Check::ok(NAME, format!("runs as process {}, endpoint {}", running.pid, running.base_url))
        }
        (Stage::Running(_), Some(reason)) => Check::down(
            NAME,
            format!("it runs, and cannot be asked: {reason}"),
            "restore the home from a backup",
        ),
        (Stage::Starting, _) => Check::warn(
            NAME,
            format!("`gristmill up` is starting on {root}"),
            "wait until it says that it is ready; it prints what it is doing",
        ),
        (Stage::Stopped, _) if facts.founded => Check::down(
            NAME,
            format!("no exchange is running on the home {root}; its state is there"),
            "start it in another terminal, it goes on with the same balances: gristmill up",
        ),
        (Stage::Stopped, _) => Check::down(
            NAME,
            format!("no exchange is running on the home {root}, and none was ever started there"),
            "start one in another terminal: gristmill up",
        ),
    }
}

fn ledger(parts: &Parts) -> Check {
    const NAME: &str = "ledger";
    let status = match &parts.ledger {
        Ok(status) => status,
        Err(reason) => return Check::down(NAME, format!("the node does not answer: {reason}"), RESTART),
    };
    let (height, waiting) = (status.height, status.waiting);
    let stalled = status.stalled_ms;
    if stalled > STALLED_WARN_MS {
        let reason = format!(
            "no block for {} s although {waiting} transactions wait; the last is block {height}",
            stalled / 1_000
        );
        let next = "see why in the log of `gristmill up --log ledger=info`; if it goes on, start it again";
        let state = if stalled > STALLED_DOWN_MS { Health::Down } else { Health::Warn };
        return Check { state, ..Check::warn(NAME, reason, next) };
    }
    Check::ok(NAME, format!("block {height}, {waiting} transactions waiting"))
}

fn money(
    supply: Result<&gristmill_client::schema::SupplyAnswer, &String>,
    node: Result<&Reading, &String>,
) -> Check {
    const NAME: &str = "money";
    let stop = "stop the exchange (nothing more should be paid), keep the home as it is, and compare it with a backup";
    let refused = ("gristmill_ledger_transactions_refused_total", [("reason", "fault")]);
    if let Ok(node) = node
        && let Some(faults) = node.value(refused.0, &refused.1)
        && faults > 0.0
    {
        return Check::down(
            NAME,
            format!("{faults} transactions would have made or lost credits, and were stopped"),
            stop,
        );
    }
    match supply {
        Ok(supply) if supply.adds_up => {
            let total =
                supply.supplies.iter().fold(Amount::ZERO, |sum, of| sum.checked_add(of.total).unwrap_or(sum));
            Check::ok(NAME, format!("adds up: {total} credits at block {}", supply.height))
        }
        Ok(supply) => {
            let fault =
                supply.faults.first().map_or("an issuer's parts differ from its total", String::as_str);
            Check::down(NAME, format!("does not add up at block {}: {fault}", supply.height), stop)
        }
        Err(reason) => Check::warn(
            NAME,
            format!("could not be added up: {reason}"),
            "see the ledger's line, then try again",
        ),
    }
}

/// What a store and the way to the ledger look like to a role.
fn records(name: &'static str, role: &str, reading: &Reading) -> Option<Check> {
    let value = |metric: &str| reading.value(&format!("gristmill_{role}_{metric}"), &[]);
    if value("store_failed") == Some(1.0) {
        return Some(Check::down(
            name,
            "its records cannot be written any more (a full or failing disk)",
            "free space, check the disk, then start the exchange again: gristmill up",
        ));
    }
    (value("ledger_up") == Some(0.0))
        .then(|| Check::warn(name, "it gets no answer from the ledger", "see the ledger's line"))
}

fn processor(reading: Result<&Reading, &String>) -> Check {
    const NAME: &str = "processor";
    let reading = match reading {
        Ok(reading) => reading,
        Err(reason) => return Check::down(NAME, format!("it does not answer: {reason}"), RESTART),
    };
    if let Some(check) = records(NAME, "processor", reading) {
        return check;
    }
    let value =
        |metric: &str| reading.value(&format!("gristmill_processor_{metric}"), &[]).unwrap_or_default();
    Check::ok(
        NAME,
        format!(
            "answers; {} requests under way, {} served",
            value("requests_running"),
            value("requests_total")
        ),
    )
}

fn engine(reading: Result<&Reading, &String>) -> Check {
    const NAME: &str = "engine";
    let Ok(reading) = reading else {
        return Check::down(NAME, "not known: the processor does not answer", "see the processor's line");
    };
    let all = |metric: &'static str| reading.samples.iter().filter(move |sample| sample.name == metric);
    let sum = |metric| all(metric).map(|sample| sample.value).sum::<f64>();
    let dead: Vec<&str> = all("gristmill_processor_engine_up")
        .filter(|sample| sample.value == 0.0)
        .filter_map(|sample| sample.labels.get("model").map(String::as_str))
        .collect();
    if !dead.is_empty() {
        return Check::down(NAME, format!("the engine of {} has ended", dead.join(", ")), RESTART);
    }
    let models = all("gristmill_processor_engine_up").count();
    if models == 0 {
        return Check::down(
            NAME,
            "no model is served",
            "publish one: gristmill model publish DIR --name me/model",
        );
    }
    let silent = sum("gristmill_processor_engine_silent_seconds");
    let (running, queued) =
        (sum("gristmill_processor_engine_running"), sum("gristmill_processor_engine_queued"));
    if silent > SILENT_WARN_S {
        let reason =
            format!("no token for {silent:.0} s, with {running} answers under way and {queued} waiting");
        let state = if silent > SILENT_DOWN_S { Health::Down } else { Health::Warn };
        let next = "a long prompt may take that; if it goes on, start the exchange again: gristmill up";
        return Check { state, ..Check::warn(NAME, reason, next) };
    }
    if running + queued >= sum("gristmill_processor_engine_places") {
        let next = "further requests are refused until some end; sell on more machines, or raise the price";
        return Check::warn(NAME, format!("full: {running} answers under way, {queued} waiting"), next);
    }
    let plural = if models == 1 { "" } else { "s" };
    Check::ok(NAME, format!("serves {models} model{plural}; {running} answers under way, {queued} waiting"))
}

/// A server that `sell` sells.
fn seller(known: &Known, reading: Result<&Reading, &String>) -> Check {
    const NAME: &str = "seller";
    let (wallet, model) = (&known.wallet, &known.announced.model);
    if !known.runs {
        let reason =
            format!("`{wallet}` ended without withdrawing its offer of {model}: requests for it fail");
        let next =
            format!("start it as before, or withdraw the offer: gristmill sell --withdraw --wallet {wallet}");
        return Check::down(NAME, reason, next);
    }
    let again = format!("stop `gristmill sell --wallet {wallet}`, and start it again");
    let reading = match reading {
        Ok(reading) => reading,
        Err(reason) => return Check::down(NAME, format!("`{wallet}` does not answer: {reason}"), again),
    };
    if let Some(check) = records(NAME, "processor", reading) {
        return Check { reason: format!("`{wallet}`: {}", check.reason), ..check };
    }
    let of = |metric: &str| reading.value(&format!("gristmill_processor_{metric}"), &[]).unwrap_or_default();
    if of("engine_up") == 0.0 {
        let reason = format!(
            "`{wallet}`: the server that sells as {model} cannot be reached; requests for it go to others, if there are"
        );
        let next = "start that server again; it is looked for every few seconds";
        return Check::down(NAME, reason, next);
    }
    if of("engine_failing") == 1.0 {
        let reason = format!("`{wallet}`: the server that sells as {model} failed at its last request");
        let next = "see that server's log; the next request that it answers ends this line";
        return Check::warn(NAME, reason, next);
    }
    Check::ok(NAME, format!("`{wallet}` sells {model}; {} requests so far", of("requests_total")))
}

fn gateway(reading: Result<&Reading, &String>) -> Check {
    const NAME: &str = "gateway";
    let reading = match reading {
        Ok(reading) => reading,
        Err(reason) => return Check::down(NAME, format!("it does not answer: {reason}"), RESTART),
    };
    if let Some(check) = records(NAME, "gateway", reading) {
        return check;
    }
    let requests = |outcome: &[(&str, &str)]| {
        reading.value("gristmill_gateway_requests_total", outcome).unwrap_or_default()
    };
    let (all, paid) = (requests(&[]), requests(&[("outcome", "paid")]));
    Check::ok(NAME, format!("answers; {paid} of {all} requests since its start were answered and paid"))
}

fn credits(grains: u128) -> String {
    format!("{} credits", Amount::from_grains(grains))
}

/// Whether the paying account can open and top up channels.
fn consumer(parts: &Parts) -> Check {
    const NAME: &str = "consumer";
    let balances = match &parts.balances {
        Ok(balances) => balances,
        Err(reason) => {
            return Check::warn(NAME, format!("its balance is not known: {reason}"), "see the ledger's line");
        }
    };
    let balance = grains(&balances[crate::wallet::CONSUMER]);
    let (spendable, next) = spendable(parts, balance);
    let free = free(parts.channels.as_ref());
    let mut holds = format!("holds {}, and {} to spend in channels", credits(balance), credits(free));
    if spendable == 0 && balance > 0 && is_revoked(parts) {
        holds.push_str("; its spending key is revoked");
    } else if spendable < balance {
        holds = format!("{holds}; its spending key may use {}", credits(spendable));
    }
    let tops_up = tops_up(parts, spendable);
    match (if tops_up { spendable } else { 0 }).saturating_add(free) {
        0 => Check::down(NAME, format!("{holds}: it can pay for nothing"), next),
        1..LITTLE => Check::warn(NAME, format!("{holds}: so little that requests may be refused"), next),
        _ if !tops_up => {
            Check::warn(NAME, format!("{holds}: when that is spent, requests are refused"), next)
        }
        _ => Check::ok(NAME, holds),
    }
}

/// Whether the key that the gateway spends with is none that the ledger knows, or not any more.
fn is_revoked(parts: &Parts) -> bool {
    parts.running.limited && matches!(parts.spending_key, Ok(None))
}

/// What the gateway may put into channels, and how that becomes more: not all of the balance, where it signs
/// with a key that has a limit.
fn spendable(parts: &Parts, balance: u128) -> (u128, &'static str) {
    let gauge =
        |name: &str| parts.gateway.as_ref().ok()?.value(&format!("gristmill_gateway_{name}_grains"), &[]);
    // Both were read at one moment, which is some seconds ago.
    match (gauge("account"), gauge("spendable")) {
        (Some(account), Some(spendable)) if spendable < account && parts.lifted => {
            let next =
                "stop the exchange and start it again: then it pays with the wallet itself: gristmill up";
            (balance.min(spendable as u128), next)
        }
        (Some(account), Some(spendable)) if spendable < account && is_revoked(parts) => {
            let next =
                "let its key spend again: gristmill wallet key create gateway-vouchers --limit CREDITS";
            (balance.min(spendable as u128), next)
        }
        (Some(account), Some(spendable)) if spendable < account => {
            let next = "raise its key's limit: gristmill wallet key create gateway-vouchers --limit CREDITS";
            (balance.min(spendable as u128), next)
        }
        _ => (balance, "put credits into its account: gristmill credits issue 100 --deposit REFERENCE"),
    }
}

/// Whether that is enough to open or top up a channel at all.
fn tops_up(parts: &Parts, spendable: u128) -> bool {
    let fee = parts.fees.open_channel.max(parts.fees.top_up).grains();
    spendable >= fee.saturating_add(parts.min_deposit.grains())
}

/// Whether the processor can bring what it earned to the ledger.
fn earnings(parts: &Parts) -> Check {
    const NAME: &str = "earnings";
    let balances = match &parts.balances {
        Ok(balances) => balances,
        Err(reason) => {
            return Check::warn(
                NAME,
                format!("the processor's balance is not known: {reason}"),
                "see the ledger's line",
            );
        }
    };
    let (balance, fee) = (grains(&balances["processor"]), parts.fees.settle.grains());
    let of = |metric: &str| {
        let reading = parts.processor.as_ref().ok();
        reading
            .and_then(|reading| reading.value(&format!("gristmill_processor_{metric}_grains"), &[]))
            .unwrap_or_default()
    };
    let waiting = of("approved") + of("unapproved") + of("pending");
    let holds =
        format!("the processor holds {}; {} wait to be settled", credits(balance), credits(waiting as u128));
    let next =
        "send it some, once in a while: gristmill wallet send 1 ADDRESS (gristmill wallet show processor)";
    if balance < fee {
        let reason = format!("{holds}: it cannot pay the fee of {} for a settlement", credits(fee));
        Check::down(NAME, reason, next)
    } else if balance < fee.saturating_mul(FEES_LOW) {
        Check::warn(NAME, format!("{holds}: enough for {} settlements", balance / fee.max(1)), next)
    } else {
        Check::ok(NAME, holds)
    }
}

fn list(channels: &Value) -> impl Iterator<Item = &Value> {
    channels["channels"].as_array().into_iter().flatten()
}

/// What is free in a channel, or is held ahead of requests: what idle lanes hold is used before anything is refused.
fn unspent(channel: &Value) -> u128 {
    grains(&channel["free"]).saturating_add(grains(&channel["held"]))
}

fn free(channels: Result<&Value, &String>) -> u128 {
    let open = channels.into_iter().flat_map(list).filter(|channel| channel["state"] == "open");
    open.map(unspent).sum()
}

fn channels(parts: &Parts) -> Check {
    const NAME: &str = "channels";
    let channels = match &parts.channels {
        Ok(channels) => channels,
        Err(reason) => return Check::down(NAME, format!("not known: {reason}"), "see the gateway's line"),
    };
    let in_doubt = |channel: &Value| channel["in_doubt"].as_u64().unwrap_or_default();
    if let Some(first) = list(channels).find(|channel| in_doubt(channel) > 0) {
        let all: u64 = list(channels).map(in_doubt).sum();
        let digits = |of: &Value| of.as_str().unwrap_or_default().chars().take(8).collect::<String>();
        let (channel, processor) = (digits(&first["id"]), digits(&first["processor"]));
        let lanes = if all == 1 { "1 lane waits".to_owned() } else { format!("{all} lanes wait") };
        let reason = format!(
            "{lanes} to be compared with the processor's copy, first on channel {channel} with processor {processor}; \
             what is held there stays so ({} on this channel)",
            credits(grains(&first["held"]))
        );
        let next = format!(
            "it goes on by itself once that processor answers; where it does not come back: gristmill channel close \
             {channel}"
        );
        return Check::warn(NAME, reason, next);
    }
    let open: Vec<&Value> = list(channels).filter(|channel| channel["state"] == "open").collect();
    let closing = list(channels).filter(|channel| channel["state"] == "closing").count();
    let nearly_spent = |channel: &&&Value| {
        let (deposit, settled) = (grains(&channel["deposit"]), grains(&channel["settled"]));
        unspent(channel).saturating_mul(10) < deposit.saturating_sub(settled)
    };
    let balance = parts.balances.as_ref().map_or(0, |balances| grains(&balances[crate::wallet::CONSUMER]));
    let (spendable, next) = spendable(parts, balance);
    let low = open.iter().filter(nearly_spent).count();
    if low > 0 && !tops_up(parts, spendable) {
        return Check::warn(
            NAME,
            format!("{low} of {} nearly spent, and nothing is there to top up from", open.len()),
            next,
        );
    }
    let closing = if closing == 0 { String::new() } else { format!(", {closing} closing") };
    let low =
        if low == 0 { String::new() } else { format!("; {low} nearly spent, topped up when it is needed") };
    Check::ok(NAME, format!("{} open{closing}, {} not spent{low}", open.len(), credits(free(Ok(channels)))))
}

/// Claims that are paid, or lost, soon.
fn claims(claims: Result<&Vec<PendingClaim>, &String>, processor: Result<&Reading, &String>) -> Check {
    const NAME: &str = "claims";
    if let Ok(reading) = processor {
        let value = |metric| reading.value(metric, &[]).unwrap_or_default();
        let (owed, left) =
            (value("gristmill_processor_closing_grains"), value("gristmill_processor_closing_left_seconds"));
        if owed > 0.0 && left * 1e3 < CLAIM_NEAR_MS as f64 {
            let reason = format!(
                "{} are unclaimed on channels that close, the first in {left:.0} s; then they go back to the payer",
                credits(owed as u128)
            );
            return Check::down(
                NAME,
                reason,
                "see that the processor can pay fees, and that the ledger makes blocks",
            );
        }
    }
    let claims = match claims {
        Ok(claims) => claims,
        Err(reason) => {
            return Check::warn(NAME, format!("not known: {reason}"), "see the lines of ledger and gateway");
        }
    };
    let Some(first) = claims.iter().min_by_key(|claim| claim.left_ms) else {
        return Check::ok(NAME, "none is pending");
    };
    let (number, seconds) = (claims.len(), first.left_ms / 1_000);
    let about = format!(
        "{number} pending; the first, {} on channel {}, is paid in {seconds} s of ledger time",
        credits(first.amount.grains()),
        first.channel.short()
    );
    if first.left_ms < CLAIM_NEAR_MS {
        let next = "the gateway contests what is above its receipts, if it runs: see its line; compare with gristmill receipt list";
        return Check::warn(NAME, about, next);
    }
    Check::ok(NAME, about)
}

fn key(key: Result<&Value, &String>) -> Check {
    const NAME: &str = "key";
    let key = match key {
        Ok(key) => key,
        Err(reason) => {
            let next = "see the gateway's line; if the key was revoked, stop the exchange, then start it again: gristmill up";
            return Check::down(NAME, format!("its budget is not known: {reason}"), next);
        }
    };
    let (limit, spent, remaining) = (grains(&key["limit"]), grains(&key["spent"]), grains(&key["remaining"]));
    let held = match grains(&key["held"]) {
        0 => String::new(),
        held => format!(", {} held for requests", credits(held)),
    };
    let about = format!("spent {} of {}{held}, {} left", credits(spent), credits(limit), credits(remaining));
    let next = "requests are refused when nothing is left; raise it: gristmill api-key budget up CREDITS";
    if remaining == 0 {
        Check::down(NAME, about, next)
    } else if remaining.saturating_mul(10) < limit {
        Check::warn(NAME, about, next)
    } else {
        Check::ok(NAME, about)
    }
}

fn disk(disk: Option<Disk>) -> Check {
    const NAME: &str = "disk";
    let Some(disk) = disk else {
        return Check::warn(NAME, "its free space is not known", "see that the home is readable");
    };
    let about = format!("{} MiB free of {} MiB", disk.free / MIB, disk.total / MIB);
    let next = "free some space; a full disk stops ledger, processor and gateway";
    if disk.is_full() {
        Check::down(NAME, about, next)
    } else if disk.is_low() {
        Check::warn(NAME, about, next)
    } else {
        Check::ok(NAME, about)
    }
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
