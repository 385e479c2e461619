//! What can be listed: issuers, processors, offers, models, the holders of a line's shares, and an
//! account's channels, spending keys and redemptions.
//!
//! Built by one scan of the state when the node starts, then kept up from the records that blocks
//! change. It is a convenience for finding things; whoever acts on a listing reads the record with
//! a proof.

use gristmill_ledger::record::{ChannelState, Issuer, Line, Model, Offer, Processor, Record};
use gristmill_types::{AccountId, ChannelId, LineId, ModelId, StateKey, decode};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The listings.
#[derive(Debug, Default)]
pub struct Catalog {
    issuers: BTreeMap<AccountId, Issuer>,
    processors: BTreeMap<AccountId, Processor>,
    offers: BTreeMap<(ModelId, AccountId), Offer>,
    holders: BTreeSet<(LineId, AccountId)>,
    spending_keys: BTreeSet<(AccountId, AccountId)>,
    /// By holder and by issuer: holder and number.
    redemptions: BTreeSet<(AccountId, AccountId, u64)>,
    /// What to take off the lists when its record is removed.
    removable: HashMap<StateKey, Listed>,
    lines: BTreeMap<LineId, Line>,
    models: BTreeMap<ModelId, Model>,
    channels: BTreeSet<(AccountId, ChannelId)>,
    latest_deadline_ms: u64,
}

/// A record that may be removed.
#[derive(Clone, Copy, Debug)]
enum Listed {
    Offer(ModelId, AccountId),
    Holder(LineId, AccountId),
    SpendingKey(AccountId, AccountId),
    Redemption { holder: AccountId, issuer: AccountId, number: u64 },
}

/// Whether a change of this record concerns the listings. A removal may, so it always does.
pub(crate) fn is_listed(value: Option<&[u8]>) -> bool {
    // The most frequent kinds, told by their tag alone.
    const ACCOUNT: u8 = 0;
    const BALANCE: u8 = 1;
    !matches!(value.and_then(<[u8]>::first), Some(&(ACCOUNT | BALANCE)))
}

impl Catalog {
    /// A record was written, or removed.
    pub fn apply(&mut self, key: &StateKey, value: Option<&[u8]>) {
        match value {
            Some(bytes) => match decode::<Record>(bytes) {
                Ok(record) => self.insert(record),
                Err(error) => tracing::error!(%key, %error, "a state value is not a record"),
            },
            None => match self.removable.remove(key) {
                Some(Listed::Offer(model, processor)) => {
                    self.offers.remove(&(model, processor));
                }
                Some(Listed::Holder(line, holder)) => {
                    self.holders.remove(&(line, holder));
                }
                Some(Listed::SpendingKey(owner, key)) => {
                    self.spending_keys.remove(&(owner, key));
                }
                Some(Listed::Redemption { holder, issuer, number }) => {
                    for account in [holder, issuer] {
                        self.redemptions.remove(&(account, holder, number));
                    }
                }
                None => {}
            },
        }
    }

    /// A record exists with this content.
    pub fn insert(&mut self, record: Record) {
        let key = record.key();
        match record {
            Record::Issuer(issuer) => {
                self.issuers.insert(issuer.issuer, *issuer);
            }
            Record::Processor(processor) => {
                self.processors.insert(processor.processor, *processor);
            }
            Record::Offer(offer) => {
                self.removable.insert(key, Listed::Offer(offer.model, offer.processor));
                self.offers.insert((offer.model, offer.processor), *offer);
            }
            Record::Line(line) => {
                self.lines.insert(line.line, *line);
            }
            Record::Model(model) => {
                self.models.insert(model.model, *model);
            }
            Record::Channel(channel) => {
                let id = channel.terms.id();
                for account in [channel.terms.payer, channel.terms.payee] {
                    if channel.state == ChannelState::Closed {
                        self.channels.remove(&(account, id));
                    } else {
                        self.channels.insert((account, id));
                    }
                }
            }
            Record::Shares(shares) => {
                self.removable.insert(key, Listed::Holder(shares.line, shares.holder));
                self.holders.insert((shares.line, shares.holder));
            }
            Record::SpendingKey(of) => {
                self.removable.insert(key, Listed::SpendingKey(of.owner, of.key));
                self.spending_keys.insert((of.owner, of.key));
            }
            Record::Redemption(of) => {
                let (holder, issuer, number) = (of.holder, of.issuer, of.number);
                self.removable.insert(key, Listed::Redemption { holder, issuer, number });
                self.redemptions.extend([(holder, holder, number), (issuer, holder, number)]);
            }
            Record::Deadlines(deadlines) => self.latest_deadline_ms = deadlines.latest_ms,
            Record::Account(_)
            | Record::Balance(_)
            | Record::Deposit(_)
            | Record::Pool(_)
            | Record::Accrual(_)
            | Record::Lane(_)
            | Record::LinePools(_)
            | Record::Reserve(_)
            | Record::Commitment(_)
            | Record::Debt(_)
            | Record::Newcomers(_)
            | Record::Bond(_) => {}
        }
    }

    /// The issuers.
    pub fn issuers(&self) -> impl Iterator<Item = &Issuer> {
        self.issuers.values()
    }

    /// The processors.
    pub fn processors(&self) -> impl Iterator<Item = &Processor> {
        self.processors.values()
    }

    /// The offers of a model version, or all.
    pub fn offers(&self, model: Option<ModelId>) -> impl Iterator<Item = &Offer> {
        let from = (model.unwrap_or(ModelId::new([0; 32])), AccountId::new([0; 32]));
        let to = (model.unwrap_or(ModelId::new([u8::MAX; 32])), AccountId::new([u8::MAX; 32]));
        self.offers.range(from..=to).map(|(_, offer)| offer)
    }

    /// The model versions.
    pub fn models(&self) -> impl Iterator<Item = &Model> {
        self.models.values()
    }

    /// The line of a model version.
    pub fn line(&self, line: &LineId) -> Option<&Line> {
        self.lines.get(line)
    }

    /// The channels that the account pays from or is paid by, without the closed ones.
    pub fn channels(&self, account: &AccountId) -> impl Iterator<Item = ChannelId> {
        let range = (*account, ChannelId::new([0; 32]))..=(*account, ChannelId::new([u8::MAX; 32]));
        self.channels.range(range).map(|(_, channel)| *channel)
    }

    /// Who holds shares of the line.
    pub fn holders(&self, line: &LineId) -> impl Iterator<Item = AccountId> {
        let range = (*line, AccountId::new([0; 32]))..=(*line, AccountId::new([u8::MAX; 32]));
        self.holders.range(range).map(|(_, holder)| *holder)
    }

    /// The keys that may spend from the account.
    pub fn spending_keys(&self, owner: &AccountId) -> impl Iterator<Item = AccountId> {
        let range = (*owner, AccountId::new([0; 32]))..=(*owner, AccountId::new([u8::MAX; 32]));
        self.spending_keys.range(range).map(|(_, key)| *key)
    }

    /// The redemptions that the account waits for or has to pay: holder and number.
    pub fn redemptions(&self, account: &AccountId) -> impl Iterator<Item = (AccountId, u64)> {
        let from = (*account, AccountId::new([0; 32]), 0);
        let to = (*account, AccountId::new([u8::MAX; 32]), u64::MAX);
        self.redemptions.range(from..=to).map(|(_, holder, number)| (*holder, *number))
    }

    /// Ledger time of the latest deadline that was ever set.
    pub const fn latest_deadline_ms(&self) -> u64 {
        self.latest_deadline_ms
    }
}
