//! Answers of a server that is sold, which nobody here wrote: whatever it says, the pieces of its answer
//! are its text to the byte, end where it was to end, and no more than was paid for.

use gristmill_engine::Event;
use gristmill_net::sse;
use gristmill_tokenizer::{TextBundle, Tokenizer, Transcript};
use gristmill_types::Finish;
use gristmill_upstream::{Address, Pieces, Said, read_event, read_whole};
use std::sync::{Arc, LazyLock};

static BYTES: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| Tokenizer::new(TextBundle::bytes()).unwrap());
const MAX_EVENT_BYTES: usize = 4 * 1024;
const STOP: &str = "end.";

/// The first byte says whether an answer in events follows, a whole one, or an address. Of an answer, the
/// second byte is the limit of its text and the third the width of its pieces.
pub fn run(data: &[u8]) {
    match data {
        [0, limit, width, body @ ..] => {
            let mut reader = sse::Reader::with_limit(MAX_EVENT_BYTES);
            let _ = reader.feed(body);
            let said = std::iter::from_fn(|| reader.next_event()).map(|event| read_event(&event.data));
            answer(said, usize::from(*limit), usize::from(*width));
        }
        [1, limit, width, body @ ..] => {
            let Ok(said) = read_whole(body) else { return };
            assert!(said.failed.is_some() || (said.done && said.finish.is_some()));
            answer([said].into_iter(), usize::from(*limit), usize::from(*width));
        }
        [2, text @ ..] => {
            let Ok(text) = std::str::from_utf8(text) else { return };
            let Ok(address) = text.parse::<Address>() else { return };
            let api = format!("{address}/v1");
            assert_eq!(api.parse::<Address>().ok(), Some(address), "{api}");
        }
        _ => {}
    }
}

fn answer(all: impl Iterator<Item = Said>, limit: usize, width: usize) {
    let transcript = Transcript::new(Arc::clone(&BYTES), &[STOP.to_owned()]).unwrap();
    let mut pieces = Pieces::new(transcript, limit, width);
    let (mut bytes, mut text, mut events, mut source) =
        (Vec::new(), String::new(), Vec::new(), String::new());
    let mut finish = None;
    for said in all.take_while(|said| said.failed.is_none()) {
        source.push_str(&said.text);
        let (more, ended) = pieces.push(&said.text).unwrap();
        events.extend(more);
        finish = ended;
        if finish.is_some() {
            break;
        }
    }
    if finish.is_none() {
        let (last, ended) = pieces.finish(Finish::Stop).unwrap();
        events.extend(last);
        finish = Some(ended);
    }
    for event in events {
        let Event::Piece { ids, text: more, logprobs } = event else { panic!("{event:?}") };
        assert!(ids.len() <= width.max(1) && logprobs.is_empty());
        bytes.extend(ids.iter().map(|id| u8::try_from(*id).unwrap()));
        text.push_str(&more);
    }
    assert!(bytes.len() <= limit && bytes.len() == usize::try_from(pieces.taken()).unwrap());
    assert!(source.as_bytes().starts_with(&bytes), "what is paid for is no part of what was said");
    let counted = String::from_utf8(bytes).expect("text is cut between two characters");
    let expected = counted.split_once(STOP).map_or(counted.as_str(), |(before, _)| before);
    assert_eq!(text, expected, "of {source:?}, {finish:?}");
}
