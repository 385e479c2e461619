//! The tokenizer at work.

use crate::{ChatMessage, StreamDecoder, TextBundle, TextError, growth::Growth, template::Template};
use gristmill_types::Digest;
use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};
use tokenizers::ModelWrapper;

/// The longest text that is encoded.
pub const MAX_TEXT_BYTES: usize = 4 << 20;

/// A bundle, compiled. Cheap to share: [`Tokenizer::new`] gives an `Arc`.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    growth: Growth,
    template: Option<Template>,
    special_ids: BTreeSet<u32>,
    bos_id: Option<u32>,
    bundle: TextBundle,
    digest: Digest,
}

impl Tokenizer {
    /// Compiles the bundle.
    pub fn new(bundle: TextBundle) -> Result<Arc<Self>, TextError> {
        let growth = Growth::of(&bundle.tokenizer_json)?;
        let inner = guarded(|| tokenizers::Tokenizer::from_bytes(&bundle.tokenizer_json))?;
        let inner = without_training(inner)?;
        let template = bundle.chat_template.as_deref().map(Template::new).transpose()?;
        let special_ids = inner
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special)
            .map(|(id, _)| id)
            .collect();
        let bos_id = bundle.special.bos.as_deref().and_then(|bos| inner.token_to_id(bos));
        let digest = bundle.digest();
        Ok(Arc::new(Self { inner, growth, template, special_ids, bos_id, bundle, digest }))
    }

    /// The bundle.
    pub fn bundle(&self) -> &TextBundle {
        &self.bundle
    }

    /// The bundle's digest, as quotes name it.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether the id ends an answer.
    pub fn is_eos(&self, id: u32) -> bool {
        self.bundle.eos_ids.contains(&id)
    }

    /// How many ids the vocabulary has; a model's may be larger, padded for speed.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The ids of a plain text, with the special tokens around it that the tokenizer adds.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let mut ids = self.encode_bare(text, true)?;
        if let (true, Some(bos)) = (self.bundle.add_bos, self.bos_id)
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// The text that the chat template makes of the messages, up to where the answer begins.
    pub fn render_chat(&self, messages: &[ChatMessage]) -> Result<String, TextError> {
        let bytes = messages.iter().map(|message| message.role.len() + message.content.len()).sum();
        check_length(bytes)?;
        self.template.as_ref().ok_or(TextError::NoTemplate)?.render(messages, &self.bundle.special)
    }

    /// The ids of a chat. The template places special tokens itself, so none are added. As with
    /// every public server, text in a message that spells a special token becomes that token.
    pub fn encode_chat(&self, messages: &[ChatMessage]) -> Result<Vec<u32>, TextError> {
        self.encode_bare(&self.render_chat(messages)?, false)
    }

    /// The text of the ids without special tokens: what a [`StreamDecoder`] says, all at once.
    pub fn decode(self: &Arc<Self>, ids: &[u32]) -> Result<String, TextError> {
        let mut stream = StreamDecoder::new(Arc::clone(self));
        let mut text = String::new();
        for id in ids {
            text.push_str(&stream.push(*id)?);
        }
        text.push_str(&stream.finish()?);
        Ok(text)
    }

    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.special_ids.contains(&id)
    }

    /// The id's text in the vocabulary.
    pub(crate) fn token_name(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    pub(crate) fn decoder(&self) -> Option<&tokenizers::DecoderWrapper> {
        self.inner.get_decoder()
    }

    /// The library's own decoding of a window.
    pub(crate) fn decode_window(&self, ids: &[u32]) -> Result<String, TextError> {
        guarded(|| self.inner.decode(ids, true))
    }

    fn encode_bare(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TextError> {
        check_length(text.len())?;
        self.growth.check(text.len())?;
        let encoding = guarded(|| self.inner.encode_fast(text, add_special_tokens))?;
        Ok(encoding.get_ids().to_vec())
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("digest", &self.digest).finish_non_exhaustive()
    }
}

fn check_length(bytes: usize) -> Result<(), TextError> {
    if bytes > MAX_TEXT_BYTES {
        return Err(TextError::TooLong { bytes, limit: MAX_TEXT_BYTES });
    }
    Ok(())
}

/// A published tokenizer may ask for truncation, padding or dropout, made for training. A prompt that is
/// cut in silence would be answered wrongly, and one that is split by chance would be counted otherwise by
/// each side.
fn without_training(mut inner: tokenizers::Tokenizer) -> Result<tokenizers::Tokenizer, TextError> {
    inner.with_padding(None);
    inner.with_truncation(None).map_err(|error| TextError::Tokenizer(error.to_string()))?;
    if let ModelWrapper::BPE(model) = inner.get_model()
        && model.dropout.is_some()
    {
        let mut model = model.clone();
        model.dropout = None;
        inner.with_model(model);
    }
    Ok(inner)
}

/// Runs the library on data that a stranger may have made. A panic of it becomes an error: it must
/// not take down a thread that serves others. The library keeps no state between calls but a cache
/// behind its own lock, so nothing half-done is seen afterwards.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, TextError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| TextError::Tokenizer(error.to_string())),
        Err(_) => Err(TextError::Tokenizer("it panicked on this input".into())),
    }
}
