//! What can be bought: found in the node's listings, then read again with proofs.

use crate::{app::App, error::BuyError, peer::Peer};
use bytes::Bytes;
use gristmill_client::Client;
use gristmill_ledger::{
    keys,
    record::{Model, Offer, Processor, Stored},
};
use gristmill_net::{
    openai::{ApiError, PromptRequest},
    pay::{Challenge, Expected},
};
use gristmill_tokenizer::Tokenizer;
use gristmill_types::{AccountId, Amount, Digest, ModelId, Prices, Usage};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a listing is used before it is fetched again.
const FRESH: Duration = Duration::from_secs(2);
/// Items of each kind that are looked at.
const PAGE: usize = 1_000;
/// A quote that ends sooner is replaced first.
const QUOTE_MARGIN_MS: u64 = 60_000;
/// The longest time that is paid ahead, where time is priced.
const MAX_WINDOW_MS: u32 = 1_000;
/// Text bundles that are kept; a bundle may have megabytes.
const MAX_TOKENIZERS: usize = 32;

/// One processor's offer of one model version, proven.
#[derive(Clone, Debug)]
pub(crate) struct Seller {
    pub(crate) name: String,
    pub(crate) model: ModelId,
    pub(crate) tokenizer: Digest,
    pub(crate) processor: AccountId,
    pub(crate) receipt_key: AccountId,
    pub(crate) endpoint: String,
    pub(crate) prices: Prices,
}

/// A listing: the node's word.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    pub(crate) models: Vec<Model>,
    pub(crate) offers: Vec<Offer>,
    pub(crate) processors: Vec<Processor>,
}

/// What is known of the market.
pub(crate) struct Market {
    ledger: Client,
    cached: Mutex<Cached>,
}

#[derive(Default)]
struct Cached {
    listing: Option<(Instant, Arc<Listing>)>,
    sellers: HashMap<String, (Instant, Seller)>,
    challenges: HashMap<(AccountId, ModelId), Arc<Challenge>>,
    tokenizers: HashMap<Digest, Arc<Tokenizer>>,
}

impl Market {
    pub(crate) fn new(ledger: Client) -> Self {
        Self { ledger, cached: Mutex::default() }
    }

    fn cached(&self) -> MutexGuard<'_, Cached> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Models, offers and processors.
    pub(crate) async fn listing(&self) -> Result<Arc<Listing>, BuyError> {
        if let Some((at, listing)) = &self.cached().listing
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(listing));
        }
        let (models, offers, processors) = tokio::try_join!(
            self.ledger.models(0, PAGE),
            self.ledger.offers(None, 0, PAGE),
            self.ledger.processors(0, PAGE)
        )?;
        let listing = Arc::new(Listing {
            models: models.models.into_iter().map(|info| info.model).collect(),
            offers: offers.offers,
            processors: processors.processors,
        });
        self.cached().listing = Some((Instant::now(), Arc::clone(&listing)));
        Ok(listing)
    }

    /// The cheapest offer of a model in our issuer's credits, by name (its newest version) or by id.
    pub(crate) async fn seller(&self, wanted: &str, issuer: &AccountId) -> Result<Seller, BuyError> {
        if let Some((at, seller)) = self.cached().sellers.get(wanted)
            && at.elapsed() < FRESH
        {
            return Ok(seller.clone());
        }
        let listing = self.listing().await?;
        let id: Option<ModelId> = wanted.parse().ok();
        let model = listing
            .models
            .iter()
            .filter(|model| model.name == wanted || Some(model.model) == id)
            .max_by_key(|model| model.version)
            .ok_or_else(|| ApiError::unknown_model(wanted))?;
        let offer = listing
            .offers
            .iter()
            .filter(|offer| offer.model == model.model && offer.issuers.contains(issuer))
            .min_by_key(|offer| price(&offer.prices))
            .ok_or_else(|| {
                ApiError::unavailable(
                    format!("No processor offers {wanted} for our credits at the moment."),
                    30,
                )
            })?;
        let seller = self.prove(&model.model, &offer.processor).await?;
        let mut cached = self.cached();
        cached.sellers.retain(|_, (at, _)| at.elapsed() < FRESH);
        cached.sellers.insert(wanted.to_owned(), (Instant::now(), seller.clone()));
        Ok(seller)
    }

    /// Reads with proofs what the listing claimed.
    async fn prove(&self, model: &ModelId, processor: &AccountId) -> Result<Seller, BuyError> {
        let names = [keys::model(model), keys::processor(processor), keys::offer(processor, model)];
        let records = self.ledger.state(&names).await?.value;
        let [Some(model), Some(processor), Some(offer)] = records.as_slice() else {
            return Err(ApiError::unavailable("The offer was withdrawn a moment ago; try again.", 1).into());
        };
        let (Some(model), Some(processor), Some(offer)) =
            (Model::of(model), Processor::of(processor), Offer::of(offer))
        else {
            return Err(BuyError::Damaged("an offer on the ledger".to_owned()));
        };
        let endpoint = endpoint(processor).ok_or_else(|| BuyError::Unreachable {
            processor: processor.processor,
            reason: "it has registered no endpoint".to_owned(),
        })?;
        Ok(Seller {
            name: model.name.clone(),
            model: model.model,
            tokenizer: model.tokenizer,
            processor: processor.processor,
            receipt_key: processor.receipt_key,
            endpoint,
            prices: offer.prices,
        })
    }

    /// A challenge whose quote is what the ledger says of model and processor, cached while it lasts.
    pub(crate) async fn challenge(
        &self,
        app: &App,
        seller: &Seller,
        peer: &Peer,
        request: &PromptRequest,
    ) -> Result<Arc<Challenge>, BuyError> {
        let now_ms = app.now_ms();
        let at = (seller.processor, seller.model);
        if let Some(challenge) = self.cached().challenges.get(&at)
            && challenge.quote().body.valid_until_ms > now_ms.saturating_add(QUOTE_MARGIN_MS)
        {
            return Ok(Arc::clone(challenge));
        }
        let expected = Expected {
            chain: self.ledger.chain(),
            processor: seller.processor,
            model: seller.model,
            issuer: app.config.issuer,
            // The quote alone sets the price, but not above the offer that it was chosen for.
            at_most: Some(seller.prices),
        };
        let challenge =
            peer.challenge(request.shape(), Bytes::from(request.to_body()), &expected, now_ms).await?;
        let quote = &challenge.quote().body;
        if quote.tokenizer != seller.tokenizer || quote.receipt_key != seller.receipt_key {
            return Err(BuyError::Misbehaved {
                processor: seller.processor,
                what: "its quote names another tokenizer or receipt key than the ledger".to_owned(),
            });
        }
        let (window, most) = (quote.limits.window_tokens, app.config.max_window_tokens);
        let time_window_ms = if quote.prices.per_msec.is_zero() { 0 } else { quote.limits.window_ms };
        if window > most || time_window_ms > MAX_WINDOW_MS {
            return Err(BuyError::Misbehaved {
                processor: seller.processor,
                what: format!(
                    "its quote asks to be paid {window} tokens or {time_window_ms} ms ahead, at most {most} or \
                     {MAX_WINDOW_MS} are accepted"
                ),
            });
        }
        let challenge = Arc::new(challenge);
        self.cached().challenges.insert(at, Arc::clone(&challenge));
        Ok(challenge)
    }

    /// Drops a challenge that the processor no longer takes.
    pub(crate) fn forget_challenge(&self, seller: &Seller) {
        self.cached().challenges.remove(&(seller.processor, seller.model));
    }

    /// A tokenizer by its content.
    pub(crate) async fn tokenizer(&self, peer: &Peer, digest: &Digest) -> Result<Arc<Tokenizer>, BuyError> {
        if let Some(tokenizer) = self.cached().tokenizers.get(digest) {
            return Ok(Arc::clone(tokenizer));
        }
        let tokenizer = peer.tokenizer(digest).await?;
        let mut cached = self.cached();
        if cached.tokenizers.len() >= MAX_TOKENIZERS {
            cached.tokenizers.clear();
        }
        cached.tokenizers.insert(*digest, Arc::clone(&tokenizer));
        Ok(tokenizer)
    }
}

impl App {
    /// Where a processor answers, proven now; `None` where it has registered no endpoint.
    pub(crate) async fn processor_endpoint(&self, processor: &AccountId) -> Result<Option<String>, BuyError> {
        let records = self.ledger.state(&[keys::processor(processor)]).await?.value;
        Ok(records.iter().flatten().find_map(Processor::of).and_then(endpoint))
    }
}

/// The endpoint of a processor that is used: its first.
fn endpoint(processor: &Processor) -> Option<String> {
    processor.endpoints.first().map(|endpoint| endpoint.trim_end_matches('/').to_owned())
}

/// What a typical request costs: as many tokens out as in.
fn price(prices: &Prices) -> Amount {
    let typical = Usage { input_tokens: 1_000, output_tokens: 1_000, millis: 10_000, requests: 1 };
    prices.cost(&typical).unwrap_or(Amount::from_grains(u128::MAX))
}
