//! What went between a client and a processor, as far as it got, and what a receipt has to say of it.

use crate::{
    accounts::State,
    progress::Progress,
    receipts::{Entry, Kept},
};
use bytes::Bytes;
use gristmill_audit::{salted_digest, salted_ids_digest, verify_nonce};
use gristmill_channel::Payer;
use gristmill_net::openai::{FinishReason, read_vectors};
use gristmill_types::{
    Amount, AuditCommitment, Digest, Finish, ProcessorNonce, Receipt, Sampling, Signable as _, Signed, Usage,
    Voucher,
};
use std::sync::Arc;

/// One request and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    /// The model's name as it was asked for.
    pub(crate) model: String,
    /// The request's body as the processor got it.
    pub(crate) body: Bytes,
    /// The salt of the receipt's digests.
    pub(crate) salt: Digest,
    /// The prompt's token ids.
    pub(crate) prompt_ids: Vec<u32>,
    /// Where the answer is vectors, and no tokens say what it has to be: of how many texts.
    pub(crate) embeds: Option<usize>,
    /// More came than the vectors of these texts. It is not kept.
    pub(crate) overlong: bool,
    /// How the answer is drawn; none where that was forgotten.
    pub(crate) draw: Option<Draw>,
    /// The answer's token ids, and its text.
    pub(crate) ids: Vec<u32>,
    pub(crate) text: String,
    /// Why the answer ended, if it said so.
    pub(crate) finish: Option<FinishReason>,
    /// What the lane had come to before.
    pub(crate) before: (Usage, Amount),
    /// What the request has passed; none where that was forgotten.
    pub(crate) progress: Option<Arc<Progress>>,
}

/// What an answer's draws are made from.
#[derive(Clone, Debug)]
pub(crate) struct Draw {
    pub(crate) sampling: Sampling,
    pub(crate) consumer_nonce: Digest,
    /// Whether the request names its seed. Then the processor has no nonce of its own.
    pub(crate) fixed: bool,
    /// The root of the quote's nonces.
    pub(crate) nonce_root: Digest,
    /// What the processor revealed when the answer began.
    pub(crate) revealed: Option<Option<ProcessorNonce>>,
}

/// How far a receipt says what went over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// All of it, as far as it is known.
    Right,
    /// It counts tokens and commits to none: the processor was interrupted.
    Nothing,
    /// Something else.
    Otherwise(&'static str),
    /// Whatever it says, what came is not the vectors that were asked for.
    NoVectors(String),
}

/// Nothing is known.
impl Default for Traffic {
    fn default() -> Self {
        Self {
            model: String::new(),
            body: Bytes::new(),
            salt: Digest::new([0; 32]),
            prompt_ids: Vec::new(),
            embeds: None,
            overlong: false,
            draw: None,
            ids: Vec::new(),
            text: String::new(),
            finish: None,
            before: Default::default(),
            progress: None,
        }
    }
}

impl Draw {
    /// Why the processor's nonce, or that it has none, is not right.
    pub(crate) fn wrong_nonce(&self, nonce: Option<&ProcessorNonce>) -> Option<&'static str> {
        match nonce {
            None if !self.fixed => Some("no nonce"),
            Some(_) if self.fixed => Some("a nonce beside a fixed seed"),
            Some(leaf) if !verify_nonce(&self.nonce_root, leaf) => {
                Some("a nonce that its quote did not commit to")
            }
            _ => None,
        }
    }

    fn contradiction(&self, audit: &AuditCommitment) -> Option<&'static str> {
        if audit.sampling != self.sampling || audit.consumer_nonce != self.consumer_nonce {
            return Some("another draw");
        }
        if self.revealed.as_ref().is_some_and(|nonce| audit.processor_nonce != *nonce) {
            return Some("another nonce than it revealed");
        }
        self.wrong_nonce(audit.processor_nonce.as_ref())
    }
}

impl Traffic {
    /// What the receipt says of this. `whole`: all that it counts has arrived.
    pub(crate) fn said(&self, receipt: &Receipt, whole: bool) -> Said {
        if self.body.is_empty() {
            // The gateway was interrupted, and knows no better.
            return Said::Right;
        }
        if let Some(what) = self.wrong_vectors(receipt) {
            return Said::NoVectors(what);
        }
        let Some(audit) = &receipt.audit else { return Said::Nothing };
        match self.contradiction(receipt, audit, whole) {
            Some(what) => Said::Otherwise(what),
            None => Said::Right,
        }
    }

    /// Whether all has arrived of an answer of so many tokens.
    pub(crate) fn is_whole(&self, tokens: u64) -> bool {
        match self.embeds {
            Some(texts) => self.overlong || self.vectors().lines().count() >= texts,
            None => tokens == self.ids.len() as u64,
        }
    }

    /// The vectors that arrived to their end.
    fn vectors(&self) -> &str {
        let end = self.text.rfind('\n').map_or(0, |at| at + 1);
        self.text.get(..end).unwrap_or_default()
    }

    /// Why what arrived is not what was asked for, where that is vectors. An answer that did not come to its
    /// end by what the receipt says may have fewer of them, but nothing else.
    fn wrong_vectors(&self, receipt: &Receipt) -> Option<String> {
        let texts = self.embeds?;
        if self.overlong {
            return Some("it goes on where all vectors were given".to_owned());
        }
        let ended = receipt.response == salted_digest(&self.salt, self.text.as_bytes())
            && receipt.audit.as_ref().is_some_and(|audit| audit.finish == Finish::Stop);
        match read_vectors(if ended { &self.text } else { self.vectors() }) {
            Err(error) => Some(error.to_string()),
            Ok(vectors) if ended && vectors.len() != texts => {
                Some(format!("it gave {} vectors for {texts} texts", vectors.len()))
            }
            Ok(_) => None,
        }
    }

    fn contradiction(&self, receipt: &Receipt, audit: &AuditCommitment, whole: bool) -> Option<&'static str> {
        let ids = |ids: &[u32]| salted_ids_digest(&self.salt, ids);
        if receipt.request != salted_digest(&self.salt, &self.body) {
            return Some("another request");
        }
        if audit.prompt_ids != ids(&self.prompt_ids) {
            return Some("another prompt");
        }
        if whole && receipt.response != salted_digest(&self.salt, self.text.as_bytes()) {
            return Some("another answer");
        }
        if whole && audit.output_ids != ids(&self.ids) {
            return Some("other tokens");
        }
        if self.finish.is_some_and(|finish| finish != FinishReason::from(audit.finish)) {
            return Some("another end");
        }
        self.draw.as_ref().and_then(|draw| draw.contradiction(audit))
    }

    /// The entry of a receipt for it; none where the voucher or the quote is not known any more.
    pub(crate) fn entry(&self, payer: &Payer, receipt: &Signed<Receipt>, now_ms: u64) -> Option<Entry> {
        let voucher = payer.signed(receipt.body.lane, receipt.body.seq)?;
        self.adopted(payer, receipt, voucher, now_ms)
    }

    /// Writes the entry down in the commit under way, with the request's trace.
    pub(crate) fn insert(&self, entry: &Entry, state: &mut State) {
        let body = &entry.receipt.body;
        let trace = self.progress.as_ref().map(|of| of.receipt(&entry.id, &body.channel, body.lane));
        entry.insert(state, trace.as_ref());
    }

    /// The same, with the voucher from the processor's copy.
    pub(crate) fn adopted(
        &self,
        payer: &Payer,
        receipt: &Signed<Receipt>,
        voucher: &Signed<Voucher>,
        now_ms: u64,
    ) -> Option<Entry> {
        let body = &receipt.body;
        let whole = body.response == salted_digest(&self.salt, self.text.as_bytes())
            && body.request == salted_digest(&self.salt, &self.body)
            && body
                .audit
                .as_ref()
                .is_some_and(|audit| audit.output_ids == salted_ids_digest(&self.salt, &self.ids));
        let kept = match () {
            () if self.body.is_empty() => Kept::Nothing,
            () if whole => Kept::Whole,
            () => Kept::Broken,
        };
        let (usage, spent) = self.before;
        Some(Entry {
            id: body.digest(),
            created_ms: now_ms,
            kept,
            model: self.model.clone(),
            cost: body.spent.saturating_sub(spent),
            spent_before: spent,
            prompt_tokens: body.usage.input_tokens.saturating_sub(usage.input_tokens),
            completion_tokens: body.usage.output_tokens.saturating_sub(usage.output_tokens),
            request: String::from_utf8_lossy(&self.body).into_owned(),
            answer: self.text.clone(),
            prompt_ids: self.prompt_ids.clone(),
            output_ids: self.ids.clone(),
            salt: self.salt,
            terms: *payer.terms(),
            quote: payer.quote(body.lane)?.clone(),
            voucher: voucher.clone(),
            receipt: receipt.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_net::openai::vector_line;
    use gristmill_types::{ChainId, ChannelId, ModelId, QuoteHash, VoucherHash};

    fn digest(byte: u8) -> Digest {
        Digest::new([byte; 32])
    }

    fn traffic() -> Traffic {
        let sampling = Sampling {
            temperature_micros: 0,
            top_k: 1,
            top_p_micros: 1_000_000,
            max_tokens: 9,
            stop: Vec::new(),
        };
        let draw = Draw {
            sampling,
            consumer_nonce: digest(1),
            fixed: true,
            nonce_root: digest(2),
            revealed: Some(None),
        };
        Traffic {
            body: Bytes::from_static(b"{}"),
            salt: digest(3),
            prompt_ids: vec![4, 5],
            draw: Some(draw),
            ids: vec![6],
            text: "six".to_owned(),
            finish: Some(FinishReason::Stop),
            ..Traffic::default()
        }
    }

    fn receipt(of: &Traffic) -> Receipt {
        let draw = of.draw.as_ref().unwrap();
        let ids = |ids: &[u32]| salted_ids_digest(&of.salt, ids);
        Receipt {
            chain: ChainId::new([0; 32]),
            channel: ChannelId::new([0; 32]),
            lane: 0,
            seq: 1,
            voucher: VoucherHash::new([0; 32]),
            model: ModelId::new([0; 32]),
            quote: QuoteHash::new([0; 32]),
            usage: Usage::default(),
            spent: Amount::ZERO,
            request: salted_digest(&of.salt, &of.body),
            response: salted_digest(&of.salt, of.text.as_bytes()),
            last: true,
            audit: Some(AuditCommitment {
                prompt_ids: ids(&of.prompt_ids),
                output_ids: ids(&of.ids),
                sampling: draw.sampling.clone(),
                consumer_nonce: draw.consumer_nonce,
                processor_nonce: None,
                finish: Finish::Stop,
            }),
        }
    }

    #[test]
    fn every_commitment_counts_whether_the_answer_is_whole_or_not() {
        let of = traffic();
        let right = receipt(&of);
        assert_eq!((of.said(&right, true), of.said(&right, false)), (Said::Right, Said::Right));
        assert_eq!(of.said(&Receipt { audit: None, ..right.clone() }, false), Said::Nothing);
        assert_eq!(Traffic::default().said(&right, false), Said::Right, "nothing is known");
        let changed = |change: &dyn Fn(&mut Receipt, &mut AuditCommitment)| {
            let mut receipt = right.clone();
            let mut audit = receipt.audit.take().unwrap();
            change(&mut receipt, &mut audit);
            receipt.audit = Some(audit);
            (of.said(&receipt, true), of.said(&receipt, false))
        };
        let nonce = ProcessorNonce { nonce: digest(7), index: 0, path: Vec::new() };
        let always = |what| (Said::Otherwise(what), Said::Otherwise(what));
        let if_whole = |what| (Said::Otherwise(what), Said::Right);
        assert_eq!(changed(&|receipt, _| receipt.request = digest(9)), always("another request"));
        assert_eq!(changed(&|_, audit| audit.prompt_ids = digest(9)), always("another prompt"));
        assert_eq!(changed(&|receipt, _| receipt.response = digest(9)), if_whole("another answer"));
        assert_eq!(changed(&|_, audit| audit.output_ids = digest(9)), if_whole("other tokens"));
        assert_eq!(changed(&|_, audit| audit.sampling.top_k = 2), always("another draw"));
        assert_eq!(changed(&|_, audit| audit.consumer_nonce = digest(9)), always("another draw"));
        assert_eq!(changed(&|_, audit| audit.finish = Finish::Length), always("another end"));
        let other = changed(&|_, audit| audit.processor_nonce = Some(nonce.clone()));
        assert_eq!(other, always("another nonce than it revealed"));
        let mut unrevealed = of.clone();
        unrevealed.draw.as_mut().unwrap().revealed = None;
        let mut receipt = right.clone();
        receipt.audit.as_mut().unwrap().processor_nonce = Some(nonce);
        assert_eq!(unrevealed.said(&receipt, false), Said::Otherwise("a nonce beside a fixed seed"));
        unrevealed.draw.as_mut().unwrap().fixed = false;
        let unknown = Said::Otherwise("a nonce that its quote did not commit to");
        assert_eq!(unrevealed.said(&receipt, false), unknown);
        assert_eq!(unrevealed.said(&right, false), Said::Otherwise("no nonce"));
    }

    /// The traffic of a list of vectors of which so much arrived, and the receipt for so much.
    fn embedded(arrived: &str, answer: &str, finish: Finish) -> (Traffic, Receipt) {
        let of =
            Traffic { embeds: Some(3), ids: Vec::new(), text: answer.to_owned(), finish: None, ..traffic() };
        let mut receipt = receipt(&of);
        receipt.audit.as_mut().unwrap().finish = finish;
        (Traffic { text: arrived.to_owned(), ..of }, receipt)
    }

    #[test]
    fn vectors_are_judged_as_far_as_they_arrived() {
        let [one, nan] = [0.5, f32::NAN].map(|number| vector_line(&[number; 2]));
        let (two, three) = (one.repeat(2), one.repeat(3));
        let cut = format!("{two}AAA");
        let few = || Said::NoVectors("it gave 2 vectors for 3 texts".to_owned());
        let nothing = || Said::NoVectors("a vector holds what is no number".to_owned());
        for (arrived, answer, finish, expected) in [
            (&three, &three, Finish::Stop, Said::Right),
            // The client went away, or the connection broke: what came is a part of the answer.
            (&two, &three, Finish::Stop, Said::Right),
            (&cut, &three, Finish::Stop, Said::Right),
            (&String::new(), &three, Finish::Stop, Said::Right),
            (&two, &two, Finish::Cancelled, Said::Right),
            (&two, &two, Finish::Error, Said::Right),
            // All came, and it commits to something else.
            (&three, &nan.repeat(3), Finish::Stop, Said::Otherwise("another answer")),
            (&two, &two, Finish::Stop, few()),
            (&nan, &nan, Finish::Cancelled, nothing()),
            (&nan, &three, Finish::Stop, nothing()),
            (&format!("{one}{nan}"), &three, Finish::Stop, nothing()),
        ] {
            let (of, receipt) = embedded(arrived, answer, finish);
            assert_eq!(of.said(&receipt, of.is_whole(0)), expected, "{arrived} of {answer}, {finish:?}");
            if arrived.starts_with(&nan) {
                // To commit to nothing does not help.
                assert_eq!(of.said(&Receipt { audit: None, ..receipt }, of.is_whole(0)), nothing());
            }
        }
        let (of, receipt) = embedded("", &three, Finish::Stop);
        let of = Traffic { overlong: true, ..of };
        assert!(matches!(of.said(&receipt, of.is_whole(0)), Said::NoVectors(_)));
    }
}
