//! What must hold in every state, and what must be reachable for that to mean anything.

use super::{
    Bounds, State,
    facts::*,
    ledger::{Phase, royalty},
};
use stateright::Property;

pub(super) const CONSERVED: &str = "no grain is made or lost";
pub(super) const RECEIPTS: &str =
    "the payee gets no more than the lowest receipt, or a window where there is none";
pub(super) const PAYER: &str = "an honest payer loses a window for each request without a good end at most";
pub(super) const NUMBERS_ONCE: &str = "no number is used for two vouchers";
pub(super) const RESERVED: &str = "nothing is signed beyond what is durably reserved";
pub(super) const PAYEE: &str = "an honest payee is paid all that it delivered";
pub(super) const PREFILL: &str = "an honest payee computes one prompt for a voucher at most";
pub(super) const CRASH: &str = "a crash costs the payee a prompt and a window on each lane at most";
pub(super) const EXACT: &str = "honest sides pay what was delivered, and no more";

pub(super) fn of(bounds: &Bounds) -> Vec<Property<Bounds>> {
    let mut properties = vec![Property::<Bounds>::always(CONSERVED, |_, state| conserved(state))];
    if bounds.honest_payer && !bounds.payer_restores {
        properties.extend([
            Property::<Bounds>::always(RECEIPTS, |_, state| !state.overpaid),
            Property::<Bounds>::always(PAYER, |_, state| !state.overcharged),
            Property::<Bounds>::always(NUMBERS_ONCE, |bounds, state| {
                (0..bounds.lanes).all(|lane| numbers(state, lane))
            }),
            Property::<Bounds>::always(RESERVED, |_, state| !state.oversigned),
        ]);
    }
    if bounds.honest_payee && !bounds.payee_restores {
        properties.extend([
            Property::<Bounds>::always(PAYEE, |bounds, state| {
                (0..bounds.lanes).all(|lane| payee(state, lane))
            }),
            Property::<Bounds>::always(PREFILL, |bounds, state| {
                (0..bounds.lanes).all(|lane| prefill(state, lane))
            }),
            Property::<Bounds>::always(CRASH, |bounds, state| {
                (0..bounds.lanes).all(|lane| crash(bounds, state, lane))
            }),
        ]);
    }
    if bounds.honest_payer && bounds.honest_payee {
        properties.push(Property::<Bounds>::always(EXACT, |bounds, state| {
            (0..bounds.lanes).all(|lane| exact(state, lane))
        }));
    }
    if bounds.closes {
        properties.push(Property::<Bounds>::sometimes("a channel is closed after paying", |_, state| {
            state.ledger.phase == Phase::Closed && state.ledger.settled > 0
        }));
    }
    properties
}

fn conserved(state: &State) -> bool {
    let of = &state.ledger;
    let paid = of.lanes.iter().map(|lane| u16::from(lane.paid)).sum::<u16>();
    let pool = of.lanes.iter().map(|lane| u16::from(royalty(lane.paid))).sum::<u16>();
    let [deposit, settled, refunded, earned, in_pool] =
        [of.deposit, of.settled, of.refunded, of.earned, of.pool].map(u16::from);
    let given_back = of.phase != Phase::Closed || settled + refunded == deposit;
    settled + refunded <= deposit
        && earned + in_pool == settled
        && paid == settled
        && pool == in_pool
        && given_back
}

fn numbers(state: &State, lane: usize) -> bool {
    state.wire[lane].vouchers.windows(2).all(|pair| pair[0].seq != pair[1].seq)
}

/// Whether nothing can be claimed on the lane any more.
fn over(state: &State, lane: usize) -> bool {
    state.ledger.phase == Phase::Closed || !state.ledger.has(lane)
}

fn payee(state: &State, lane: usize) -> bool {
    let of = &state.truth[lane];
    !over(state, lane) || state.ledger.lanes[lane].paid + of.lost >= of.delivered.cost()
}

fn prefill(state: &State, lane: usize) -> bool {
    state.truth[lane].prefills <= state.truth[lane].accepted + crashes(state)
}

/// What a payer that does not promise further ahead than it must can cost it; another's request is lost whole.
fn crash(bounds: &Bounds, state: &State, lane: usize) -> bool {
    let each = if bounds.honest_payer { AHEAD } else { REQUEST };
    state.truth[lane].lost <= crashes(state) * each
}

fn crashes(state: &State) -> u8 {
    state.payee.as_ref().map_or(0, |payee| payee.restarts)
}

fn exact(state: &State, lane: usize) -> bool {
    let of = &state.truth[lane];
    let (paid, delivered) = (state.ledger.lanes[lane].paid, of.delivered.cost());
    paid <= delivered && (state.restored || !over(state, lane) || paid + of.lost == delivered)
}
