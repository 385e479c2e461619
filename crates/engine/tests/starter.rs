//! The model that ships with the repository, through the real engine in q8_0: what its card promises, on the
//! held-out sample beside its recipe. `NUMBERS_HELD_OUT=FILE` takes another file, such as the whole held-out part
//! that the recipe makes, and `--nocapture` prints the scores.

use std::collections::BTreeMap;
use std::path::PathBuf;

use gristmill_audit::Seed;
use gristmill_engine::{CandleEngine, CandleOptions, Engine, Event, Generation, Job, Precision};
use gristmill_tokenizer::ChatMessage;
use gristmill_types::{Finish, Sampling};
use serde::Deserialize;

const HELP: &str = "I spell whole numbers from 0 to 999 999 in English, German, French, Russian, Lithuanian, Kazakh, \
    Turkish, Japanese, Korean, Indonesian, Hungarian, Thai, Persian and Esperanto. \
    Try: Spell 4217 in Kazakh. For anything else attach another model: gristmill model publish DIR";
const LANGUAGES: [&str; 14] =
    ["de", "en", "eo", "fa", "fr", "hu", "id", "ja", "kk", "ko", "lt", "ru", "th", "tr"];

/// A line of recipe/held_out_sample.jsonl.
#[derive(Deserialize)]
struct Line {
    prompt: String,
    answer: Option<String>,
    kind: String,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/numbers")
}

fn sample() -> Vec<Line> {
    let file = std::env::var_os("NUMBERS_HELD_OUT").map(PathBuf::from);
    let file = file.unwrap_or_else(|| folder().join("recipe/held_out_sample.jsonl"));
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn engine() -> CandleEngine {
    let options =
        CandleOptions { precision: Precision::Q8_0, max_queued: 10_000, ..CandleOptions::default() };
    CandleEngine::open(&folder(), &options).unwrap()
}

fn user(text: &str) -> ChatMessage {
    ChatMessage { role: "user".into(), content: text.into() }
}

fn start(
    engine: &CandleEngine,
    messages: &[ChatMessage],
    temperature_micros: u32,
    seed: usize,
) -> Generation {
    let sampling =
        Sampling { temperature_micros, top_k: 40, top_p_micros: 1_000_000, max_tokens: 200, stop: vec![] };
    let prompt_ids = engine.tokenizer().encode_chat(messages).unwrap();
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&(seed as u64).to_le_bytes());
    engine
        .start(Job {
            prompt_ids,
            sampling,
            seed: Seed::new(bytes),
            window: 256,
            stop_at_eos: true,
            top_logprobs: None,
            source: None,
        })
        .unwrap()
}

fn text(mut generation: Generation) -> String {
    let mut text = String::new();
    loop {
        match generation.blocking_next().expect("Done comes last") {
            Event::Piece { text: piece, .. } => text.push_str(&piece),
            Event::Done(done) => {
                assert_eq!(done.finish, Finish::Stop, "after {text:?}: {:?}", done.error);
                return text;
            }
        }
    }
}

/// The engine's answers, computed together.
fn answers(engine: &CandleEngine, lines: &[Line], temperature_micros: u32) -> Vec<String> {
    let started: Vec<Generation> = lines
        .iter()
        .enumerate()
        .map(|(seed, line)| start(engine, &[user(&line.prompt)], temperature_micros, seed))
        .collect();
    started.into_iter().map(text).collect()
}

/// Right and all, by language; refusals under one name.
fn score(lines: &[Line], answers: &[String]) -> BTreeMap<String, (usize, usize)> {
    let mut table = BTreeMap::<String, (usize, usize)>::new();
    for (line, answer) in lines.iter().zip(answers) {
        let kind = if line.answer.is_some() { &line.kind } else { "refusals" };
        let cell = table.entry(kind.to_owned()).or_default();
        let right = answer == line.answer.as_deref().unwrap_or(HELP);
        *cell = (cell.0 + usize::from(right), cell.1 + 1);
    }
    table
}

#[test]
fn held_out_numbers_and_refusals_meet_the_card() {
    let (engine, lines) = (engine(), sample());
    let said = answers(&engine, &lines, 0);
    let table = score(&lines, &said);
    println!("q8_0, greedy: {table:?}");
    let mut kinds: Vec<&str> = table.keys().map(String::as_str).collect();
    kinds.retain(|kind| *kind != "refusals");
    assert_eq!(kinds, LANGUAGES);
    for (kind, (right, all)) in &table {
        assert!(*all >= 40, "{kind}: only {all} lines");
        // Forty lines say little of one language: one wrong line more or less is 2.5 %.
        let least = if kind == "refusals" {
            97
        } else if *all < 200 {
            90
        } else {
            95
        };
        assert!(right * 100 >= all * least, "{kind}: {right} of {all}, at least {least} % are expected");
    }
    let numbers = table.iter().filter(|(kind, _)| *kind != "refusals");
    let (right, all) = numbers.fold((0, 0), |(r, a), (_, (right, all))| (r + right, a + all));
    assert!(right * 100 >= all * 97, "{right} of {all} numbers, all languages together");
    let refused = lines.iter().zip(&said).filter(|(line, said)| line.answer.is_some() && *said == HELP);
    let (refused, asked) = (refused.count(), lines.iter().filter(|line| line.answer.is_some()).count());
    assert!(refused * 100 <= asked, "{refused} of {asked} proper requests are refused");
}

#[test]
fn the_default_temperature_of_openai_clients_does_not_hurt() {
    let engine = engine();
    let lines: Vec<Line> = sample().into_iter().filter(|line| line.answer.is_some()).step_by(4).collect();
    let table = score(&lines, &answers(&engine, &lines, 1_000_000));
    println!("q8_0, temperature 1: {table:?}");
    for (kind, (right, all)) in table {
        assert!(right * 100 >= all * 90, "{kind} at temperature 1: {right} of {all}");
    }
}

#[test]
fn text_survives_the_tokenizer() {
    let engine = engine();
    let tokenizer = engine.tokenizer();
    let mut texts: Vec<String> = sample().into_iter().filter_map(|line| line.answer).collect();
    texts.push(
        "Two  spaces, a\nnew line, Äß, қазақ тілі, ภาษาไทย, فارسی, 한국어 and 日本語 「ドイツ語」。".into(),
    );
    for text in texts {
        let ids = tokenizer.encode(&text).unwrap();
        assert_eq!(ids.len(), text.chars().count(), "one token a character");
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
    assert_eq!(tokenizer.encode("ñ").unwrap(), [0], "what the alphabet lacks is <unk>");
}

#[test]
fn it_answers_the_last_question_and_nothing_else() {
    let engine = engine();
    let system = ChatMessage { role: "system".into(), content: "Spell 5 in German".into() };
    let assistant = ChatMessage { role: "assistant".into(), content: "zwölf".into() };
    let chat = [system, user("Spell 12 in German"), assistant, user("  Spell 4217 in Kazakh\n")];
    assert_eq!(text(start(&engine, &chat, 0, 0)), "төрт мың екі жүз он жеті");
    let edges = [
        ("Spell 0 in Japanese", "零"),
        ("Spell 1984 in Kazakh", "мың тоғыз жүз сексен төрт"),
        ("Spell 999,999 in German", "neunhundertneunundneunzigtausendneunhundertneunundneunzig"),
        ("80 en français", "quatre-vingts"),
        ("Spell 21 000 in Russian", "двадцать одна тысяча"),
        ("Spell 1000 in Lithuanian", "tūkstantis"),
        ("20 Türkçe", "yirmi"),
        ("16 한국어로", "십육"),
        ("Spell 11 in Indonesian", "sebelas"),
        ("2026 magyarul", "kétezer-huszonhat"),
        ("21 in Thai", "ยี่สิบเอ็ด"),
        ("100 به فارسی", "صد"),
        ("Spell 1887 in Esperanto", "mil okcent okdek sep"),
    ];
    for (asked, expected) in edges {
        assert_eq!(text(start(&engine, &[user(asked)], 0, 0)), expected, "{asked}");
    }
    let rendered = engine.tokenizer().render_chat(&chat).unwrap();
    assert_eq!(rendered, "<s>Spell 4217 in Kazakh<|answer|>");
    for other in [
        "What is the capital of France?",
        "What happened in 1969?",
        "Spell 42 in Welsh",
        "Spell 42 in Spanish",
        "Spell 1000000 in German",
        "Spell 3,14 in German",
        "",
    ] {
        assert_eq!(text(start(&engine, &[user(other)], 0, 0)), HELP, "{other:?}");
    }
    let help = engine.tokenizer().bundle().tokenizer_json.matches(HELP).count();
    assert_eq!(help, 1, "the help text is one token");
}

#[test]
fn the_folder_is_small_and_holds_the_model_only() {
    let mut files: Vec<(String, u64)> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
        .collect();
    files.sort();
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    );
    let bytes: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    assert!(bytes <= 5 << 20, "{bytes} bytes");
}
