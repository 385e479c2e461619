//! Every bound of the ledger. The constants are part of the code of the ledger; what a federation
//! may choose for itself is in [`Params`], fixed by its genesis.

use crate::tx::Body;
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::Amount;
use serde::{Deserialize, Serialize};

/// Bytes of a signed transaction at most.
pub const MAX_TX_BYTES: usize = 32 * 1024;
/// Bytes of an encoded record at most. Storage may rely on it.
pub const MAX_RECORD_BYTES: usize = 1024;

/// The most that an issuer may have outstanding. Sums over all holdings of one issuer therefore fit
/// into 128 bits with room to spare.
pub const MAX_CAP: Amount = Amount::from_grains(1 << 120);
/// The most that a channel may have held over its life. An amount below 2⁶³ can be multiplied by
/// 10⁴ (royalty) or by 2⁶⁴ (royalty index) within 128 bits.
pub const MAX_DEPOSIT: Amount = Amount::from_grains(1 << 63);
/// The highest price of 10⁶ units.
pub const MAX_PRICE: Amount = Amount::from_grains(1_000_000_000_000_000_000);
/// The highest fee that a genesis may ask for a transaction.
pub const MAX_FEE: Amount = Amount::from_credits(1_000);

/// Milliseconds of a day, the period of an issuer's mint limit.
pub const DAY_MS: u64 = 86_400_000;
/// Ledger time counts at most this much between two blocks.
pub const MAX_CLOCK_STEP_MS: u64 = 10_000;
/// The longest grace period that a genesis may allow.
pub const MAX_GRACE_MS: u64 = 7 * DAY_MS;

/// The longest time that an issuer may be given to pay a redemption.
pub const MAX_REDEMPTION_MS: u64 = 30 * DAY_MS;

/// The longest time that a genesis may let a bond wait.
pub const MAX_UNBONDING_MS: u64 = 30 * DAY_MS;

/// Lanes that may be open at once: those from the floor up.
pub const LANES: u32 = 64;
/// Channels that a revocation of a spending key closes.
pub const MAX_KEY_CHANNELS: usize = 64;
/// Claims in one settlement.
pub const MAX_CLAIMS: usize = 16;

/// Shares of every model line.
pub const SHARES: u64 = 1_000_000;
/// One whole in basis points.
pub const FULL_BPS: u16 = 10_000;

/// Versions that a version may be made from.
pub const MAX_PARENTS: usize = 4;
/// Lines that share a version's royalties.
pub const MAX_ROYALTIES: usize = 8;

/// Offers of one processor.
pub const MAX_OFFERS: u16 = 256;
/// Issuers that one offer accepts.
pub const MAX_OFFER_ISSUERS: usize = 8;
/// Endpoints of one processor.
pub const MAX_ENDPOINTS: usize = 4;
/// Bytes of an endpoint.
pub const MAX_ENDPOINT_BYTES: usize = 128;
/// Bytes of a redemption's reference.
pub const MAX_REFERENCE_BYTES: usize = 64;
/// Bytes of a model line's name, a licence or an engine requirement.
pub const MAX_NAME_BYTES: usize = 64;

/// Issuers in a genesis.
pub const MAX_GENESIS_ISSUERS: usize = 64;
/// Balances in a genesis.
pub const MAX_GENESIS_BALANCES: usize = 65_536;
/// Validators in a genesis.
pub const MAX_GENESIS_VALIDATORS: usize = 128;
/// Bytes of a validator's address.
pub const MAX_ADDRESS_BYTES: usize = 256;

/// What a federation chooses in its genesis.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Flat fees by kind of transaction.
    pub fees: Fees,
    /// The shortest grace period of a channel, in milliseconds of ledger time.
    pub min_grace_ms: u64,
    /// What wallets take unless told otherwise.
    pub default_grace_ms: u64,
    /// The longest grace period of a channel.
    pub max_grace_ms: u64,
    /// The smallest deposit that opens a channel, and the smallest redemption.
    pub min_deposit: Amount,
    /// The shortest time that an issuer is given to pay a redemption, in milliseconds.
    pub min_redemption_ms: u64,
    /// How long a bond still answers for its processor after it was asked back, in milliseconds.
    pub unbonding_ms: u64,
    /// Accounts without credits that may begin to sell on one day, owing their first fees; 0 for none.
    pub newcomers_per_day: u32,
    /// Fees that such an account may owe until it has earned them.
    pub newcomer_debt: Amount,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            fees: Fees::default(),
            min_grace_ms: 60_000,
            default_grace_ms: 900_000,
            max_grace_ms: DAY_MS,
            min_deposit: Amount::from_grains(1_000_000),
            min_redemption_ms: 3 * DAY_MS,
            unbonding_ms: 7 * DAY_MS,
            newcomers_per_day: 100,
            newcomer_debt: Amount::from_grains(1_000_000),
        }
    }
}

macro_rules! fees {
    ($($kind:ident $field:ident = $grains:literal,)*) => {
        /// The flat fee of each kind of transaction, in credits of the issuer that the sender names.
        #[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Fees {
            $(#[doc = concat!("Of `", stringify!($field), "`.")] pub $field: Amount,)*
        }

        impl Default for Fees {
            fn default() -> Self {
                Self { $($field: Amount::from_grains($grains),)* }
            }
        }

        impl Fees {
            /// The same fee for every kind.
            pub const fn flat(fee: Amount) -> Self {
                Self { $($field: fee,)* }
            }

            /// The fee of a transaction with this payload.
            pub const fn of(&self, body: &Body) -> Amount {
                match body { $(Body::$kind(_) => self.$field,)* }
            }

            /// Every fee.
            pub fn all(&self) -> impl Iterator<Item = Amount> {
                [$(self.$field),*].into_iter()
            }
        }
    };
}

fees! {
    Transfer transfer = 10_000,
    Mint mint = 10_000,
    Burn burn = 10_000,
    RegisterProcessor register_processor = 100_000,
    PostOffer post_offer = 50_000,
    WithdrawOffer withdraw_offer = 10_000,
    PublishModel publish_model = 1_000_000,
    RegisterForeign register_foreign = 1_000_000,
    ClaimRoyalty claim_royalty = 10_000,
    OpenChannel open_channel = 50_000,
    TopUp top_up = 10_000,
    Settle settle = 50_000,
    ShowReceipt show_receipt = 20_000,
    RequestClose request_close = 10_000,
    CloseChannel close_channel = 20_000,
    Withdraw withdraw = 20_000,
    TransferShares transfer_shares = 20_000,
    AuthoriseKey authorise_key = 20_000,
    RevokeKey revoke_key = 20_000,
    RequestRedemption request_redemption = 20_000,
    PayRedemption pay_redemption = 10_000,
    CancelRedemption cancel_redemption = 10_000,
    StateReserve state_reserve = 10_000,
    CommitModel commit_model = 50_000,
    PostBond post_bond = 20_000,
    Unbond unbond = 20_000,
    WithdrawBond withdraw_bond = 20_000,
}
