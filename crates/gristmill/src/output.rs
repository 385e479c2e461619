//! What a command prints: words for a person, or one stable JSON value with `--json`.

use crate::failure::Failure;
use serde::Serialize;
use std::{
    borrow::Cow,
    io::{ErrorKind, IsTerminal as _, Write as _},
    process::ExitCode,
};

/// What makes a terminal's text quiet, and usual again.
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Where and how a command prints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    call: &'static str,
}

impl Output {
    /// Prints JSON if asked to. Commands in what it tells begin with this call of the program.
    pub(crate) const fn new(json: bool, call: &'static str) -> Self {
        Self { json, call }
    }

    /// The text, its commands so that they can be copied: with this program's path, and the home that was named.
    pub(crate) fn commands(self, text: &str) -> String {
        let words: Vec<&str> = text.split_inclusive(' ').collect();
        let is_command = |at: usize| {
            let next = words.get(at + 1).map(|word| word.trim_end_matches(|c: char| !c.is_ascii_lowercase()));
            next.is_some_and(|next| crate::commands::names().any(|name| name == next))
        };
        let called = words.iter().enumerate().map(|(at, word)| match word.strip_suffix("gristmill ") {
            Some(before) if is_command(at) => format!("{before}{} ", self.call),
            _ => (*word).to_owned(),
        });
        called.collect()
    }

    /// Prints the value as one line of JSON, or else the text.
    pub(crate) fn show<T: Serialize>(self, value: &T, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        let line = if self.json { serde_json::to_string(value)? } else { text() };
        match write(&format!("{line}\n")) {
            // A reader that went away (`gristmill … | head`) is no failure of ours.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Failure::new(format!("the output cannot be written: {error}"))
                    .next("what was to be done is done; see that standard output takes text")
                    .into())
            }
            _ => Ok(()),
        }
    }

    /// Prints a part of a line for a person; with `--json` nothing.
    pub(crate) fn piece(self, text: &str) {
        if !self.json {
            drop(write(text));
        }
    }

    /// Whether it prints JSON.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Prints a line of JSON for a program; for a person nothing.
    pub(crate) fn event<T: Serialize>(self, value: &T) {
        if self.json
            && let Ok(line) = serde_json::to_string(value)
        {
            print(&line);
        }
    }

    /// Prints a line for a person; with `--json` nothing.
    pub(crate) fn say(self, text: &str) {
        if !self.json {
            print(text);
        }
    }

    /// Prints what went wrong on standard error.
    pub(crate) fn failure(self, error: &anyhow::Error) {
        let advice = error.chain().find_map(|cause| cause.downcast_ref::<Failure>()?.advice());
        let advice = advice.map(|advice| self.commands(advice));
        let mut message = error.to_string();
        for cause in error.chain().skip(1).map(ToString::to_string) {
            // Some errors say their cause themselves.
            if !message.contains(&cause) {
                message = format!("{message}: {cause}");
            }
        }
        let text = if self.json {
            serde_json::json!({"error": {"message": message, "next": advice}}).to_string()
        } else {
            match advice {
                Some(advice) => format!("error: {message}\n{} {advice}", dim("next:")),
                None => format!("error: {message}"),
            }
        };
        drop(writeln!(std::io::stderr().lock(), "{}", harmless(&text)));
    }
}

/// Says what is wrong with the arguments, or gives the help that was asked for.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|argument| argument == "--json");
    if !json || !error.use_stderr() {
        drop(error.print());
    } else {
        let text = error.render().to_string();
        // What is missing or misspelt stands in the lines before the first that is empty.
        let message: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
        let message = message.join(" ");
        let message = message.trim_start_matches("error: ");
        let next = format!("see how to call it: {} help", quoted(&crate::up::program()));
        let value = serde_json::json!({"error": {"message": message, "next": next}});
        drop(writeln!(std::io::stderr().lock(), "{value}"));
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Prints what nobody misses where it cannot be written.
fn print(line: &str) {
    drop(write(&format!("{line}\n")));
}

fn write(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let text = if stdout.is_terminal() { harmless(text) } else { Cow::Borrowed(text) };
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Answers, names and references are other people's words: what would move a terminal's cursor, or more, is shown
/// as a replacement character. Our own quiet text passes.
fn harmless(text: &str) -> Cow<'_, str> {
    let is_safe = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    if text.chars().all(is_safe) {
        return Cow::Borrowed(text);
    }
    let parts = text.split_inclusive(DIM).flat_map(|part| part.split_inclusive(PLAIN));
    let safe = |part: &str| part.chars().map(|c| if is_safe(c) { c } else { '\u{fffd}' }).collect::<String>();
    let shown = parts.map(|part| match [DIM, PLAIN].into_iter().find(|code| part.ends_with(code)) {
        Some(code) => format!("{}{code}", safe(part.strip_suffix(code).unwrap_or(part))),
        None => safe(part),
    });
    Cow::Owned(shown.collect())
}

/// Quiet text, where the terminal can show it so.
pub(crate) fn dim(text: &str) -> String {
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("{DIM}{text}{PLAIN}")
    } else {
        text.to_owned()
    }
}

/// A word as a shell takes it.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=@".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Rows under headings, in columns.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width.saturating_sub(cell.chars().count()))))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![dim(&line(&mut headings.iter().copied()))];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn commands_are_those_that_work_here() {
        let output = super::Output::new(false, "/opt/gristmill --home /tmp/x");
        for (text, expected) in [
            ("start it: gristmill up", "start it: /opt/gristmill --home /tmp/x up"),
            (
                "see `gristmill up`, or gristmill ask \"…\"",
                "see `/opt/gristmill --home /tmp/x up`, or /opt/gristmill --home /tmp/x ask \"…\"",
            ),
            ("another gristmill process", "another gristmill process"),
            ("a gristmill", "a gristmill"),
        ] {
            assert_eq!(output.commands(text), expected);
        }
    }

    #[test]
    fn no_answer_drives_the_terminal() {
        for (text, shown) in [
            ("қайырлы\ttaң\n", "қайырлы\ttaң\n"),
            ("\x1b[2mquiet\x1b[0m and \x1b[2mquiet\x1b[0m", "\x1b[2mquiet\x1b[0m and \x1b[2mquiet\x1b[0m"),
            (
                "a\x1b[2Jb\x1b]0;title\x07\r\u{9b}1A",
                "a\u{fffd}[2Jb\u{fffd}]0;title\u{fffd}\u{fffd}\u{fffd}1A",
            ),
            ("\x1b\x1b[2m", "\u{fffd}\x1b[2m"),
        ] {
            assert_eq!(super::harmless(text), shown);
        }
    }

    #[test]
    fn tables_align_by_character() {
        let rows = vec![vec!["é".into(), "1".into()], vec!["abc".into(), "22".into()]];
        let text = super::table(&["a", "b"], &rows);
        assert!(text.ends_with("é    1\nabc  22"), "{text}");
    }
}
