//! The processor on the ledger: its registration, and an offer for every model on the shelf.

use crate::{app::App, config::ServedModel};
use gristmill_client::ClientError;
use gristmill_ledger::{
    keys,
    record::{Offer, Processor, Stored},
    tx::{PostOffer, RegisterProcessor, WithdrawOffer},
};
use gristmill_types::ModelId;

impl App {
    /// Registers under this endpoint, unless the ledger says the same already.
    pub(crate) async fn register(&self, endpoint: &str) -> Result<(), ClientError> {
        let account = self.account();
        let known = self.ledger.state(&[keys::processor(&account)]).await?.value;
        let wanted = [endpoint.to_owned()];
        let same = known.iter().flatten().filter_map(Processor::of).any(|processor| {
            processor.receipt_key == self.receipt_account() && processor.endpoints == wanted
        });
        if !same {
            let endpoints = wanted.to_vec();
            self.sender.send(RegisterProcessor { receipt_key: self.receipt_account(), endpoints }).await?;
        }
        Ok(())
    }

    /// Ends the offer of a model, if there is one.
    pub(crate) async fn withdraw(&self, model: &ModelId) -> Result<(), ClientError> {
        let known = self.ledger.state(&[keys::offer(&self.account(), model)]).await?.value;
        if known.iter().flatten().any(|record| Offer::of(record).is_some()) {
            self.sender.send(WithdrawOffer { model: *model }).await?;
        }
        Ok(())
    }

    /// Offers a model at its price, unless the ledger says the same already.
    pub(crate) async fn offer(&self, model: &ServedModel) -> Result<(), ClientError> {
        let known = self.ledger.state(&[keys::offer(&self.account(), &model.id)]).await?.value;
        let issuers = vec![self.config.issuer];
        let same = known
            .iter()
            .flatten()
            .filter_map(Offer::of)
            .any(|offer| offer.prices == model.prices && offer.issuers == issuers);
        if !same {
            self.sender.send(PostOffer { model: model.id, prices: model.prices, issuers }).await?;
        }
        Ok(())
    }
}
