//! Vectors as an answer: a line of text for each, and no tokens.

use gristmill_engine::{Done, Embedding, Event, Generation};
use gristmill_net::openai::vector_line;
use gristmill_types::Finish;
use tokio::sync::mpsc;

/// Lines that wait for their reader at most.
const AHEAD: usize = 4;

/// Delivers the vectors when they are computed. Dropping the answer gives them up.
pub(crate) fn answer(embedding: Embedding, prompt_tokens: u32) -> Generation {
    let (events, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let vectors = tokio::select! {
            vectors = embedding.wait() => vectors,
            () = events.closed() => return,
        };
        let (lines, error) = match vectors {
            Ok(vectors) => (vectors, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        for vector in lines {
            let piece = Event::Piece { ids: Vec::new(), text: vector_line(&vector), logprobs: Vec::new() };
            if events.send(piece).await.is_err() {
                return;
            }
        }
        let finish = if error.is_some() { Finish::Error } else { Finish::Stop };
        let done = Done { finish, prompt_tokens, output_tokens: 0, error, refused: false };
        drop(events.send(Event::Done(done)).await);
    });
    Generation::new(receiver, prompt_tokens, || {})
}
