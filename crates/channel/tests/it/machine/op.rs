//! What can happen to the two roles and to what is between them.

use gristmill_channel::{Ask, PayeeRecord, PayerRecord, Pending};
use gristmill_types::{Amount, Approval, Order, Receipt, Signed, Voucher};
use proptest::prelude::*;

#[derive(Clone, Debug)]
pub(super) enum Op {
    Start { bob: bool, prompt: u8, output: u8, ahead: u8 },
    Deliver { pick: u8, tokens: u8 },
    End { pick: u8, last: bool },
    Approve { pick: u8 },
    PayerDisk { keep: u8 },
    PayeeDisk { keep: u8 },
    Arrive { pick: u8 },
    Lose { pick: u8 },
    Repeat { pick: u8 },
    PayerCrash,
    PayeeCrash,
    Reconcile,
    Settle { at_once: bool },
    TopUp { grains: u8 },
    Retire,
    GiveUp { pick: u8 },
    Trim,
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (any::<bool>(), 0u8..60, 1u8..80, any::<u8>())
            .prop_map(|(bob, prompt, output, ahead)| Op::Start { bob, prompt, output, ahead }),
        8 => (any::<u8>(), 1u8..20).prop_map(|(pick, tokens)| Op::Deliver { pick, tokens }),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(pick, last)| Op::End { pick, last }),
        2 => any::<u8>().prop_map(|pick| Op::Approve { pick }),
        8 => (0u8..3).prop_map(|keep| Op::PayerDisk { keep }),
        8 => (0u8..3).prop_map(|keep| Op::PayeeDisk { keep }),
        24 => any::<u8>().prop_map(|pick| Op::Arrive { pick }),
        1 => any::<u8>().prop_map(|pick| Op::Lose { pick }),
        1 => any::<u8>().prop_map(|pick| Op::Repeat { pick }),
        1 => Just(Op::PayerCrash),
        1 => Just(Op::PayeeCrash),
        2 => Just(Op::Reconcile),
        1 => any::<bool>().prop_map(|at_once| Op::Settle { at_once }),
        1 => any::<u8>().prop_map(|grains| Op::TopUp { grains }),
        2 => Just(Op::Retire),
        1 => any::<u8>().prop_map(|pick| Op::GiveUp { pick }),
        1 => Just(Op::Trim),
    ]
}

#[derive(Clone, Debug)]
pub(super) enum Message {
    Place {
        voucher: Signed<Voucher>,
        order: Signed<Order>,
        ask: Ask,
    },
    Voucher(Signed<Voucher>),
    /// The request is named by its first voucher's number; `from` is the first token's position.
    Tokens {
        lane: u32,
        request: u64,
        from: u64,
    },
    Need {
        lane: u32,
        request: u64,
        required: Amount,
    },
    Receipt(Signed<Receipt>),
    Approval(Signed<Approval>),
}

/// A commit that waits for the disk.
pub(super) struct PayerCommit {
    pub(super) records: Vec<Pending<PayerRecord>>,
    pub(super) budgets: Vec<Vec<u8>>,
    pub(super) places: Option<(u32, Ask)>,
}

pub(super) struct PayeeCommit {
    pub(super) records: Vec<Pending<PayeeRecord>>,
    pub(super) sends: Option<Signed<Receipt>>,
    pub(super) starts: Option<(u32, u64)>,
}
