//! Approvals: what is co-signed, and sent again where it got lost.

use gristmill_channel::{Payer, PayerError};
use gristmill_types::{Approval, Signed};

/// The approval of the lane's last receipt. None where the lane has gone on to a request whose receipt is
/// not durable yet: what approves that one covers all that came before it.
pub(crate) fn approval(payer: &Payer, lane: u32) -> Result<Option<Signed<Approval>>, PayerError> {
    match payer.approve(lane) {
        Ok(approval) => Ok(Some(approval)),
        Err(PayerError::NothingToApprove { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_channel::{Ask, KeyId, LedgerView, PayerRecord, Pending, Plan, Received};
    use gristmill_types::{
        AccountId, Amount, ChainId, ChannelTerms, DataPolicy, Digest, Limits, ModelId, Prices, Quote,
        Receipt, SecretKey, Signable as _, Usage,
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
            limits: Limits { context_tokens: 4_096, output_tokens: 1_024, window_tokens: 16, window_ms: 1_000 },
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
