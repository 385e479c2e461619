//! Records, events, rejections and whole genesis states.

use super::*;

impl Random {
    /// A record of the kind with this number.
    pub(crate) fn record(&mut self, kind: u64) -> Record {
        match kind {
            0 => Account { account: self.account(), nonce: self.small() }.into_record(),
            1 => Balance { account: self.account(), issuer: self.account(), amount: self.amount() }
                .into_record(),
            2 => Issuer {
                issuer: self.account(),
                name: self.text(),
                cap: self.amount(),
                daily_limit: self.amount(),
                genesis: self.amount(),
                minted: self.amount(),
                burned: self.amount(),
                day: self.small(),
                minted_on_day: self.amount(),
            }
            .into_record(),
            3 => Deposit {
                issuer: self.account(),
                deposit: self.digest(),
                to: self.account(),
                amount: self.amount(),
                time_ms: self.small(),
            }
            .into_record(),
            4 => Processor {
                processor: self.account(),
                receipt_key: self.account(),
                endpoints: self.texts(),
                offers: self.u16(),
                time_ms: self.small(),
            }
            .into_record(),
            5 => Offer {
                processor: self.account(),
                model: self.model(),
                prices: self.prices(),
                issuers: self.accounts(),
                time_ms: self.small(),
            }
            .into_record(),
            6 => Line {
                line: self.line(),
                name: self.text(),
                owner: self.chance(2).then(|| self.account()),
                versions: self.u32(),
                latest: self.model(),
            }
            .into_record(),
            7 => Model {
                model: self.model(),
                line: self.line(),
                name: self.text(),
                version: self.u32(),
                publisher: self.account(),
                foreign: self.chance(2),
                licence: self.text(),
                royalty_bps: self.u16(),
                parents: self.models(),
                royalties: self.royalty_parts(),
                tokenizer: self.digest(),
                engine: self.text(),
                size_bytes: self.small(),
                time_ms: self.small(),
            }
            .into_record(),
            8 => Shares { line: self.line(), holder: self.account(), shares: self.small() }.into_record(),
            9 => Pool {
                line: self.line(),
                issuer: self.account(),
                balance: self.amount(),
                index: self.u128(),
                remainder: self.small(),
            }
            .into_record(),
            10 => Accrual {
                line: self.line(),
                issuer: self.account(),
                holder: self.account(),
                index: self.u128(),
                fraction: self.u64(),
            }
            .into_record(),
            11 => self.channel_record(),
            12 => self.lane_record(),
            13 => Deadlines { latest_ms: self.small() }.into_record(),
            14 => LinePools { line: self.line(), count: self.u16() }.into_record(),
            15 => SpendingKey {
                owner: self.account(),
                key: self.account(),
                issuer: self.account(),
                limit: self.amount(),
                spent: self.amount(),
            }
            .into_record(),
            16 => Redemption {
                holder: self.account(),
                number: self.small(),
                issuer: self.account(),
                amount: self.amount(),
                reference: self.text(),
                deadline_ms: self.small(),
            }
            .into_record(),
            17 => Reserve {
                issuer: self.account(),
                amount: self.amount(),
                day: self.small(),
                document: self.digest(),
                time_ms: self.small(),
            }
            .into_record(),
            18 => Commitment { publisher: self.account(), commitment: self.digest(), height: self.small() }
                .into_record(),
            19 => Debt {
                account: self.account(),
                issuer: self.account(),
                amount: self.amount(),
                creditor: self.account(),
            }
            .into_record(),
            20 => Newcomers { day: self.small(), count: self.u32() }.into_record(),
            21 => Bond {
                processor: self.account(),
                issuer: self.account(),
                held: self.amount(),
                target: self.amount(),
                withhold_bps: self.u16(),
                unbonding_ms: self.chance(2).then(|| self.small()),
            }
            .into_record(),
            other => panic!("no record {other}"),
        }
    }

    fn channel_record(&mut self) -> Record {
        let deadline_ms = self.small();
        Channel {
            terms: self.terms(),
            state: self.pick(&[
                ChannelState::Open,
                ChannelState::Closing { deadline_ms },
                ChannelState::Closed,
            ]),
            deposit: self.amount(),
            settled: self.amount(),
            refunded: self.amount(),
            lane_floor: self.u32(),
            lanes: self.u64(),
            pending: self.u64(),
        }
        .into_record()
    }

    fn lane_record(&mut self) -> Record {
        let pending = Pending {
            seq: self.small(),
            amount: self.amount(),
            usage: self.usage(),
            cap: self.chance(2).then(|| Cap { seq: self.small(), spent: self.amount(), usage: self.usage() }),
            deadline_ms: self.small(),
            by_payee: self.chance(2),
        };
        Lane {
            channel: ChannelId::new(self.bytes()),
            lane: self.u32(),
            model: self.model(),
            quote: QuoteHash::new(self.bytes()),
            royalties: self.royalty_parts(),
            paid: self.amount(),
            seq: self.small(),
            usage: self.usage(),
            pending: self.chance(2).then_some(pending),
        }
        .into_record()
    }

    pub(crate) const EVENTS: u64 = 28;

    /// An event of the kind with this number.
    pub(crate) fn event(&mut self, kind: u64) -> Event {
        let (channel, payer, payee, issuer) =
            (ChannelId::new(self.bytes()), self.account(), self.account(), self.account());
        let (model, line, amount) = (self.model(), self.line(), self.amount());
        match kind {
            0 => Event::Transferred { from: payer, to: payee, issuer, amount },
            1 => Event::Minted { issuer, deposit: self.digest(), to: payee, amount },
            2 => Event::Burned { issuer, amount },
            3 => Event::ProcessorRegistered {
                processor: payee,
                receipt_key: self.account(),
                endpoints: self.texts(),
            },
            4 => Event::OfferPosted {
                processor: payee,
                model,
                prices: self.prices(),
                issuers: self.accounts(),
            },
            5 => Event::OfferWithdrawn { processor: payee, model },
            6 => Event::ModelPublished {
                model,
                line,
                name: self.text(),
                version: self.u32(),
                publisher: payee,
                royalty_bps: self.u16(),
            },
            7 => Event::ForeignRegistered { model, line, name: self.text(), publisher: payee },
            8 => Event::RoyaltyClaimed { line, issuer, holder: payee, amount },
            9 => Event::ChannelOpened { channel, terms: Box::new(self.terms()), deposit: amount },
            10 => Event::ChannelToppedUp { channel, payer, payee, issuer, amount, deposit: self.amount() },
            11 => Event::ClaimPaid {
                channel,
                payer,
                payee,
                issuer,
                lane: self.u32(),
                seq: self.small(),
                model,
                usage: self.usage(),
                paid: amount,
                earned: self.amount(),
                owed: self.amount(),
                bonded: self.amount(),
                royalties: vec![Royalty { line, amount: self.amount() }],
            },
            12 => Event::ClaimPending {
                channel,
                payer,
                payee,
                issuer,
                lane: self.u32(),
                seq: self.small(),
                model,
                amount,
                deadline_ms: self.small(),
                by_payee: self.chance(2),
            },
            13 => Event::ClaimCapped {
                channel,
                payer,
                payee,
                lane: self.u32(),
                seq: self.small(),
                spent: amount,
                removed: self.chance(2),
            },
            14 => Event::FloorRaised { channel, payer, payee, floor: self.u32() },
            15 => Event::CloseRequested { channel, payer, payee, deadline_ms: self.small() },
            16 => {
                Event::ChannelClosed { channel, payer, payee, issuer, settled: amount, refund: self.amount() }
            }
            17 => Event::SharesTransferred { line, from: payer, to: payee, shares: self.small() },
            18 => Event::KeyAuthorised { owner: payer, key: self.account(), issuer, limit: amount },
            19 => Event::KeyRevoked { owner: payer, key: self.account(), issuer, spent: amount },
            20 => Event::RedemptionRequested {
                holder: payer,
                number: self.small(),
                issuer,
                amount,
                reference: self.text(),
                deadline_ms: self.small(),
            },
            21 => Event::RedemptionPaid { holder: payer, number: self.small(), issuer, amount },
            22 => Event::RedemptionCancelled { holder: payer, number: self.small(), issuer, amount },
            23 => Event::ReserveStated { issuer, amount, day: self.small(), document: self.digest() },
            24 => Event::ModelCommitted { publisher: payee, commitment: self.digest() },
            25 => Event::BondPosted {
                processor: payee,
                issuer,
                amount,
                held: self.amount(),
                target: self.amount(),
                withhold_bps: self.u16(),
            },
            26 => Event::UnbondingBegan { processor: payee, issuer, held: amount, deadline_ms: self.small() },
            27 => Event::BondReturned { processor: payee, issuer, amount },
            other => panic!("no event {other}"),
        }
    }

    pub(crate) fn rejection(&mut self) -> Rejection {
        self.pick(Rejection::ALL)
    }

    pub(crate) fn genesis(&mut self) -> Genesis {
        let mut params =
            Params { min_deposit: self.amount(), max_grace_ms: self.small(), ..Params::default() };
        params.fees.settle = self.amount();
        Genesis {
            name: self.text(),
            time_ms: self.small(),
            fee_account: self.account(),
            issuers: (0..self.below(3))
                .map(|_| GenesisIssuer {
                    account: self.account(),
                    name: self.text(),
                    cap: self.amount(),
                    daily_limit: self.amount(),
                })
                .collect(),
            balances: (0..self.below(3))
                .map(|_| GenesisBalance {
                    account: self.account(),
                    issuer: self.account(),
                    amount: self.amount(),
                })
                .collect(),
            validators: (0..self.below(3))
                .map(|_| GenesisValidator {
                    key: self.account(),
                    address: self.chance(2).then(|| self.text()),
                })
                .collect(),
            params,
        }
    }
}
