//! The keys of everybody in the exchange, fixed, so that a run can be repeated.

use gristmill_types::SecretKey;

/// Who takes part.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Makes blocks; the fees are its.
    pub validator: SecretKey,
    /// Issues the credits.
    pub issuer: SecretKey,
    /// Publishes the models.
    pub modeler: SecretKey,
    /// Is paid.
    pub processor: SecretKey,
    /// Signs the processor's receipts.
    pub receipts: SecretKey,
    /// Pays.
    pub consumer: SecretKey,
    /// Signs the gateway's vouchers.
    pub vouchers: SecretKey,
}

impl Default for Keys {
    fn default() -> Self {
        let key = |number| SecretKey::from_seed(&[number; 32]);
        Self {
            validator: key(1),
            issuer: key(2),
            modeler: key(3),
            processor: key(4),
            receipts: key(5),
            consumer: key(6),
            vouchers: key(7),
        }
    }
}
