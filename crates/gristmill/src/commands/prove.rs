//! `gristmill prove`: one file from a prompt to the ledger's root.
//!
//! The file holds what both sides signed, in the bytes that they signed, and what the validators
//! signed. `tools/verify_proof.py` checks it and shares no code with this program; `docs/proofs.md`
//! says what is proven. All that is in the file is bound by a hash, a signature or a price; what is
//! not, such as the time at which the gateway wrote the receipt down, is left out.
//!
//! A settlement covers all requests of its lane up to a number. The payment of one receipt is
//! therefore the first claim that the ledger paid whose number and amount are not below the receipt's.

use crate::{connection::Connection, endpoint::Endpoint, failure::Failure, home::Home, output::Output};
use anyhow::{Context as _, Result};
use clap::Args;
use gristmill_client::{
    Verified,
    schema::{ClaimInfo, Inclusion},
};
use gristmill_gateway::{Kept, ReceiptEntry, verify};
use gristmill_ledger::{
    Body, Event, decode_tx, keys,
    record::{Lane, Stored as _},
    tx::{ClaimProof, SettleClaim},
};
use gristmill_types::{Amount, Digest, Receipt, TxHash, encode};
use serde::Serialize;
use serde_json::json;
use std::{io::Write as _, path::PathBuf};

/// Names the file's layout.
const FORMAT: &str = "gristmill/proof-file/v1";
/// Transactions of a lane that are asked for at once.
const PAGE: usize = 50;

/// Arguments of `prove`.
#[derive(Debug, Args)]
pub(crate) struct Prove {
    /// The receipt's id, or the first digits of it
    receipt: String,
    /// The file to write. It holds prompt and answer, where these are kept
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// The file: one line of JSON. Bytes are lower-case hexadecimal, artefacts in their one encoding.
#[derive(Serialize)]
struct ProofFile {
    format: &'static str,
    /// The receipt's digest.
    id: Digest,
    /// What the receipt commits to, as far as it is kept.
    exchange: Option<Exchange>,
    quote: String,
    /// The last voucher of the request.
    voucher: String,
    receipt: String,
    settlement: Settlement,
    /// The lane's record in a state after the settlement; none where the lane was given up.
    lane: Option<LaneProof>,
    /// What the ledger's id is the hash of. It names the validators.
    genesis: String,
}

#[derive(Serialize)]
struct Exchange {
    request: String,
    prompt_ids: Vec<u32>,
    /// Answer and its tokens; none if it broke off.
    answer: Option<Answer>,
    salt: Digest,
}

#[derive(Serialize)]
struct Answer {
    text: String,
    ids: Vec<u32>,
}

#[derive(Serialize)]
struct Settlement {
    transaction: String,
    /// The path from the transaction to the header's body root.
    inclusion: String,
    /// The header, its descendants up to a certified one, and the certificate.
    finality: String,
}

#[derive(Serialize)]
struct LaneProof {
    /// The lane's record, and the path from it to the header's state root.
    state: String,
    finality: String,
}

/// The transaction that brought the claim, and the claim.
struct Found {
    inclusion: Verified<Inclusion>,
    hash: TxHash,
    claim: SettleClaim,
}

/// Looks for the payment of a receipt among what happened on its lane, oldest first.
struct Search {
    seq: u64,
    spent: Amount,
    /// The claim that waits: its transaction, its amount, and its deadline in ledger time.
    pending: Option<(TxHash, Amount, u64)>,
    /// As much was paid before, under a number below the receipt's.
    before: bool,
}

impl Search {
    /// The transaction that paid, if this one did, and the one with the claim that had waited till then.
    fn look(&mut self, of: &ClaimInfo) -> Option<(TxHash, Option<TxHash>)> {
        for event in &of.events {
            if let Event::ClaimPending { amount, deadline_ms, .. } = event {
                self.pending = Some((of.hash, *amount, *deadline_ms));
            }
            let Event::ClaimPaid { seq, paid, .. } = event else { continue };
            if *paid >= self.spent && *seq >= self.seq {
                return Some((of.hash, self.pending.map(|(hash, _, _)| hash)));
            }
            self.before |= *paid >= self.spent;
            self.pending = self.pending.filter(|(_, amount, _)| amount > paid);
        }
        None
    }
}

impl Prove {
    pub(crate) async fn run(self, home: &Home, output: Output) -> Result<()> {
        let connection = Connection::open(home)?;
        if self.out.exists() {
            return Err(Failure::new(format!("{} exists already", self.out.display()))
                .next("name another file with --out, or remove this one")
                .into());
        }
        let path = format!("/receipts/{}", self.receipt);
        let entry: ReceiptEntry = Endpoint::new(&connection.running)?.get(&path).await?;
        verify(&entry).map_err(|error| {
            Failure::new(format!("the receipt does not hold: {error}"))
                .next("see what is wrong with it: gristmill receipt show ID --json > receipt.json; gristmill receipt verify receipt.json")
        })?;
        let found = self.find(&connection, &entry).await?;
        let lane = lane_proof(&connection, &entry.receipt.body, found.inclusion.height).await?;
        let paid = lane.as_ref().map(|(_, paid)| *paid);
        let file = file(&connection, &entry, &found, lane.map(|(lane, _)| lane))?;
        let holds = match &file.exchange {
            Some(Exchange { answer: Some(_), .. }) => "whoever has it can read prompt and answer",
            Some(_) => "whoever has it can read the prompt; the answer is not in it",
            None => "it holds neither prompt nor answer: the receipt commits to none, or they are not kept",
        };
        let hint = if paid.is_some() { "" } else { " --claim-only" };
        self.write(&serde_json::to_string(&file)?)?;
        let (claim, receipt) = (found.claim.proof.claim(), &entry.receipt.body);
        let kind = match found.claim.proof {
            ClaimProof::Approval(_) => "approval",
            ClaimProof::Voucher(_) => "voucher",
        };
        let chain = connection.ledger.chain();
        let value = json!({
            "file": self.out, "receipt": entry.id, "chain": chain, "transaction": found.hash,
            "height": found.inclusion.height, "claim": kind, "seq": claim.seq, "lane": claim.lane,
            "spent": receipt.spent, "paid": paid, "payment_proven": paid.is_some(),
        });
        output.show(&value, || {
            let proven = paid.map_or_else(
                || "that it was paid is the node's word: its lane was given up; only the claim is proven".to_owned(),
                |paid| format!("the ledger paid {paid} credits on its lane, {} of them up to this receipt", receipt.spent),
            );
            format!(
                "receipt    {}\nsettled    by the {kind} at number {} of lane {}, in block {}\nproven     {proven}\n\
                 written    {}; {holds}\ncheck it   python3 tools/verify_proof.py {} --chain {chain}{hint}",
                entry.id,
                claim.seq,
                claim.lane,
                found.inclusion.height,
                self.out.display(),
                self.out.display(),
            )
        })
    }

    /// For its owner alone, whole or not at all.
    fn write(&self, text: &str) -> Result<()> {
        let folder = self.out.parent().filter(|folder| !folder.as_os_str().is_empty());
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or_else(|| ".".as_ref()))?;
            writeln!(file, "{text}")?;
            file.as_file().sync_all()?;
            file.persist_noclobber(&self.out).map_err(|error| error.error)?;
            std::fs::File::open(folder.unwrap_or_else(|| ".".as_ref()))?.sync_all()
        };
        write().map_err(|error| {
            Failure::new(format!("cannot write {}: {error}", self.out.display()))
                .next("name a file in a folder that you may write to: --out FILE")
                .into()
        })
    }

    /// The first claim that the ledger paid and that covers the receipt.
    async fn find(&self, connection: &Connection, entry: &ReceiptEntry) -> Result<Found> {
        let receipt = &entry.receipt.body;
        let mut search = Search { seq: receipt.seq, spent: receipt.spent, pending: None, before: false };
        let mut skip = 0;
        loop {
            let page = connection.ledger.claims(&receipt.channel, receipt.lane, skip, PAGE).await?;
            if let Some((payer, waited)) = page.transactions.iter().find_map(|of| search.look(of)) {
                return carrier(connection, receipt, payer, waited).await;
            }
            skip += page.transactions.len();
            if page.transactions.is_empty() || skip >= page.total {
                return Err(self.unsettled(entry, &search).into());
            }
        }
    }

    fn unsettled(&self, entry: &ReceiptEntry, search: &Search) -> Failure {
        let id = entry.id.to_string();
        let short = id.get(..8).unwrap_or(&id);
        let again = format!("gristmill prove {short} --out {}", self.out.display());
        match (search.before, search.pending.map(|(_, _, deadline_ms)| deadline_ms)) {
            (true, _) => Failure::new(format!(
                "no settlement is at or above the number of receipt {short}, although the ledger paid as much on its lane before"
            ))
            .next("nothing more is owed for it; prove the receipt before it: gristmill receipt list"),
            (false, Some(at)) => Failure::new(format!(
                "receipt {short} is not settled yet: its claim waits until ledger time {at} ms, in which the payer may contest it"
            ))
            .next(format!("see ledger time with `gristmill ledger block`; after it: {again}")),
            (false, None) => Failure::new(format!(
                "receipt {short} is not settled yet: the processor has not brought its claim to the ledger"
            ))
            .next(format!("it settles a channel that was quiet for half a second, unless less than twice the ledger's fee is due: small sums wait for more; then: {again}")),
        }
    }
}

/// The transaction that brought the claim: the one that paid, if it carries the payer's approval, or
/// the one with the voucher that had waited until then.
async fn carrier(
    connection: &Connection,
    receipt: &Receipt,
    payer: TxHash,
    waited: Option<TxHash>,
) -> Result<Found> {
    for (hash, approved) in [(Some(payer), true), (waited, false)] {
        let Some(hash) = hash else { continue };
        let inclusion = connection.ledger.included(&hash).await?;
        let inclusion = inclusion.context("the node lists a transaction that it does not know")?;
        let tx = decode_tx(&hex::decode(inclusion.value.tx.as_deref().unwrap_or_default())?)?;
        let Body::Settle(settle) = tx.body.body else { continue };
        let claim = settle
            .claims
            .into_iter()
            .find(|item| matches!(item.proof, ClaimProof::Approval(_)) == approved && covers(item, receipt));
        if let Some(claim) = claim {
            return Ok(Found { inclusion, hash, claim });
        }
    }
    Err(Failure::new("the node says that the receipt was paid, but shows no claim for it")
        .next("see how the exchange is: gristmill status")
        .into())
}

/// Whether a claim is on the receipt's lane, and neither its number nor what it is worth is below the
/// receipt's.
fn covers(item: &SettleClaim, receipt: &Receipt) -> bool {
    let (claim, capped) = (item.proof.claim(), item.receipt.as_ref().map(|capped| &capped.body));
    let worth = capped.map_or(claim.amount, |capped| capped.spent.min(claim.amount));
    let through = capped.map_or(claim.seq, |capped| capped.seq.max(claim.seq));
    (claim.channel, claim.lane) == (receipt.channel, receipt.lane)
        && through >= receipt.seq
        && worth >= receipt.spent
}

/// The lane's record, proven, and what was paid on it; none where the lane was given up.
async fn lane_proof(
    connection: &Connection,
    receipt: &Receipt,
    height: u64,
) -> Result<Option<(LaneProof, Amount)>> {
    let key = keys::lane(&receipt.channel, receipt.lane);
    let state = connection.ledger.state_with_proofs(&[key]).await?;
    let (records, answer) = state.value;
    let Some(lane) = records.first().and_then(Option::as_ref).and_then(Lane::of) else { return Ok(None) };
    if state.height < height || lane.paid < receipt.spent {
        return Err(Failure::new("the node answered from a state before the settlement")
            .next("try again in a moment; gristmill status tells how the exchange is")
            .into());
    }
    let value = answer.values.into_iter().next().context("the node's answer has no value")?;
    Ok(Some((LaneProof { state: value.proof, finality: answer.finality }, lane.paid)))
}

fn file(
    connection: &Connection,
    entry: &ReceiptEntry,
    found: &Found,
    lane: Option<LaneProof>,
) -> Result<ProofFile> {
    let inclusion = &found.inclusion.value;
    let proof = inclusion.proof.as_ref().context("the node's answer has no proof")?;
    // After a crash the processor's receipt commits to nothing but the price.
    let committed = entry.receipt.body.audit.is_some() && entry.kept != Kept::Nothing;
    let exchange = committed.then(|| Exchange {
        request: entry.request.clone(),
        prompt_ids: entry.prompt_ids.clone(),
        answer: (entry.kept == Kept::Whole)
            .then(|| Answer { text: entry.answer.clone(), ids: entry.output_ids.clone() }),
        salt: entry.salt,
    });
    Ok(ProofFile {
        format: FORMAT,
        id: entry.id,
        exchange,
        quote: hex::encode(encode(&entry.quote)),
        voucher: hex::encode(encode(&entry.voucher)),
        receipt: hex::encode(encode(&entry.receipt)),
        settlement: Settlement {
            transaction: inclusion.tx.clone().context("the node's answer has no transaction")?,
            inclusion: proof.body.clone(),
            finality: proof.finality.clone(),
        },
        lane,
        genesis: hex::encode(encode(&connection.genesis)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_types::{AccountId, ChannelId, ModelId, Usage};

    fn hash(number: u8) -> TxHash {
        TxHash::new([number; 32])
    }

    /// A transaction with one event: number, amount, and whether it paid or waits.
    fn event(number: u8, seq: u64, grains: u128, paid: bool) -> ClaimInfo {
        let (account, channel, model) =
            (AccountId::new([1; 32]), ChannelId::new([2; 32]), ModelId::new([3; 32]));
        let (payer, payee, issuer, lane, amount) =
            (account, account, account, 0, Amount::from_grains(grains));
        let event = if paid {
            let (usage, earned, owed, bonded) = (Usage::default(), amount, Amount::ZERO, Amount::ZERO);
            let paid = amount;
            Event::ClaimPaid {
                channel,
                payer,
                payee,
                issuer,
                lane,
                seq,
                model,
                usage,
                paid,
                earned,
                owed,
                bonded,
                royalties: vec![],
            }
        } else {
            let (deadline_ms, by_payee) = (900_000, true);
            Event::ClaimPending {
                channel,
                payer,
                payee,
                issuer,
                lane,
                seq,
                model,
                amount,
                deadline_ms,
                by_payee,
            }
        };
        ClaimInfo { hash: hash(number), height: u64::from(number), events: vec![event] }
    }

    #[test]
    fn the_first_payment_that_covers_a_receipt_is_found() {
        let lane = [
            event(1, 3, 100, true),
            event(2, 5, 250, false),
            event(3, 6, 300, false),
            event(4, 6, 300, true),
            event(5, 9, 400, true),
            event(6, 12, 500, false),
        ];
        for (seq, spent, found) in [
            (1, 40, Some((1, None))),
            (3, 100, Some((1, None))),
            (4, 100, Some((4, Some(3)))),
            (5, 250, Some((4, Some(3)))),
            (9, 301, Some((5, None))),
            (9, 400, Some((5, None))),
            (10, 450, None),
            (10, 400, None),
        ] {
            let mut search = Search { seq, spent: Amount::from_grains(spent), pending: None, before: false };
            let expected = found.map(|(payer, waited)| (hash(payer), waited.map(hash)));
            assert_eq!(lane.iter().find_map(|of| search.look(of)), expected, "{seq} {spent}");
            if found.is_none() {
                assert_eq!(search.before, spent == 400);
                assert_eq!(search.pending.map(|(hash, _, _)| hash), Some(hash(6)));
            }
        }
    }
}
