//! Values of every type from a seed, for codec tests. The pinned wire formats are those of the values
//! of fixed seeds, so a change here changes the pins.

// By its path: the fuzzer takes this file in from elsewhere.
#[path = "random/state.rs"]
mod state;

use gristmill_ledger::{
    Body, Event, Genesis, GenesisBalance, GenesisIssuer, GenesisValidator, Params, Record, Rejection,
    Royalty, SignedTx, Transaction, record::*, tx::*,
};
use gristmill_types::{
    AccountId, Amount, Approval, AuditCommitment, ChainId, ChannelId, ChannelTerms, Claim, Digest, Finish,
    LineId, ModelId, Prices, ProcessorNonce, QuoteHash, Receipt, Sampling, Signature, Signed, Usage, Voucher,
    VoucherHash,
};

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.u64() % bound
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }

    pub(crate) fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.index(items.len())]
    }

    /// Anything, and often a number next to a power of two.
    pub(crate) fn u128(&mut self) -> u128 {
        let any = u128::from(self.u64()) << 64 | u128::from(self.u64());
        let power = 1u128 << self.below(128);
        match self.below(6) {
            0 => any,
            1 => any >> self.below(128),
            2 => power,
            3 => power - 1,
            4 => power.saturating_add(1),
            _ => self.pick(&[0, 1, u128::MAX]),
        }
    }

    fn small(&mut self) -> u64 {
        let shift = self.below(64);
        self.u64() >> shift
    }

    fn u32(&mut self) -> u32 {
        (self.u64() >> 32) as u32
    }

    fn u16(&mut self) -> u16 {
        (self.u64() >> 48) as u16
    }

    fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&self.u64().to_le_bytes()));
        bytes
    }

    fn account(&mut self) -> AccountId {
        AccountId::new(self.bytes())
    }

    fn digest(&mut self) -> Digest {
        Digest::new(self.bytes())
    }

    fn model(&mut self) -> ModelId {
        ModelId::new(self.bytes())
    }

    fn line(&mut self) -> LineId {
        LineId::new(self.bytes())
    }

    fn amount(&mut self) -> Amount {
        Amount::from_grains(self.u128())
    }

    fn text(&mut self) -> String {
        (0..self.below(12))
            .map(|_| self.pick(&['a', 'Z', '9', '/', '-', 'ä', '日', '\u{1f600}', '"', '\0']))
            .collect()
    }

    fn texts(&mut self) -> Vec<String> {
        (0..self.below(4)).map(|_| self.text()).collect()
    }

    fn accounts(&mut self) -> Vec<AccountId> {
        (0..self.below(4)).map(|_| self.account()).collect()
    }

    fn numbers(&mut self) -> Vec<u32> {
        (0..self.below(4)).map(|_| self.u32()).collect()
    }

    fn usage(&mut self) -> Usage {
        Usage {
            input_tokens: self.small(),
            output_tokens: self.small(),
            millis: self.small(),
            requests: self.small(),
        }
    }

    fn prices(&mut self) -> Prices {
        Prices {
            input_per_mtok: self.amount(),
            output_per_mtok: self.amount(),
            per_msec: self.amount(),
            per_mreq: self.amount(),
        }
    }

    fn terms(&mut self) -> ChannelTerms {
        ChannelTerms {
            chain: ChainId::new(self.bytes()),
            payer: self.account(),
            payee: self.account(),
            issuer: self.account(),
            voucher_key: self.account(),
            receipt_key: self.account(),
            grace_ms: self.small(),
            open_nonce: self.small(),
        }
    }

    fn claim(&mut self) -> Claim {
        Claim {
            chain: ChainId::new(self.bytes()),
            channel: ChannelId::new(self.bytes()),
            lane: self.u32(),
            seq: self.small(),
            model: self.model(),
            quote: QuoteHash::new(self.bytes()),
            usage: self.usage(),
            amount: self.amount(),
        }
    }

    fn audit(&mut self) -> AuditCommitment {
        AuditCommitment {
            prompt_ids: self.digest(),
            output_ids: self.digest(),
            sampling: Sampling {
                temperature_micros: self.u32(),
                top_k: self.below(65) as u8,
                top_p_micros: 1_000_000,
                max_tokens: self.u32(),
                stop: self.texts(),
            },
            consumer_nonce: self.digest(),
            processor_nonce: self.chance(2).then(|| ProcessorNonce {
                nonce: self.digest(),
                index: self.u32(),
                path: (0..self.below(4)).map(|_| self.digest()).collect(),
            }),
            finish: self.pick(&[Finish::Stop, Finish::Length, Finish::Cancelled, Finish::Error]),
        }
    }

    fn receipt(&mut self) -> Box<Signed<Receipt>> {
        let body = Receipt {
            chain: ChainId::new(self.bytes()),
            channel: ChannelId::new(self.bytes()),
            lane: self.u32(),
            seq: self.small(),
            voucher: VoucherHash::new(self.bytes()),
            model: self.model(),
            quote: QuoteHash::new(self.bytes()),
            usage: self.usage(),
            spent: self.amount(),
            request: self.digest(),
            response: self.digest(),
            last: self.chance(2),
            audit: self.chance(2).then(|| self.audit()),
        };
        Box::new(Signed { body, signature: self.signature() })
    }

    fn signature(&mut self) -> Signature {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&self.bytes());
        bytes[32..].copy_from_slice(&self.bytes());
        Signature::new(bytes)
    }

    fn lines(&mut self) -> Vec<LineId> {
        (0..self.below(3)).map(|_| self.line()).collect()
    }

    fn models(&mut self) -> Vec<ModelId> {
        (0..self.below(3)).map(|_| self.model()).collect()
    }

    fn royalty_parts(&mut self) -> Vec<RoyaltyPart> {
        (0..self.below(3)).map(|_| RoyaltyPart { line: self.line(), bps: self.u16() }).collect()
    }

    fn settle_claim(&mut self) -> SettleClaim {
        let (claim, signature) = (self.claim(), self.signature());
        let proof = if self.chance(2) {
            ClaimProof::Voucher(Signed { body: Voucher(claim), signature })
        } else {
            ClaimProof::Approval(Signed { body: Approval(claim), signature })
        };
        SettleClaim { lines: self.lines(), proof, receipt: self.chance(2).then(|| self.receipt()) }
    }

    pub(crate) const BODIES: u64 = 27;

    /// A payload of the kind with this number.
    pub(crate) fn body(&mut self, kind: u64) -> Body {
        match kind {
            0 => Transfer { to: self.account(), issuer: self.account(), amount: self.amount() }.into(),
            1 => Mint { deposit: self.digest(), to: self.account(), amount: self.amount() }.into(),
            2 => Burn { amount: self.amount() }.into(),
            3 => RegisterProcessor { receipt_key: self.account(), endpoints: self.texts() }.into(),
            4 => PostOffer { model: self.model(), prices: self.prices(), issuers: self.accounts() }.into(),
            5 => WithdrawOffer { model: self.model() }.into(),
            6 => PublishModel {
                model: self.model(),
                name: self.text(),
                licence: self.text(),
                royalty_bps: self.u16(),
                parents: self.models(),
                tokenizer: self.digest(),
                engine: self.text(),
                size_bytes: self.small(),
                salt: self.digest(),
            }
            .into(),
            7 => RegisterForeign {
                model: self.model(),
                name: self.text(),
                licence: self.text(),
                tokenizer: self.digest(),
                engine: self.text(),
                size_bytes: self.small(),
                salt: self.digest(),
            }
            .into(),
            8 => ClaimRoyalty { line: self.line(), issuer: self.account() }.into(),
            9 => OpenChannel { terms: self.terms(), deposit: self.amount() }.into(),
            10 => TopUp { terms: self.terms(), amount: self.amount() }.into(),
            11 => Settle {
                terms: self.terms(),
                claims: (0..self.below(3)).map(|_| self.settle_claim()).collect(),
                floor: self.chance(2).then(|| RaiseFloor { to: self.u32(), remove: self.numbers() }),
            }
            .into(),
            12 => ShowReceipt { terms: self.terms(), receipt: self.receipt() }.into(),
            13 => RequestClose { terms: self.terms() }.into(),
            14 => CloseChannel { terms: self.terms(), lanes: self.numbers() }.into(),
            15 => Withdraw {
                terms: self.terms(),
                lanes: (0..self.below(3))
                    .map(|_| MaturedLane { lane: self.u32(), lines: self.lines() })
                    .collect(),
            }
            .into(),
            16 => TransferShares {
                line: self.line(),
                to: self.account(),
                shares: self.small(),
                issuers: self.accounts(),
            }
            .into(),
            17 => AuthoriseKey { key: self.account(), issuer: self.account(), limit: self.amount() }.into(),
            18 => RevokeKey {
                key: self.account(),
                channels: (0..self.below(3)).map(|_| self.terms()).collect(),
            }
            .into(),
            19 => RequestRedemption {
                issuer: self.account(),
                amount: self.amount(),
                reference: self.text(),
                wait_ms: self.small(),
            }
            .into(),
            20 => PayRedemption { holder: self.account(), number: self.small() }.into(),
            21 => CancelRedemption { issuer: self.account(), number: self.small() }.into(),
            22 => StateReserve { amount: self.amount(), day: self.small(), document: self.digest() }.into(),
            23 => CommitModel { commitment: self.digest() }.into(),
            24 => PostBond {
                issuer: self.account(),
                amount: self.amount(),
                target: self.amount(),
                withhold_bps: self.u16(),
            }
            .into(),
            25 => Unbond { issuer: self.account(), wait_ms: self.small() }.into(),
            26 => WithdrawBond { issuer: self.account() }.into(),
            other => panic!("no payload {other}"),
        }
    }

    pub(crate) fn tx(&mut self, kind: u64) -> SignedTx {
        let body = Transaction {
            chain: ChainId::new(self.bytes()),
            sender: self.account(),
            nonce: self.small(),
            fee_issuer: self.account(),
            body: self.body(kind),
        };
        Signed { body, signature: self.signature() }
    }

    pub(crate) const RECORDS: u64 = 22;
}
