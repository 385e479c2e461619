//! The node's listings, all pages of them.

use gristmill_client::{
    Client, ClientError,
    schema::{ModelInfo, Offers},
};
use gristmill_ledger::record::{Offer, Processor};

/// Items of a page.
const PAGE: usize = 1_000;
/// Pages that are read.
const MAX_PAGES: usize = 20;

/// Reads page after page, until all are there or it is too much.
async fn all<T>(
    mut page: impl AsyncFnMut(usize) -> Result<(Vec<T>, usize), ClientError>,
) -> Result<(Vec<T>, usize), ClientError> {
    let mut found = Vec::new();
    loop {
        let (items, total) = page(found.len()).await?;
        let last = items.is_empty();
        found.extend(items);
        if last || found.len() >= total || found.len() >= MAX_PAGES * PAGE {
            return Ok((found, total));
        }
    }
}

/// The model versions, and how many there are.
pub(crate) async fn models(ledger: &Client) -> Result<(Vec<ModelInfo>, usize), ClientError> {
    all(async |skip| ledger.models(skip, PAGE).await.map(|page| (page.models, page.total))).await
}

/// The offers, and how many there are.
pub(crate) async fn offers(ledger: &Client) -> Result<(Vec<Offer>, usize), ClientError> {
    let of = |page: Offers| (page.offers, page.total);
    all(async |skip| ledger.offers(None, skip, PAGE).await.map(of)).await
}

/// The processors, and how many there are.
pub(crate) async fn processors(ledger: &Client) -> Result<(Vec<Processor>, usize), ClientError> {
    all(async |skip| ledger.processors(skip, PAGE).await.map(|page| (page.processors, page.total))).await
}

/// What to say where not all was read.
pub(crate) fn cut(shown: usize, total: usize) -> String {
    if shown < total { format!("\nthe first {shown} of {total}") } else { String::new() }
}
