//! Files of a home that were cut or have flipped bits: `up` goes on with the same books, or refuses with a
//! message that names the file or its folder and says what to do, and has changed nothing.
//!
//! The short form damages each kind of file once. `cargo xtask crash --damage [--seed N]` damages every
//! file several times.

use crate::{
    exchange::{Exchange, grains, program, run},
    sell::{good, server, settled},
};
use gristmill_net::peer::ChannelState;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How many damages each file gets, and the seed; set by `cargo xtask crash --damage`.
const EACH: &str = "GRISTMILL_DAMAGE_EACH";
const SEED: &str = "GRISTMILL_CRASH_SEED";
const SHORT_SEED: u64 = 4217;

/// What was done to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// Only so many bytes are left.
    Cut(usize),
    /// This bit is another.
    Flip(usize, u8),
}

impl Damage {
    fn any(random: &mut fastrand::Rng, content: &[u8]) -> Self {
        let length = content.len();
        match random.u8(0..8) {
            0 => Self::Cut(0),
            1 => Self::Cut(length - 1),
            2 => Self::Cut(random.usize(0..length)),
            _ => {
                // Half of them where there is something: many files are mostly empty.
                let some: Vec<usize> = (0..length).filter(|at| content[*at] != 0).collect();
                let at = match random.choice(&some) {
                    Some(at) if random.bool() => *at,
                    _ => random.usize(0..length),
                };
                Self::Flip(at, random.u8(0..8))
            }
        }
    }

    fn apply(self, content: &mut Vec<u8>) {
        match self {
            Self::Cut(length) => content.truncate(length),
            Self::Flip(at, bit) => content[at] ^= 1 << bit,
        }
    }
}

/// Files that hold nothing: locks, and what every start makes anew.
fn holds_nothing(name: &str) -> bool {
    name.ends_with("lock") || name.ends_with("-shm") || name.ends_with(".hold") || name == "run.json"
}

/// All files below a folder, by their path in it.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else {
                let name = path.to_str().unwrap().to_owned();
                found.insert(name, std::fs::read(root.join(&path)).unwrap());
            }
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    for (name, content) in files(from) {
        let path = to.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(
            &path,
            std::fs::metadata(from.join(path.strip_prefix(to).unwrap())).unwrap().permissions(),
        )
        .unwrap();
    }
}

/// What a damaged home that still works must show, when all is in order.
fn figures(exchange: &Exchange) -> BTreeMap<String, Value> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let channel = loop {
        let channels = exchange.json(&["channel", "list"]);
        let of = channels["channels"][0].clone();
        // Less than that is not worth a settlement.
        if of["in_doubt"] == 0 && grains(&of["spent"]) < grains(&of["settled"]) + 100_000 {
            break of;
        }
        assert!(Instant::now() < deadline, "not in order: {channels}");
        std::thread::sleep(Duration::from_millis(100));
    };
    let receipts = exchange.json(&["receipt", "list", "--limit", "1000"]);
    let supply = exchange.json(&["ledger", "supply"]);
    assert_eq!(supply["adds_up"], true, "{supply}");
    let ids = |of: &Value| of.as_array().unwrap().iter().map(|of| of["id"].clone()).collect::<Vec<_>>();
    [
        ("consumer", exchange.balance("consumer").to_string().into()),
        ("modeler", exchange.balance("modeler").to_string().into()),
        ("royalties", exchange.royalties().to_string().into()),
        ("deposit", channel["deposit"].clone()),
        ("spent", channel["spent"].clone()),
        ("settled", channel["settled"].clone()),
        ("channel", channel["id"].clone()),
        ("key", exchange.status()["key"]["spent"].clone()),
        ("receipts", ids(&receipts["receipts"]).into()),
        ("supply", supply["total"].clone()),
        ("first block", exchange.json(&["ledger", "block", "2"])["block"]["hash"].clone()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// A home with some history, as it is after a clean stop, or after a kill.
fn history(home: &Path, killed: bool) {
    let exchange = Exchange::start(home);
    for number in 1..=6 {
        exchange.json(&["ask", &format!("Spell {number} in English")]);
    }
    figures(&exchange);
    if killed { exchange.kill() } else { exchange.stop() }
}

/// How an `up` on a damaged home ended.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Same,
    Refused,
}

fn try_damaged(home: &Path, name: &str, backup: &Path, expected: &BTreeMap<String, Value>) -> Outcome {
    let before = files(home);
    let mut exchange = Exchange::spawn(home, &[]);
    let Some(status) = exchange.outcome() else {
        assert_eq!(&figures(&exchange), expected, "other books than before");
        assert_eq!(exchange.json(&["ask", "Spell 2 in English"])["answer"], "two");
        let (status, stderr) = exchange.kill_or_ended();
        assert!(status.code().is_none(), "it ended by itself: {status} {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        return Outcome::Same;
    };
    let stderr = exchange.stderr();
    assert!(!status.success(), "it said nothing of what is wrong");
    assert!(!stderr.contains("panicked") && !stderr.contains("stack backtrace"), "{stderr}");
    let error = stderr.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let error = error.unwrap_or_else(|| panic!("no error came: {stderr}"));
    let (message, next) = (&error["error"]["message"], &error["error"]["next"]);
    let folder = name.split('/').next().unwrap();
    assert!(message.as_str().unwrap().contains(folder), "it names another place: {error}");
    assert!(next.as_str().is_some_and(|next| next.len() > 10), "it does not say what to do: {error}");
    let after = files(home);
    let changed = before.iter().filter(|(name, content)| {
        // The ledger's engine cuts what is torn when it opens its files.
        let may_change = holds_nothing(name) || folder == "ledger" && name.starts_with("ledger/");
        !may_change && after.get(*name) != Some(*content)
    });
    let changed: Vec<&String> = changed.map(|(name, _)| name).collect();
    if !changed.is_empty() {
        // The engine reads some blocks only when the other parts have started. Their records are newer then,
        // and with the ledger from a backup all is as it was.
        let roles = |name: &str| name.starts_with("processor/") || name.starts_with("gateway/");
        assert!(folder == "ledger" && changed.iter().all(|of| roles(of)), "it changed {changed:?}: {error}");
        std::fs::remove_dir_all(home.join("ledger")).unwrap();
        copy(&backup.join("ledger"), &home.join("ledger"));
        let exchange = Exchange::start(home);
        assert_eq!(&figures(&exchange), expected, "other books with the ledger from a backup");
        exchange.kill();
    }
    Outcome::Refused
}

#[test]
fn cut_and_flipped_files_are_recovered_or_refused() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number(SEED).unwrap_or(SHORT_SEED);
    let each = number(EACH);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let bases = [false, true].map(|killed| {
        let home = folder.path().join(if killed { "killed" } else { "stopped" });
        history(&home, killed);
        let copied = folder.path().join("intact");
        copy(&home, &copied);
        let exchange = Exchange::start(&copied);
        let expected = figures(&exchange);
        exchange.kill();
        std::fs::remove_dir_all(&copied).unwrap();
        (home, expected)
    });
    let mut count: BTreeMap<(String, Outcome), usize> = BTreeMap::new();
    for (home, expected) in &bases {
        for (name, content) in chosen(home, each.is_some(), &mut random) {
            for _ in 0..each.unwrap_or(1) {
                let damage = Damage::any(&mut random, &content);
                let copied = folder.path().join("damaged");
                copy(home, &copied);
                let mut damaged = content.clone();
                damage.apply(&mut damaged);
                std::fs::write(copied.join(&name), damaged).unwrap();
                println!("{name}: {damage:?}");
                let outcome = try_damaged(&copied, &name, home, expected);
                let kind = name.split('/').take(2).collect::<Vec<_>>().join("/");
                *count.entry((kind, outcome)).or_default() += 1;
                std::fs::remove_dir_all(&copied).unwrap();
            }
        }
    }
    for ((kind, outcome), times) in count {
        println!("{kind:<40} {outcome:?} {times}");
    }
}

/// Every file, or some of each kind.
fn chosen(home: &Path, all: bool, random: &mut fastrand::Rng) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = files(home)
        .into_iter()
        .filter(|(name, content)| !holds_nothing(name) && !content.is_empty())
        .collect();
    if !all {
        random.shuffle(&mut found);
        let mut left: BTreeMap<&str, u8> =
            [("ledger/chain", 3), ("gateway", 1), ("processor", 1), ("ledger", 1), ("", 2)].into();
        found.retain(|(name, _)| {
            let kinds = ["ledger/chain", "gateway", "processor", "ledger"];
            let kind = kinds.into_iter().find(|kind| name.starts_with(kind)).unwrap_or("");
            let left = left.get_mut(kind).unwrap();
            let taken = *left > 0;
            *left = left.saturating_sub(1);
            taken
        });
    }
    found
}

#[test]
fn lost_outcomes_of_blocks_are_computed_again() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    history(&home, false);
    for part in ["key", "value"] {
        let path = home.join(format!("ledger/chain/v-outcomes-{part}/0000000000000000"));
        let content = std::fs::read(&path).unwrap();
        std::fs::write(&path, &content[..content.len() / 2]).unwrap();
    }
    let exchange = Exchange::start(&home);
    assert!(exchange.stderr().contains("computed again"), "{}", exchange.stderr());
    // Every transaction of every block can be looked up again, with its proof.
    let height = exchange.json(&["ledger", "block"])["block"]["height"].as_u64().unwrap();
    let mut found = 0;
    for height in 1..=height {
        let block = exchange.json(&["ledger", "block", &height.to_string()]);
        for hash in block["block"]["transactions"].as_array().unwrap() {
            let tx = exchange.json(&["ledger", "tx", hash.as_str().unwrap()]);
            assert_eq!((&tx["verified"], &tx["height"]), (&Value::Bool(true), &height.into()));
            found += 1;
        }
    }
    assert!(found > 5, "{found}");
    exchange.stop();
}

#[test]
fn a_ledger_that_went_back_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    history(&home, false);
    let older = folder.path().join("older");
    copy(&home.join("ledger/chain"), &older);
    let exchange = Exchange::start(&home);
    exchange.json(&["wallet", "create", "alice"]);
    let alice = exchange.json(&["wallet", "show", "alice"])["address"].as_str().unwrap().to_owned();
    exchange.json(&["wallet", "send", "1", &alice]);
    exchange.stop();
    let newer = folder.path().join("newer");
    std::fs::rename(home.join("ledger/chain"), &newer).unwrap();
    let error = |home: &Path| String::from_utf8(run(home, &["up"]).stderr).unwrap();
    assert!(error(&home).contains("ledger/chain is missing"));
    copy(&older, &home.join("ledger/chain"));
    let refused = error(&home);
    assert!(refused.contains("was reported as final") && refused.contains("next:"), "{refused}");
    std::fs::remove_dir_all(home.join("ledger/chain")).unwrap();
    std::fs::rename(&newer, home.join("ledger/chain")).unwrap();
    let exchange = Exchange::start(&home);
    assert_eq!(exchange.balance("alice"), 1_000_000_000);
    exchange.stop();
}

/// What a seller's books say was spent in the channel.
async fn sold(endpoint: &Value, channel: &str) -> u128 {
    let url = format!("{}/v1/channels/{channel}", endpoint.as_str().unwrap());
    let answer = gristmill_net::http::client().unwrap().get(url).send().await.unwrap();
    let lanes = ChannelState::parse(&answer.bytes().await.unwrap()).unwrap().lanes;
    lanes.iter().filter_map(|lane| lane.receipt.as_ref()).map(|of| of.0.body.spent.grains()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sellers_damaged_records_are_recovered_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let peer = server(good).await;
    let exchange = Exchange::start(&home);
    let arguments = ["--upstream", &peer.url];
    let seller = Exchange::sell(&home, &arguments);
    let account = seller.ready["processor"].clone();
    exchange.json(&["ask", "--model", "upstream/tiny", "Salem"]);
    let earned = settled(&exchange, &account).await;
    let channels = exchange.json(&["channel", "list"])["channels"].as_array().unwrap().clone();
    let channel = channels.iter().find(|of| of["processor"] == account).unwrap()["id"].as_str().unwrap();
    assert_eq!(sold(&seller.ready["endpoint"], channel).await, earned);
    seller.stop();
    let (records, intact) = (home.join("sellers/seller"), folder.path().join("intact"));
    copy(&records, &intact);

    let mut random = fastrand::Rng::with_seed(SHORT_SEED);
    let mut damages = vec![("processor.db".to_owned(), Damage::Cut(0))];
    for (name, content) in files(&intact) {
        if name.starts_with("processor.db") && !holds_nothing(&name) {
            damages.extend((0..3).map(|_| (name.clone(), Damage::any(&mut random, &content))));
        }
    }
    let mut refused = 0;
    for (name, damage) in damages {
        println!("{name}: {damage:?}");
        let mut content = std::fs::read(records.join(&name)).unwrap();
        damage.apply(&mut content);
        std::fs::write(records.join(&name), &content).unwrap();
        let mut seller = Exchange::spawn_command(&home, "sell", &arguments, &mut program());
        if seller.outcome().is_none() {
            assert_eq!(sold(&seller.ready["endpoint"], channel).await, earned);
            seller.kill();
        } else {
            let stderr = seller.stderr();
            assert!(stderr.contains("sellers/seller") && stderr.contains("from a backup"), "{stderr}");
            assert_eq!(std::fs::read(records.join(&name)).unwrap(), content, "it was changed: {stderr}");
            refused += 1;
        }
        std::fs::remove_dir_all(&records).unwrap();
        copy(&intact, &records);
    }
    assert!(refused > 0, "an empty file is refused");
    let seller = Exchange::sell(&home, &arguments);
    exchange.json(&["ask", "--model", "upstream/tiny", "Salem"]);
    assert_eq!(settled(&exchange, &account).await, 2 * earned);
    seller.stop();
    exchange.stop();
}
