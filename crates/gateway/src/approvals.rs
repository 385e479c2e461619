//! Approvals: what is co-signed, and sent again where it got lost.

use crate::{app::App, error::BuyError, peer::Peer};
use gristmill_channel::{ChannelCopy, Payer, PayerError};
use gristmill_net::{
    openai::{Message, Prompt, PromptRequest, Role},
    pay::{Action, Challenge, Expected},
};
use gristmill_types::{Approval, ChannelId, Signed};

/// The approval of the lane's last receipt. None where the lane has gone on to a request whose receipt is
/// not durable yet: what approves that one covers all that came before it.
pub(crate) fn approval(payer: &Payer, lane: u32) -> Result<Option<Signed<Approval>>, PayerError> {
    match payer.approve(lane) {
        Ok(approval) => Ok(Some(approval)),
        Err(PayerError::NothingToApprove { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether lanes are in doubt, or something that was approved is not paid: the approval may have got lost.
pub(crate) fn is_unclear(payer: &Payer) -> bool {
    let unpaid = |lane, spent| payer.view().settled_on(lane) < spent && payer.approve(lane).is_ok();
    !payer.in_doubt().is_empty() || payer.lane_uses().iter().any(|of| unpaid(of.lane, of.spent))
}

impl App {
    /// Sends approvals again that the processor's copy lacks: otherwise it waits for the ledger's grace. False
    /// if one of them did not arrive.
    pub(crate) async fn approve_again(
        &self,
        channel: &ChannelId,
        copy: &ChannelCopy,
        peer: &Peer,
    ) -> Result<bool, BuyError> {
        let mut all = true;
        for of in &copy.lanes {
            let approval = {
                let mut accounts = self.accounts.lock();
                let payer = accounts.payer(channel)?;
                payer.approve(of.lane).ok().filter(|approval| {
                    let asked = of.receipt.as_ref().is_some_and(|receipt| {
                        receipt.body.seq == approval.body.0.seq
                            && receipt.body.spent == approval.body.0.amount
                    });
                    let unpaid = payer.view().settled_on(of.lane) < approval.body.0.amount;
                    asked && unpaid && of.approval.as_ref() != Some(approval)
                })
            };
            let Some(approval) = approval else { continue };
            // One that is not taken must not keep the rest from being brought in order.
            if let Err(error) = self.send_again(channel, peer, None, Action::Approve(approval)).await {
                tracing::debug!(%error, %channel, lane = of.lane, "an approval was not taken");
                all = false;
            }
        }
        Ok(all)
    }

    /// Sends a voucher or an approval: under this challenge, if it is for the lane's quote and the processor
    /// still takes it, or under one of its own.
    pub(crate) async fn send_again(
        &self,
        channel: &ChannelId,
        peer: &Peer,
        challenge: Option<&Challenge>,
        action: Action,
    ) -> Result<(), BuyError> {
        if let Some(challenge) = challenge.filter(|of| of.quote_hash() == action.claim().quote) {
            match peer.pay(challenge, &action).await {
                Err(BuyError::Refused { .. }) => {}
                sent => return sent,
            }
        }
        let challenge = self.challenge_again(channel, peer, &action).await?;
        peer.pay(&challenge, &action).await
    }

    /// A challenge for the lane's model.
    async fn challenge_again(
        &self,
        channel: &ChannelId,
        peer: &Peer,
        action: &Action,
    ) -> Result<Challenge, BuyError> {
        let claim = action.claim();
        let (issuer, embeds) = {
            let mut accounts = self.accounts.lock();
            let payer = accounts.payer(channel)?;
            let quote = payer.quote(claim.lane);
            (payer.terms().issuer, quote.is_some_and(|quote| quote.body.is_for_embeddings()))
        };
        // A processor gives its challenge to what it could answer.
        let prompt = match embeds {
            true => Prompt::Inputs(vec!["?".to_owned()]),
            false => Prompt::Messages(vec![Message { role: Role::User, content: "?".to_owned() }]),
        };
        let request = PromptRequest {
            model: claim.model.to_string(),
            prompt,
            n: 1,
            stream: true,
            stream_options: None,
            max_tokens: Some(1),
            temperature: None,
            top_k: None,
            top_p: None,
            seed: None,
            stop: Vec::new(),
            top_logprobs: None,
            encoding: Default::default(),
        };
        let expected = Expected {
            chain: self.ledger.chain(),
            processor: peer.processor(),
            model: claim.model,
            issuer,
            at_most: None,
        };
        peer.challenge(request.shape(), request.to_body().into(), &expected, self.now_ms()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_channel::{Ask, KeyId, LedgerView, PayerRecord, Pending, Plan, Received};
    use gristmill_types::{
        AccountId, Amount, ChainId, ChannelTerms, DataPolicy, Digest, Limits, ModelId, Prices, Quote,
        Receipt, SecretKey, Usage,
    };

    fn secret(byte: u8) -> SecretKey {
        SecretKey::from_seed(&[byte; 32])
    }

    fn quote() -> Quote {
        Quote {
            chain: ChainId::new([9; 32]),
            processor: secret(4).account(),
            receipt_key: secret(3).account(),
            model: ModelId::new([7; 32]),
            issuer: AccountId::new([5; 32]),
            prices: Prices { output_per_mtok: Amount::from_grains(1_000_000), ..Prices::default() },
            tokenizer: Digest::new([0; 32]),
            limits: Limits {
                context_tokens: 4_096,
                output_tokens: 1_024,
                window_tokens: 16,
                window_ms: 1_000,
            },
            data_policy: DataPolicy::NotStored,
            valid_until_ms: u64::MAX,
            nonce_root: Digest::new([0; 32]),
            engine: "test".to_owned(),
        }
    }

    fn payer() -> Payer {
        let terms = ChannelTerms {
            chain: quote().chain,
            payer: secret(1).account(),
            payee: quote().processor,
            issuer: quote().issuer,
            voucher_key: secret(2).account(),
            receipt_key: quote().receipt_key,
            grace_ms: 900_000,
            open_nonce: 0,
        };
        let view = LedgerView::opened(Amount::from_credits(1));
        let (mut payer, first) = Payer::open(terms, view, secret(2)).unwrap();
        payer.confirm(first);
        payer
    }

    /// A request of one token, up to its receipt, whose record is not durable yet.
    fn ask(payer: &mut Payer, tokens_before: u64) -> Pending<PayerRecord> {
        let quote = gristmill_types::Signed::sign(quote(), &secret(4));
        let plan = Plan {
            quote: &quote,
            budget: KeyId(Digest::new([1; 32])),
            room: Amount::from_credits(1),
            ask: Ask { input_tokens: 1, max_output_tokens: 4, max_millis: 0 },
            max_amount: Amount::from_credits(1),
            ahead: Amount::ZERO,
            now_ms: 0,
        };
        let started = payer.start(&plan).unwrap();
        assert_eq!(started.lane, 0);
        started.pending.into_iter().for_each(|pending| payer.confirm(pending));
        let voucher = payer.voucher(0).unwrap();
        payer.delivered(0, 1, 0).unwrap();
        let claim = voucher.body.0;
        let count = tokens_before + 1;
        let receipt = Receipt {
            chain: claim.chain,
            channel: claim.channel,
            lane: 0,
            seq: claim.seq,
            voucher: voucher.body.hash(),
            model: claim.model,
            quote: claim.quote,
            usage: Usage { input_tokens: count, output_tokens: count, millis: 0, requests: count },
            spent: Amount::from_grains(u128::from(count)),
            request: Digest::new([0; 32]),
            response: Digest::new([0; 32]),
            last: true,
            audit: None,
        };
        match payer.receipt(&Signed::sign(receipt, &secret(3))).unwrap() {
            Received::New(pending) => pending,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_approval_that_the_next_receipt_overtook_is_part_of_the_next() {
        let mut payer = payer();
        assert_eq!(approval(&payer, 0), Err(PayerError::UnknownLane { lane: 0 }));
        let first = ask(&mut payer, 0);
        payer.confirm(first);
        let alone = approval(&payer, 0).unwrap().unwrap();
        // The next request has its receipt before the first one's approval is signed.
        let second = ask(&mut payer, 1);
        assert_eq!(approval(&payer, 0), Ok(None));
        payer.confirm(second);
        let both = approval(&payer, 0).unwrap().unwrap();
        assert!(both.body.0.seq > alone.body.0.seq && both.body.0.usage.covers(&alone.body.0.usage));
        assert_eq!(both.body.0.amount, Amount::from_grains(2));
    }
}
