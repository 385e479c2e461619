//! What can be bought. Which model a name means is read with proof; who offers it is found in the node's listings, then
//! read again with proofs.
//!
//! A listing is looked at up to `MAX_PAGES` pages of `PAGE` items. What is wanted by name needs only the offers of
//! that one model, so a ledger full of others does not hide it.

use crate::{app::App, error::BuyError, peer::Peer};
use bytes::Bytes;
use gristmill_client::{Client, ClientError, schema::ModelInfo};
use gristmill_ledger::{
    keys,
    record::{Line, Model, Offer, Processor, Stored},
};
use gristmill_net::{
    http::RequestId,
    openai::{ApiError, PromptRequest},
    pay::{Challenge, Expected},
};
use gristmill_tokenizer::Tokenizer;
use gristmill_types::{AccountId, Amount, Digest, ModelId, Prices, Usage};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long something is used before it is asked for again.
const FRESH: Duration = Duration::from_secs(2);
/// How long a processor that failed is asked last: twice as long each time that it fails again after that, until it
/// succeeds.
const AVOIDED: Duration = Duration::from_secs(10);
const LONGEST_AVOIDED: Duration = Duration::from_secs(600);
/// So many requests a processor may refuse, one after the other, before it is asked last.
const REFUSALS: usize = 4;
/// Models whose names are looked up at once.
const LOOKED_UP: usize = 32;
/// Items of a page of the node's listings.
const PAGE: usize = 1_000;
/// Pages of a listing that are looked at.
const MAX_PAGES: usize = 10;
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

/// What is on offer, as far as it is looked at: the node's word.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    pub(crate) models: Vec<ModelInfo>,
    pub(crate) offers: Vec<Offer>,
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
    /// Requests that processors refused one after the other: fewer than `REFUSALS`.
    refused: HashMap<AccountId, Vec<RequestId>>,
    /// Processors that failed: when last, and for how long they are asked last.
    avoided: HashMap<AccountId, (Instant, Duration)>,
}

impl Cached {
    fn avoid(&mut self, processor: AccountId, now: Instant) {
        self.avoided.retain(|_, (at, _)| now.duration_since(*at) < 2 * LONGEST_AVOIDED);
        let long = match self.avoided.get(&processor) {
            None => AVOIDED,
            // Requests that were under way together fail together.
            Some((at, long)) if now.duration_since(*at) < *long => *long,
            Some((_, long)) => (2 * *long).min(LONGEST_AVOIDED),
        };
        self.avoided.insert(processor, (now, long));
        self.sellers.retain(|_, (_, seller)| seller.processor != processor);
        // Before anything is reserved with it again, it has to answer.
        self.challenges.retain(|(of, _), _| *of != processor);
    }

    /// What one refuses may be at fault itself; one that refuses all that comes is no better than one that fails.
    fn refused(&mut self, processor: AccountId, request: &RequestId, now: Instant) {
        let refused = self.refused.entry(processor).or_default();
        // Each choice of a request may be.
        if refused.contains(request) {
            return;
        }
        refused.push(request.clone());
        if refused.len() >= REFUSALS {
            // Only what this request's other choices say is no news.
            refused.drain(..REFUSALS - 1);
            self.avoid(processor, now);
        }
    }

    fn trust(&mut self, processor: &AccountId) {
        self.avoided.remove(processor);
        self.refused.remove(processor);
    }

    fn avoids(&self, processor: &AccountId) -> bool {
        self.avoided.get(processor).is_some_and(|(at, long)| at.elapsed() < *long)
    }

    /// The cheapest of these offers, of those first whose processor is not avoided.
    fn preferred<'a>(&self, offers: &'a [Offer], model: &ModelId, issuer: &AccountId) -> Option<&'a Offer> {
        let others = offers.iter().filter(|offer| !self.avoids(&offer.processor));
        cheapest(others, model, issuer).or_else(|| cheapest(offers, model, issuer))
    }
}

impl Market {
    pub(crate) fn new(ledger: Client) -> Self {
        Self { ledger, cached: Mutex::default() }
    }

    fn cached(&self) -> MutexGuard<'_, Cached> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Models and offers, for those who look around. What is beyond the last page is missing.
    pub(crate) async fn listing(&self) -> Result<Arc<Listing>, BuyError> {
        if let Some((at, listing)) = &self.cached().listing
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(listing));
        }
        let models = pages(|skip| async move {
            let page = self.ledger.models(skip, PAGE).await?;
            Ok((page.models, page.total))
        });
        let (models, offers) = tokio::try_join!(models, self.offers(None))?;
        let listing = Arc::new(Listing { models, offers });
        self.cached().listing = Some((Instant::now(), Arc::clone(&listing)));
        Ok(listing)
    }

    /// The offers of a model version, or of all.
    async fn offers(&self, model: Option<&ModelId>) -> Result<Vec<Offer>, ClientError> {
        pages(|skip| async move {
            let page = self.ledger.offers(model, skip, PAGE).await?;
            Ok((page.offers, page.total))
        })
        .await
    }

    /// The version that is asked for, proven: the one with this id, or the newest of this name.
    async fn version(&self, wanted: &str) -> Result<Option<ModelId>, BuyError> {
        let id: Option<ModelId> = wanted.parse().ok();
        let mut names = vec![keys::line(&keys::line_id(wanted))];
        names.extend(id.as_ref().map(keys::model));
        let state = self.ledger.state(&names).await?.value;
        let records = || state.iter().flatten();
        // An id is the hash of the content: whoever calls a line by it does not get its requests.
        let by_id = records().find_map(Model::of).map(|model| model.model);
        Ok(by_id.or_else(|| records().find_map(Line::of).map(|line| line.latest)))
    }

    /// What models are called, proven; those are missing of which that cannot be found out now.
    pub(crate) async fn names(&self, models: &BTreeSet<ModelId>) -> BTreeMap<ModelId, String> {
        if models.is_empty() {
            return BTreeMap::new();
        }
        let names: Vec<_> = models.iter().take(LOOKED_UP).map(keys::model).collect();
        let found = self.ledger.state(&names).await.map(|state| state.value).unwrap_or_default();
        found.iter().flatten().filter_map(Model::of).map(|of| (of.model, of.name.clone())).collect()
    }

    /// The newest version under a name, proven, and its cheapest offer in the issuer's credits, by the node's word.
    pub(crate) async fn offered(
        &self,
        name: &str,
        issuer: &AccountId,
    ) -> Result<Option<(Model, Offer)>, BuyError> {
        let Some(id) = self.version(name).await? else { return Ok(None) };
        let names = [keys::model(&id)];
        let (state, offers) = tokio::try_join!(self.ledger.state(&names), self.offers(Some(&id)))?;
        let model = state.value.iter().flatten().find_map(Model::of).filter(|model| model.name == name);
        Ok(model.cloned().zip(cheapest(&offers, &id, issuer).cloned()))
    }

    /// The cheapest offer of a model in our issuer's credits, by name (its newest version) or by id. Which model that
    /// is, is proven before any offer of it is looked for: how many others there are does not matter, nor what the
    /// node says of them.
    /// `tried` are not asked again.
    pub(crate) async fn seller(
        &self,
        wanted: &str,
        issuer: &AccountId,
        tried: &[AccountId],
    ) -> Result<Seller, BuyError> {
        if let Some((at, seller)) = self.cached().sellers.get(wanted)
            && at.elapsed() < FRESH
            && !tried.contains(&seller.processor)
        {
            return Ok(seller.clone());
        }
        let model = self.version(wanted).await?.ok_or_else(|| ApiError::unknown_model(wanted))?;
        let mut offers = self.offers(Some(&model)).await?;
        offers.retain(|offer| !tried.contains(&offer.processor));
        let offer = self.cached().preferred(&offers, &model, issuer).cloned().ok_or_else(|| {
            ApiError::unavailable(format!("No processor offers {wanted} for our credits at the moment."), 30)
        })?;
        let seller = self.prove(wanted, &model, &offer.processor).await?;
        let mut cached = self.cached();
        cached.sellers.retain(|_, (at, _)| at.elapsed() < FRESH);
        // Meanwhile it may have failed somebody else.
        if !cached.avoids(&seller.processor) {
            cached.sellers.insert(wanted.to_owned(), (Instant::now(), seller.clone()));
        }
        Ok(seller)
    }

    /// Asks this processor last for a while.
    pub(crate) fn avoid(&self, processor: AccountId) {
        self.cached().avoid(processor, Instant::now());
    }

    /// It answered well: it is asked again as its price says.
    pub(crate) fn trust(&self, processor: &AccountId) {
        self.cached().trust(processor);
    }

    /// It refused a request for what that asks.
    pub(crate) fn refused(&self, processor: AccountId, request: &RequestId) {
        self.cached().refused(processor, request, Instant::now());
    }

    /// Reads with proofs what the listing claimed.
    async fn prove(&self, wanted: &str, model: &ModelId, processor: &AccountId) -> Result<Seller, BuyError> {
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
        if model.name != wanted && wanted.parse() != Ok(model.model) {
            return Err(ClientError::OtherProof.into());
        }
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

/// Goes through a listing of the node, of which `page` gives the items after so many and how many there are.
async fn pages<T, F>(page: impl Fn(usize) -> F) -> Result<Vec<T>, ClientError>
where
    F: Future<Output = Result<(Vec<T>, usize), ClientError>>,
{
    let mut all = Vec::new();
    for _ in 0..MAX_PAGES {
        let (items, total) = page(all.len()).await?;
        let before = all.len();
        all.extend(items.into_iter().take(PAGE));
        if all.len() == before || all.len() >= total {
            break;
        }
    }
    Ok(all)
}

/// The cheapest of these offers that sells the version for the issuer's credits.
fn cheapest<'a>(
    offers: impl IntoIterator<Item = &'a Offer>,
    model: &ModelId,
    issuer: &AccountId,
) -> Option<&'a Offer> {
    offers
        .into_iter()
        .filter(|offer| offer.model == *model && offer.issuers.contains(issuer))
        .min_by_key(|offer| price(&offer.prices))
}

/// What a typical request costs: as many tokens out as in.
pub(crate) fn price(prices: &Prices) -> Amount {
    let typical = Usage { input_tokens: 1_000, output_tokens: 1_000, millis: 10_000, requests: 1 };
    prices.cost(&typical).unwrap_or(Amount::from_grains(u128::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_types::SecretKey;

    #[test]
    fn whoever_fails_again_is_avoided_longer_until_it_answers_well() {
        let account = |byte| SecretKey::from_seed(&[byte; 32]).account();
        let mut cached = Cached::default();
        let long = |cached: &Cached| cached.avoided.get(&account(2)).map(|(_, long)| long.as_secs());
        let mut now = Instant::now();
        for expected in [10, 20, 40, 80, 160, 320, 600, 600] {
            cached.avoid(account(2), now);
            // Another request that was under way.
            cached.avoid(account(2), now + Duration::from_secs(1));
            assert_eq!(long(&cached), Some(expected));
            now += Duration::from_secs(expected + 1);
        }
        let offer = |byte, price| Offer {
            processor: account(byte),
            model: ModelId::new([7; 32]),
            prices: Prices { output_per_mtok: Amount::from_credits(price), ..Prices::default() },
            issuers: vec![account(5)],
            time_ms: 0,
        };
        let offers = [offer(2, 1), offer(3, 2)];
        let preferred = |cached: &Cached| {
            cached.preferred(&offers, &offers[0].model, &account(5)).map(|offer| offer.processor)
        };
        assert_eq!(preferred(&cached), Some(account(3)), "the cheaper one failed");
        cached.avoid(account(3), now);
        assert_eq!(preferred(&cached), Some(account(2)), "both failed, so the price decides");

        // One that refuses whatever comes; an answer in between says that it was the requests.
        let mut cached = Cached::default();
        for refusal in 1..=2 * REFUSALS {
            let request = RequestId::random();
            cached.refused(account(2), &request, now);
            cached.refused(account(2), &request, now);
            if refusal == REFUSALS - 1 {
                cached.trust(&account(2));
            }
            let avoided = refusal >= 2 * REFUSALS - 1;
            assert_eq!(preferred(&cached), Some(account(if avoided { 3 } else { 2 })), "{refusal}");
        }
    }
}
