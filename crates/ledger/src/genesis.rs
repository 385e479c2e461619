//! How a ledger begins.

use crate::{
    params::{self, Params},
    record::{Balance, Issuer, Record, Stored},
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{AccountId, Amount, ChainId, PublicKey, encode, sha256};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// All that a ledger starts from. The ledger's id is the hash of it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// The ledger's name, for people.
    pub name: String,
    /// Unix time of the beginning, in milliseconds.
    pub time_ms: u64,
    /// Who receives the fees.
    pub fee_account: AccountId,
    /// Who issues credits.
    pub issuers: Vec<GenesisIssuer>,
    /// Who holds credits from the beginning.
    #[serde(default)]
    pub balances: Vec<GenesisBalance>,
    /// Who runs the ledger.
    pub validators: Vec<GenesisValidator>,
    /// What the federation chose.
    #[serde(default)]
    pub params: Params,
}

/// An issuer at the beginning.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisIssuer {
    /// Its account.
    pub account: AccountId,
    /// Its name, for people.
    pub name: String,
    /// The most that may be outstanding.
    pub cap: Amount,
    /// The most that may be minted on one day.
    pub daily_limit: Amount,
}

/// A balance at the beginning.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisBalance {
    /// The holder.
    pub account: AccountId,
    /// Whose credits.
    pub issuer: AccountId,
    /// How much.
    pub amount: Amount,
}

/// A validator at the beginning.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisValidator {
    /// Its public key.
    pub key: AccountId,
    /// Where the others reach it; one validator alone needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// What execution needs to know of the genesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The ledger.
    pub chain: ChainId,
    /// Who receives the fees.
    pub fee_account: AccountId,
    /// What the federation chose.
    pub params: Params,
}

/// A genesis that no ledger can start from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// A list with too few or too many items.
    #[error("{what}: between {min} and {max} are allowed")]
    Count {
        /// Which list.
        what: &'static str,
        /// At least.
        min: usize,
        /// At most.
        max: usize,
    },
    /// Text that is empty or too long.
    #[error("{what} must have between 1 and {max} bytes")]
    Text {
        /// Which text.
        what: &'static str,
        /// Bytes at most.
        max: usize,
    },
    /// The same entry twice.
    #[error("{what} appears twice: {id}")]
    Double {
        /// What kind of entry.
        what: &'static str,
        /// Which.
        id: AccountId,
    },
    /// Bytes that are no public key.
    #[error("{what} {id} is not a usable ed25519 public key")]
    Key {
        /// What kind of entry.
        what: &'static str,
        /// Which.
        id: AccountId,
    },
    /// A value outside its bounds.
    #[error("{what} is out of bounds; see the ledger's parameters")]
    OutOfBounds {
        /// Which value.
        what: &'static str,
    },
    /// A balance in credits of nobody.
    #[error("the balance of {account} is in credits of {issuer}, which is not among the issuers")]
    UnknownIssuer {
        /// The holder.
        account: AccountId,
        /// The unknown issuer.
        issuer: AccountId,
    },
    /// Balances above an issuer's cap.
    #[error("the balances exceed the cap of the issuer {issuer}")]
    OverCap {
        /// Which issuer.
        issuer: AccountId,
    },
}

impl Genesis {
    /// The ledger's id.
    pub fn chain_id(&self) -> ChainId {
        sha256(&[b"gristmill/genesis/v1", &encode(self)]).into()
    }

    /// What execution needs to know.
    pub fn rules(&self) -> Rules {
        Rules { chain: self.chain_id(), fee_account: self.fee_account, params: self.params.clone() }
    }

    /// Refuses a genesis that no ledger can start from.
    pub fn check(&self) -> Result<(), GenesisError> {
        check_text("the ledger's name", &self.name)?;
        check_count("issuers", self.issuers.len(), 1, params::MAX_GENESIS_ISSUERS)?;
        check_count("balances", self.balances.len(), 0, params::MAX_GENESIS_BALANCES)?;
        check_count("validators", self.validators.len(), 1, params::MAX_GENESIS_VALIDATORS)?;
        check_key("the fee account", self.fee_account)?;
        self.check_params()?;
        let mut issuers = BTreeSet::new();
        for issuer in &self.issuers {
            check_text("an issuer's name", &issuer.name)?;
            check_key("the issuer", issuer.account)?;
            if !issuers.insert(issuer.account) {
                return Err(GenesisError::Double { what: "an issuer", id: issuer.account });
            }
            if issuer.cap > params::MAX_CAP {
                return Err(GenesisError::OutOfBounds { what: "an issuer's cap" });
            }
        }
        let mut validators = BTreeSet::new();
        for validator in &self.validators {
            check_key("the validator", validator.key)?;
            if !validators.insert(validator.key) {
                return Err(GenesisError::Double { what: "a validator", id: validator.key });
            }
            if validator.address.as_ref().is_some_and(|a| a.is_empty() || a.len() > params::MAX_ADDRESS_BYTES)
            {
                return Err(GenesisError::Text {
                    what: "a validator's address",
                    max: params::MAX_ADDRESS_BYTES,
                });
            }
        }
        self.check_balances()
    }

    fn check_params(&self) -> Result<(), GenesisError> {
        let chosen = &self.params;
        let grace = chosen.min_grace_ms > 0
            && chosen.min_grace_ms <= chosen.default_grace_ms
            && chosen.default_grace_ms <= chosen.max_grace_ms
            && chosen.max_grace_ms <= params::MAX_GRACE_MS;
        if !grace {
            return Err(GenesisError::OutOfBounds { what: "the grace period (0 < min ≤ default ≤ max)" });
        }
        if chosen.min_deposit.is_zero() || chosen.min_deposit > params::MAX_DEPOSIT {
            return Err(GenesisError::OutOfBounds { what: "the smallest deposit" });
        }
        if !(1..=params::MAX_REDEMPTION_MS).contains(&chosen.min_redemption_ms) {
            return Err(GenesisError::OutOfBounds { what: "the time to pay a redemption" });
        }
        if !(1..=params::MAX_UNBONDING_MS).contains(&chosen.unbonding_ms) {
            return Err(GenesisError::OutOfBounds { what: "the time that a bond waits" });
        }
        if chosen.newcomer_debt > params::MAX_FEE {
            return Err(GenesisError::OutOfBounds { what: "what a newcomer may owe" });
        }
        if chosen.fees.all().any(|fee| fee > params::MAX_FEE) {
            return Err(GenesisError::OutOfBounds { what: "a fee" });
        }
        Ok(())
    }

    fn check_balances(&self) -> Result<(), GenesisError> {
        let mut seen = BTreeSet::new();
        let mut totals: BTreeMap<AccountId, Amount> = BTreeMap::new();
        for balance in &self.balances {
            let GenesisBalance { account, issuer, amount } = balance;
            let Some(cap) = self.issuers.iter().find(|i| i.account == *issuer).map(|i| i.cap) else {
                return Err(GenesisError::UnknownIssuer { account: *account, issuer: *issuer });
            };
            check_key("the holder", *account)?;
            if !seen.insert((*account, *issuer)) {
                return Err(GenesisError::Double { what: "a balance", id: *account });
            }
            if amount.is_zero() {
                return Err(GenesisError::OutOfBounds { what: "a balance" });
            }
            let total = totals.entry(*issuer).or_default();
            *total = total
                .checked_add(*amount)
                .filter(|total| *total <= cap)
                .ok_or(GenesisError::OverCap { issuer: *issuer })?;
        }
        Ok(())
    }

    /// The first state. Meaningful only for a genesis that passes [`check`](Self::check).
    pub fn records(&self) -> Vec<Record> {
        let issuers = self.issuers.iter().map(|issuer| {
            let grains = self
                .balances
                .iter()
                .filter(|balance| balance.issuer == issuer.account)
                .fold(0u128, |sum, balance| sum.saturating_add(balance.amount.grains()));
            Issuer {
                issuer: issuer.account,
                name: issuer.name.clone(),
                cap: issuer.cap,
                daily_limit: issuer.daily_limit,
                genesis: Amount::from_grains(grains),
                minted: Amount::ZERO,
                burned: Amount::ZERO,
                day: 0,
                minted_on_day: Amount::ZERO,
            }
            .into_record()
        });
        let balances = self.balances.iter().map(|balance| {
            Balance { account: balance.account, issuer: balance.issuer, amount: balance.amount }.into_record()
        });
        issuers.chain(balances).collect()
    }
}

fn check_count(what: &'static str, count: usize, min: usize, max: usize) -> Result<(), GenesisError> {
    (min..=max).contains(&count).then_some(()).ok_or(GenesisError::Count { what, min, max })
}

fn check_text(what: &'static str, text: &str) -> Result<(), GenesisError> {
    let max = params::MAX_NAME_BYTES;
    (1..=max).contains(&text.len()).then_some(()).ok_or(GenesisError::Text { what, max })
}

fn check_key(what: &'static str, id: AccountId) -> Result<(), GenesisError> {
    PublicKey::try_from(&id).map(drop).map_err(|_| GenesisError::Key { what, id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{params::Fees, world::*};

    #[test]
    fn the_first_state_adds_up() {
        let genesis = genesis();
        assert_eq!(genesis.check(), Ok(()));
        let records = genesis.records();
        let audit = crate::scan(records.clone());
        assert!(audit.adds_up(), "{audit:?}");
        assert_eq!(records.len(), 2 + 6);
        let renamed = Genesis { name: "other".into(), ..genesis.clone() };
        assert_ne!(genesis.chain_id(), renamed.chain_id());
    }

    #[test]
    fn from_toml_with_defaults() {
        let account = id(PAYER);
        let text = format!(
            r#"
            name = "small"
            time_ms = 1
            fee_account = "{account}"
            [[issuers]]
            account = "{account}"
            name = "one"
            cap = "1000"
            daily_limit = "10"
            [[validators]]
            key = "{account}"
            [params]
            min_grace_ms = 1000
            [params.fees]
            transfer = "7"
            "#
        );
        let genesis: Genesis = toml::from_str(&text).unwrap();
        assert_eq!(genesis.check(), Ok(()));
        assert_eq!(genesis.params.fees.transfer, grains(7));
        assert_eq!(genesis.params.fees.settle, Fees::default().settle);
        assert_eq!(genesis.params.default_grace_ms, 900_000);
        let json = serde_json::to_string(&genesis).unwrap();
        assert_eq!(serde_json::from_str::<Genesis>(&json).unwrap(), genesis);
        assert!(toml::from_str::<Genesis>(&format!("{text}\ntypo = 1")).is_err());
    }

    #[test]
    fn refused() {
        let good = genesis();
        let broken = |edit: &dyn Fn(&mut Genesis)| {
            let mut genesis = good.clone();
            edit(&mut genesis);
            genesis.check().unwrap_err()
        };
        let double = |g: &mut Genesis| g.issuers[1].account = g.issuers[0].account;
        assert_eq!(broken(&double), GenesisError::Double { what: "an issuer", id: id(ISSUER) });
        let twice = |g: &mut Genesis| g.balances.push(g.balances[0].clone());
        assert_eq!(broken(&twice), GenesisError::Double { what: "a balance", id: id(ISSUER) });
        let same = |g: &mut Genesis| g.validators.push(g.validators[0].clone());
        assert_eq!(broken(&same), GenesisError::Double { what: "a validator", id: id(30) });
        let nobody = |g: &mut Genesis| g.balances[0].issuer = id(STRANGER);
        let unknown = GenesisError::UnknownIssuer { account: id(ISSUER), issuer: id(STRANGER) };
        assert_eq!(broken(&nobody), unknown);
        let over = |g: &mut Genesis| g.balances[0].amount = g.issuers[0].cap;
        assert_eq!(broken(&over), GenesisError::OverCap { issuer: id(ISSUER) });
        let weak = AccountId::new([0; 32]);
        for (edit, what) in [
            ((|g, key| g.fee_account = key) as fn(&mut Genesis, AccountId), "the fee account"),
            (|g, key| g.issuers[1].account = key, "the issuer"),
            (|g, key| g.validators[0].key = key, "the validator"),
            (|g, key| g.balances[0].account = key, "the holder"),
        ] {
            assert_eq!(broken(&|g| edit(g, weak)), GenesisError::Key { what, id: weak });
        }
        for (edit, what) in [
            ((|g| g.issuers.clear()) as fn(&mut Genesis), "issuers"),
            (|g| g.validators.clear(), "validators"),
        ] {
            assert!(matches!(broken(&edit), GenesisError::Count { what: found, .. } if found == what));
        }
        for edit in [
            (|g| g.name.clear()) as fn(&mut Genesis),
            |g| g.name = "x".repeat(65),
            |g| g.issuers[0].name.clear(),
            |g| g.validators[0].address = Some(String::new()),
        ] {
            assert!(matches!(broken(&edit), GenesisError::Text { .. }));
        }
        for edit in [
            (|g| g.issuers[0].cap = grains(u128::MAX)) as fn(&mut Genesis),
            |g| g.balances[0].amount = grains(0),
            |g| g.params.min_grace_ms = 0,
            |g| g.params.min_grace_ms = g.params.max_grace_ms,
            |g| g.params.max_grace_ms = u64::MAX,
            |g| g.params.min_deposit = grains(0),
            |g| g.params.fees.settle = grains(u128::MAX),
            |g| g.params.min_redemption_ms = 0,
            |g| g.params.min_redemption_ms = params::MAX_REDEMPTION_MS + 1,
            |g| g.params.unbonding_ms = 0,
            |g| g.params.unbonding_ms = params::MAX_UNBONDING_MS + 1,
            |g| g.params.newcomer_debt = grains(u128::MAX),
        ] {
            assert!(matches!(broken(&edit), GenesisError::OutOfBounds { .. }));
        }
    }
}
