//! Stop texts against a naive search of the whole text.

use gristmill_tokenizer::{MAX_STOP_BYTES, MAX_STOPS, StopMatcher, TextError};
use proptest::prelude::*;

/// The answer: the text before the stop text that is complete first, the longest of several.
fn naive(text: &str, stops: &[String]) -> Option<String> {
    (0..=text.len()).find_map(|end| {
        let longest = stops.iter().filter(|stop| text.as_bytes()[..end].ends_with(stop.as_bytes()));
        longest.map(String::len).max().map(|length| text[..end - length].to_string())
    })
}

fn run(pieces: &[&str], stops: &[String]) -> (Vec<String>, bool) {
    let mut matcher = StopMatcher::new(stops).unwrap();
    let mut out = Vec::new();
    let mut stopped = false;
    for piece in pieces {
        let next = matcher.push(piece);
        assert!(!stopped || (next.stop && next.text.is_empty()), "nothing comes after the stop");
        out.push(next.text);
        stopped = next.stop;
    }
    out.push(matcher.finish());
    (out, stopped)
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| text.to_string()).collect()
}

/// Pieces, stop texts, what comes out, whether it stopped.
type Case = (&'static [&'static str], &'static [&'static str], &'static [&'static str], bool);

#[test]
fn table() {
    let cases: [Case; 8] = [
        (&["ab", "cd"], &[], &["ab", "cd", ""], false),
        (&["ab", "cd"], &["bc"], &["a", "", ""], true),
        (&["ab", "xd"], &["bc"], &["a", "bxd", ""], false),
        (&["a", "a", "b"], &["ab"], &["", "a", "", ""], true),
        (&["one END two"], &["END"], &["one ", ""], true),
        (&["\n", "\n"], &["\n\n"], &["", "", ""], true),
        (&["x\n"], &["\n\n"], &["x", "\n"], false),
        // "bc" is complete before "abcd" can be.
        (&["abcd"], &["abcd", "bc"], &["a", ""], true),
    ];
    for (pieces, stops, expected, stopped) in cases {
        assert_eq!(run(pieces, &strings(stops)), (strings(expected), stopped), "{pieces:?} {stops:?}");
    }
}

#[test]
fn lists_are_bounded() {
    for stops in [vec![String::new()], vec!["a".into(); MAX_STOPS + 1], vec!["a".repeat(MAX_STOP_BYTES + 1)]]
    {
        assert!(matches!(StopMatcher::new(&stops), Err(TextError::Stop(_))));
    }
    assert!(StopMatcher::new(&vec!["a".repeat(MAX_STOP_BYTES); MAX_STOPS]).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_cut_gives_the_naive_answer(
        text in "[abé]{0,24}",
        stops in prop::collection::vec("[abé]{1,4}", 0..4),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let bounds: Vec<usize> = (0..=text.len()).filter(|at| text.is_char_boundary(*at)).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| bounds[cut.index(bounds.len())]).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&str> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
        let (out, stopped) = run(&pieces, &stops);
        let expected = naive(&text, &stops);
        prop_assert_eq!(stopped, expected.is_some());
        prop_assert_eq!(out.concat(), expected.unwrap_or(text));
    }

    /// What is held back is never more than a stop text lacking its last character.
    #[test]
    fn little_is_held(text in "[ab]{0,24}", stop in "[ab]{1,5}") {
        let mut matcher = StopMatcher::new(std::slice::from_ref(&stop)).unwrap();
        let next = matcher.push(&text);
        if !next.stop {
            prop_assert!(text.len() - next.text.len() < stop.len());
        }
    }
}
