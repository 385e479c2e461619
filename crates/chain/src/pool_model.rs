//! The pool against a naive model of a ledger: whatever happens, a place is taken exactly as long as
//! somebody is waiting for an answer, and in the end everybody has one.

use crate::{
    block::Tx,
    pool::{Answer, Limits, PARKED_FOR, Pool, Refusal, Taken, Verdict},
    pool_tests::{digest, other_tx},
};
use gristmill_ledger::Body;
use gristmill_types::{AccountId, TxHash};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, Instant},
};
use tokio::sync::oneshot::{self, error::TryRecvError};

const LIMITS: Limits = Limits { count: 9, bytes: 1 << 20, per_sender: 5 };

#[derive(Clone, Debug)]
enum Op {
    /// A transaction comes. Of several with one nonce, the last kind cannot pay its fee.
    Insert { sender: u8, nonce: u64, kind: u8 },
    /// A block is begun.
    Take { most: usize },
    /// It is executed and proposed.
    Build,
    /// It is given up.
    GiveUp,
    /// It is final.
    Win,
    /// Another block of its height is final; it holds one transaction, which may not have come here.
    Lose { sender: u8, kind: u8 },
    /// Its view is skipped.
    Skip,
    /// The oldest final block is published.
    Publish,
    /// Time goes by.
    Wait { seconds: u64 },
}

const KINDS: u8 = 3;

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0u8..3, 0u64..6, 0..KINDS).prop_map(|(sender, nonce, kind)| Op::Insert { sender, nonce, kind }),
        5 => (1usize..6).prop_map(|most| Op::Take { most }),
        5 => Just(Op::Build),
        1 => Just(Op::GiveUp),
        3 => Just(Op::Win),
        2 => (0u8..3, 0..KINDS - 1).prop_map(|(sender, kind)| Op::Lose { sender, kind }),
        1 => Just(Op::Skip),
        3 => Just(Op::Publish),
        1 => (1u64..8).prop_map(|seconds| Op::Wait { seconds }),
    ]
}

/// A transaction that the pool has taken and not answered.
struct Alive {
    tx: Tx,
    /// It is in no final block, so it takes room.
    counted: bool,
    answers: Vec<oneshot::Receiver<Answer>>,
}

struct World {
    pool: Pool,
    now: Duration,
    /// The ledger: next nonces after the last final block, and in which block each transaction is.
    nonces: HashMap<AccountId, u64>,
    heights: HashMap<TxHash, u64>,
    height: u64,
    view: u64,
    building: Option<Taken>,
    proposed: Vec<Tx>,
    unpublished: VecDeque<(u64, Vec<Tx>)>,
    alive: BTreeMap<TxHash, Alive>,
}

fn kind_of(sender: u8, nonce: u64, kind: u8) -> Tx {
    other_tx(sender, nonce, u128::from(kind) + 1)
}

fn place(tx: &Tx) -> (AccountId, u64) {
    (tx.signed().body.sender, tx.signed().body.nonce)
}

fn can_pay(tx: &Tx) -> bool {
    let Body::Transfer(transfer) = &tx.signed().body.body else { return false };
    transfer.amount.grains() < u128::from(KINDS)
}

impl World {
    fn new() -> Self {
        Self {
            pool: Pool::new(LIMITS),
            now: Duration::from_secs(1_000),
            nonces: HashMap::new(),
            heights: HashMap::new(),
            height: 1,
            view: 1,
            building: None,
            proposed: Vec::new(),
            unpublished: VecDeque::new(),
            alive: BTreeMap::new(),
        }
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Insert { sender, nonce, kind } => self.insert(&kind_of(sender, nonce, kind)),
            Op::Take { most } if self.building.is_none() && self.proposed.is_empty() => self.take(most),
            Op::Take { .. } => {}
            Op::Build => self.build(),
            Op::GiveUp => self.building = None,
            Op::Win => {
                let txs = std::mem::take(&mut self.proposed);
                if !txs.is_empty() {
                    self.win(1, txs);
                }
            }
            Op::Lose { sender, kind } => {
                let next = |account| self.nonces.get(&account).copied().unwrap_or(0);
                let nonce = next(place(&kind_of(sender, 0, 0)).0);
                self.proposed.clear();
                self.win(2, vec![kind_of(sender, nonce, kind)]);
                self.building = None;
            }
            Op::Skip => {
                self.pool.skipped_after(self.view - 1);
                self.proposed.clear();
            }
            Op::Publish => self.publish(),
            Op::Wait { seconds } => {
                self.now += Duration::from_secs(seconds);
                self.pool.expire(self.now);
            }
        }
        self.check();
    }

    fn insert(&mut self, tx: &Tx) {
        let (sender, nonce) = place(tx);
        let known = self.alive.contains_key(&tx.hash());
        let full = self.alive.len() >= LIMITS.count;
        let of_sender = |alive: &&Alive| alive.counted && place(&alive.tx).0 == sender;
        let sender_full = self.alive.values().filter(of_sender).count() >= LIMITS.per_sender;
        let (waiter, mut answer) = oneshot::channel();
        match self.pool.insert(tx.clone(), Some(waiter), self.now) {
            Ok(()) => {
                assert!(known || (!full && !sender_full));
                let fresh = Alive { tx: tx.clone(), counted: true, answers: Vec::new() };
                self.alive.entry(tx.hash()).or_insert(fresh).answers.push(answer);
            }
            Err(refusal) => {
                assert_eq!(answer.try_recv().unwrap().unwrap_err(), refusal);
                match refusal {
                    Refusal::Full => assert!(full && !known),
                    Refusal::SenderFull => assert!(sender_full && !known),
                    _ => assert!(self.alive.values().any(|alive| place(&alive.tx) == (sender, nonce))),
                }
            }
        }
    }

    fn take(&mut self, most: usize) {
        self.building = Some(self.pool.take(most, usize::MAX, self.now));
    }

    fn build(&mut self) {
        let Some(mut taken) = self.building.take() else { return };
        let mut nonces = self.nonces.clone();
        let mut refused = Vec::new();
        for (position, tx) in taken.txs().iter().enumerate() {
            let (sender, nonce) = place(tx);
            let expected = nonces.entry(sender).or_default();
            let refusal = Refusal::bad_signature();
            let verdict = match self.heights.get(&tx.hash()) {
                _ if nonce > *expected => Verdict::Ahead { expected: *expected },
                Some(height) => {
                    if let Some(alive) = self.alive.get_mut(&tx.hash()) {
                        alive.counted = false;
                    }
                    Verdict::Final { height: *height, refusal }
                }
                None if nonce < *expected || !can_pay(tx) => Verdict::Never(refusal),
                None => {
                    *expected += 1;
                    continue;
                }
            };
            refused.push((position, verdict));
        }
        self.proposed = taken.refuse(refused, self.now);
        if !self.proposed.is_empty() {
            self.view += 1;
            taken.propose(self.height + 1, self.view, digest(1));
        }
    }

    /// A block of the next height is final.
    fn win(&mut self, block: u8, txs: Vec<Tx>) {
        self.height += 1;
        for tx in &txs {
            let (sender, nonce) = place(tx);
            self.nonces.insert(sender, nonce + 1);
            self.heights.insert(tx.hash(), self.height);
            if let Some(alive) = self.alive.get_mut(&tx.hash()) {
                alive.counted = false;
            }
        }
        self.pool.finalized(self.height, &digest(block), &txs);
        self.unpublished.push_back((self.height, txs));
    }

    fn publish(&mut self) {
        let Some((height, txs)) = self.unpublished.pop_front() else { return };
        let hashes: Vec<_> = txs.iter().map(Tx::hash).collect();
        let told: BTreeMap<u32, usize> = self
            .pool
            .settle(height, hashes.iter())
            .into_iter()
            .map(|(position, waiters)| (position, waiters.len()))
            .collect();
        for (position, hash) in (0..).zip(hashes) {
            let expected = self.alive.remove(&hash).map_or(0, |alive| alive.answers.len());
            assert_eq!(told.get(&position).copied().unwrap_or(0), expected);
        }
    }

    /// Nobody has a place without waiting for an answer, and nobody waits without a place.
    fn check(&mut self) {
        self.alive.retain(|_, alive| {
            let answers = alive.answers.iter_mut().map(oneshot::Receiver::try_recv);
            let open = answers.filter(|answer| match answer {
                Err(TryRecvError::Empty) => true,
                Ok(Err(_)) => false,
                other => panic!("somebody heard {other:?}"),
            });
            let open = open.count();
            assert!(open == 0 || open == alive.answers.len());
            open > 0
        });
        assert_eq!(self.pool.len(), self.alive.len());
        assert!(self.alive.keys().all(|hash| self.pool.knows(hash)));
        let counted = self.alive.values().filter(|alive| alive.counted);
        assert_eq!(self.pool.bytes(), counted.map(|alive| alive.tx.bytes().len()).sum::<usize>());
    }

    /// Makes blocks as long as there is something for them, and gives up the rest.
    fn finish(&mut self) {
        for op in [Op::GiveUp, Op::Skip] {
            self.step(op);
        }
        loop {
            self.take(100);
            let empty = self.building.as_ref().is_none_or(|taken| taken.txs().is_empty());
            for op in [Op::Build, Op::Win] {
                self.step(op);
            }
            while !self.unpublished.is_empty() {
                self.step(Op::Publish);
            }
            if empty {
                break;
            }
        }
        self.step(Op::Wait { seconds: PARKED_FOR.as_secs() });
        assert_eq!((self.pool.len(), self.pool.bytes()), (0, 0));
        assert_eq!(self.pool.stalled(Instant::now()), Duration::ZERO);
        for (sender, count) in [(0, LIMITS.per_sender), (1, LIMITS.count - LIMITS.per_sender)] {
            for nonce in (100..).take(count) {
                self.pool.insert(kind_of(sender, nonce, 0), None, self.now).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn places_and_answers_go_together(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in ops {
            world.step(op);
        }
        world.finish();
    }
}
