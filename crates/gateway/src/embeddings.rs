//! Answers to embeddings requests: bought like others, and never streamed.

use crate::{answer::Heading, error::BuyError, purchase::Step, steps::Steps};
use gristmill_net::openai::{EmbeddingList, Encoding, Extension, Usage};

/// The vectors of a purchase, which has judged them. `gone` resolves when the client goes away.
pub(crate) async fn vectors(
    mut steps: Steps,
    heading: Heading,
    encoding: Encoding,
    gone: impl Future<Output = ()>,
) -> Result<EmbeddingList, BuyError> {
    let mut gone = std::pin::pin!(gone);
    let mut text = String::new();
    let bought = loop {
        let step = tokio::select! {
            step = steps.next() => step,
            () = &mut gone => return Err(BuyError::Gone),
        };
        match step.map_or(Err(BuyError::NoChannel), |(_, step)| step)? {
            Step::Text(more, _) => text.push_str(&more),
            Step::End(bought) => break bought,
        }
    };
    let usage = Usage::new(bought.prompt_tokens, bought.completion_tokens, bought.unit, Some(bought.cost));
    let misbehaved = |what: String| BuyError::Misbehaved { processor: heading.processor, what };
    let mut list = EmbeddingList::new(&text, encoding, heading.model.clone(), usage)
        .map_err(|error| misbehaved(error.to_string()))?;
    list.gristmill = Some(Extension {
        receipt: Some(bought.receipt),
        processor: Some(heading.processor),
        ..Extension::default()
    });
    Ok(list)
}
