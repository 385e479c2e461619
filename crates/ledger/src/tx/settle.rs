//! `settle`: claims on a channel's lanes, and the payee's new floor. All of it happens or nothing.
//! The rules, and why they are so, are in `channel`.

use super::{Action, Events, Stop, Transaction, check_key, check_list};
use crate::{
    channel::{ChannelBook, check_sender, check_terms},
    debt::Owing,
    event::Event,
    executor::Context,
    genesis::Rules,
    invalid::Malformed,
    keys,
    overlay::Overlay,
    params::{LANES, MAX_CLAIMS, MAX_DEPOSIT, MAX_ROYALTIES},
    rejection::Rejection,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{
    AccountId, Approval, ChannelId, ChannelTerms, Claim, LineId, PublicKey, Receipt, Signed, StateKey,
    Voucher,
};
use serde::{Deserialize, Serialize};

/// Claims on lanes of one channel.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Settle {
    /// Which channel.
    pub terms: ChannelTerms,
    /// At most 16, at most one a lane, by ascending lane.
    pub claims: Vec<SettleClaim>,
    /// The payee gives up old lanes, after the claims.
    pub floor: Option<RaiseFloor>,
}

/// One claim.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct SettleClaim {
    /// The lines that the royalties of the claim's model go to, in the model's order. They follow from
    /// the model; they are named here so that all keys follow from the payload, and checked against it.
    pub lines: Vec<LineId>,
    /// The payer's word.
    pub proof: ClaimProof,
    /// The payee's word. Needed where the payee does not submit the claim itself; the payee adds it
    /// to a voucher to claim what was spent and no more.
    pub receipt: Option<Box<Signed<Receipt>>>,
}

/// What the payer signed, with its voucher key.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[borsh(use_discriminant = true)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[repr(u8)]
pub enum ClaimProof {
    /// A promise of up to so much: pending for the grace period.
    Voucher(Signed<Voucher>) = 0,
    /// A co-signature of exactly so much: pays at once.
    Approval(Signed<Approval>) = 1,
}

impl ClaimProof {
    /// What is claimed.
    pub const fn claim(&self) -> &Claim {
        match self {
            Self::Voucher(signed) => &signed.body.0,
            Self::Approval(signed) => &signed.body.0,
        }
    }
}

/// The payee gives up lanes.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct RaiseFloor {
    /// The new floor: lanes below it are unpayable for good.
    pub to: u32,
    /// Exactly the lanes below it that have a record, ascending.
    pub remove: Vec<u32>,
}

/// Bounds of lists of lanes: no channel has more lanes at once.
pub(super) const MAX_LANES: usize = 64;
const _: () = assert!(LANES == 64);

impl Action for Settle {
    fn reads(&self, _tx: &Transaction, keys: &mut Vec<StateKey>) {
        let id = self.terms.id();
        keys.push(keys::channel(&id));
        keys.push(keys::deadlines());
        keys.push(keys::balance(&self.terms.payee, &self.terms.issuer));
        for item in &self.claims {
            let claim = item.proof.claim();
            keys.push(keys::lane(&id, claim.lane));
            keys.push(keys::model(&claim.model));
            push_pools(&item.lines, &self.terms.issuer, keys);
        }
        if let Some(floor) = &self.floor {
            keys.extend(floor.remove.iter().map(|lane| keys::lane(&id, *lane)));
        }
    }

    fn check(&self, tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        check_terms(&self.terms, tx)?;
        let lanes = self.claims.iter().map(|item| item.proof.claim().lane);
        check_list(lanes, "claims", usize::from(self.floor.is_none()), MAX_CLAIMS)?;
        if let Some(floor) = &self.floor {
            check_sender(&self.terms.payee, tx, "payee")?;
            check_list(floor.remove.iter(), "lanes to remove", 0, MAX_LANES)?;
        }
        // Signatures last: everything before is cheap.
        let id = self.terms.id();
        let voucher_key = check_key(&self.terms.voucher_key, "the voucher key")?;
        for item in &self.claims {
            let claim = item.proof.claim();
            self.check_claim(&id, claim)?;
            check_lines(&item.lines)?;
            match (&item.receipt, tx.sender == self.terms.payee) {
                (Some(receipt), _) => self.check_receipt(item, claim, receipt)?,
                (None, true) => {}
                (None, false) => return Err(Malformed::ReceiptMissing),
            }
            check_proof(&item.proof, &voucher_key)?;
        }
        Ok(())
    }

    fn pays(&self) -> Option<&ChannelTerms> {
        Some(&self.terms)
    }

    fn owing(&self, tx: &Transaction) -> Owing {
        // What it owes it must be able to earn.
        let earns = (tx.sender, tx.fee_issuer) == (self.terms.payee, self.terms.issuer);
        if earns { Owing::More } else { Owing::Never }
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, context: &Context) -> Result<Events, Stop> {
        let mut book = ChannelBook::open(overlay, context, &self.terms)?;
        book.require_claimable()?;
        let by_payee = tx.sender == self.terms.payee;
        for item in &self.claims {
            book.claim(item, by_payee)?;
        }
        if let Some(RaiseFloor { to, remove }) = &self.floor {
            let from = book.channel()?.lane_floor;
            let rise = to.checked_sub(from).filter(|rise| *rise > 0).ok_or(Rejection::FloorNotHigher)?;
            book.remove_lanes(remove, |lane| lane < *to)?;
            book.edit(|channel| {
                channel.lane_floor = *to;
                channel.lanes = channel.lanes.checked_shr(rise).unwrap_or(0);
                channel.pending = channel.pending.checked_shr(rise).unwrap_or(0);
            })?;
            let ChannelTerms { payer, payee, .. } = self.terms;
            let channel = book.id();
            book.event(Event::FloorRaised { channel, payer, payee, floor: *to });
        }
        Ok(book.into_events())
    }
}

impl Settle {
    fn check_claim(&self, id: &ChannelId, claim: &Claim) -> Result<(), Malformed> {
        if (claim.chain, claim.channel) != (self.terms.chain, *id) {
            return Err(Malformed::Mismatch { what: "the voucher or approval" });
        }
        if claim.amount.is_zero() {
            return Err(Malformed::ZeroAmount);
        }
        if claim.amount > MAX_DEPOSIT {
            return Err(Malformed::OutOfBounds { what: "a claim's amount" });
        }
        Ok(())
    }

    /// The payee's word must be on this claim, and cover it.
    fn check_receipt(
        &self,
        item: &SettleClaim,
        claim: &Claim,
        receipt: &Signed<Receipt>,
    ) -> Result<(), Malformed> {
        let body = &receipt.body;
        let same_lane = (body.chain, body.channel, body.lane, body.model, body.quote)
            == (claim.chain, claim.channel, claim.lane, claim.model, claim.quote);
        let covers = match item.proof {
            ClaimProof::Voucher(_) => body.seq >= claim.seq,
            ClaimProof::Approval(_) => {
                (body.seq, body.usage, body.spent) == (claim.seq, claim.usage, claim.amount)
            }
        };
        if !same_lane || !covers {
            return Err(Malformed::Mismatch { what: "the receipt" });
        }
        verify_receipt(&self.terms, receipt)
    }
}

/// The keys of the pools that a claim pays into.
pub(super) fn push_pools(lines: &[LineId], issuer: &AccountId, keys: &mut Vec<StateKey>) {
    for line in lines {
        keys.push(keys::pool(line, issuer));
        keys.push(keys::line_pools(line));
    }
}

/// No model has more lines.
pub(super) fn check_lines(lines: &[LineId]) -> Result<(), Malformed> {
    let max = MAX_ROYALTIES;
    (lines.len() <= max).then_some(()).ok_or(Malformed::Count { what: "lines", min: 0, max })
}

/// Verifies a receipt under the key in the terms.
pub(super) fn verify_receipt(terms: &ChannelTerms, receipt: &Signed<Receipt>) -> Result<(), Malformed> {
    let key = check_key(&terms.receipt_key, "the receipt key")?;
    receipt.verify_strict(&key).map_err(|_| Malformed::Signature { what: "the receipt" })
}

fn check_proof(proof: &ClaimProof, key: &PublicKey) -> Result<(), Malformed> {
    match proof {
        ClaimProof::Voucher(signed) => {
            signed.verify_strict(key).map_err(|_| Malformed::Signature { what: "the voucher" })
        }
        ClaimProof::Approval(signed) => {
            signed.verify_strict(key).map_err(|_| Malformed::Signature { what: "the approval" })
        }
    }
}

#[cfg(test)]
mod tests;
