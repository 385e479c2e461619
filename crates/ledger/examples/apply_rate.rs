//! How fast the state machine alone is, on one core: transfers between many accounts, without
//! signatures, storage or network. The best block is printed beside the median, because on a busy
//! machine the median measures the neighbours, too.
//!
//! `cargo run --release -p gristmill-ledger --example apply_rate`

#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::float_arithmetic,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "an example that measures"
)]

use gristmill_ledger::{
    CheckedTx, Context, Executor, Genesis, GenesisBalance, GenesisIssuer, GenesisValidator, Params,
    Transaction, tx::Transfer,
};
use gristmill_types::{AccountId, Amount, SecretKey, Signature, Signed, StateKey, encode};
use std::{collections::BTreeMap, sync::Arc, time::Instant};

const TRANSFERS: u64 = 200_000;
const PER_BLOCK: usize = 2_000;

fn account(number: u64) -> AccountId {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    SecretKey::from_seed(&seed).account()
}

fn main() {
    for accounts in [100, 10_000] {
        let [checked, applied, best, whole] = measure(accounts);
        println!(
            "{accounts} accounts: {checked:.0} checked/s; {applied:.0} applied/s in the median block, \
             {best:.0} in the best; {whole:.0} with loading and finishing"
        );
    }
}

fn measure(accounts: u64) -> [f64; 4] {
    let people: Vec<AccountId> = (0..accounts).map(account).collect();
    let issuer = account(u64::MAX);
    let genesis = Genesis {
        name: "bench".into(),
        time_ms: 1,
        fee_account: issuer,
        issuers: vec![GenesisIssuer {
            account: issuer,
            name: "bench".into(),
            cap: Amount::from_credits(1 << 60),
            daily_limit: Amount::from_credits(1 << 60),
        }],
        balances: people
            .iter()
            .map(|account| GenesisBalance {
                account: *account,
                issuer,
                amount: Amount::from_credits(1_000_000),
            })
            .collect(),
        validators: vec![GenesisValidator { key: issuer, address: None }],
        params: Params::default(),
    };
    let rules = Arc::new(genesis.rules());
    let mut state: BTreeMap<StateKey, Vec<u8>> =
        genesis.records().iter().map(|record| (record.key(), encode(record))).collect();
    let mut nonces = vec![0; people.len()];
    let txs: Vec<_> = (0..TRANSFERS)
        .map(|n| {
            let from = (n.wrapping_mul(7_919) % accounts) as usize;
            let to = (from + 1 + n as usize % (people.len() - 1)) % people.len();
            let nonce = nonces[from];
            nonces[from] += 1;
            let body = Transfer { to: people[to], issuer, amount: Amount::from_grains(1 + u128::from(n)) };
            let body = Transaction {
                chain: rules.chain,
                sender: people[from],
                nonce,
                fee_issuer: issuer,
                body: body.into(),
            };
            Signed { body, signature: Signature::new([0; 64]) }
        })
        .collect();
    let start = Instant::now();
    let checked: Vec<_> = txs.into_iter().map(|tx| CheckedTx::new(tx, &rules).unwrap()).collect();
    let checking = start.elapsed();
    let (mut applying, mut whole) = (Vec::new(), Vec::new());
    for (height, block) in checked.chunks(PER_BLOCK).enumerate() {
        let height = height as u64 + 1;
        let context = Context { chain: rules.chain, height, time_ms: height, clock_ms: height, epoch: 0 };
        let loaded: Vec<_> = block
            .iter()
            .flat_map(|tx| tx.reads().iter().map(|key| (*key, state.get(key).cloned())))
            .collect();
        let start = Instant::now();
        let mut executor = Executor::new(rules.clone(), context);
        executor.load(loaded);
        let loaded = start.elapsed();
        for tx in block {
            assert_eq!(executor.apply(tx).unwrap().result(), Ok(()));
        }
        applying.push((start.elapsed() - loaded).as_secs_f64());
        let changes = executor.finish();
        whole.push(start.elapsed().as_secs_f64());
        for (key, bytes) in changes {
            match bytes {
                Some(bytes) => state.insert(key, bytes),
                None => state.remove(&key),
            };
        }
    }
    let median = |mut seconds: Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        PER_BLOCK as f64 / seconds[seconds.len() / 2]
    };
    let best = PER_BLOCK as f64 / applying.iter().copied().fold(f64::MAX, f64::min);
    [TRANSFERS as f64 / checking.as_secs_f64(), median(applying), best, median(whole)]
}
