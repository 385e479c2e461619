//! Servers on this machine that could be sold. They are asked for their models, and nothing else: only
//! `gristmill sell` exposes anything.

use crate::output::quoted;
use futures::future::join_all;
use gristmill_upstream::{Address, list_models};
use serde_json::{Value, json};
use std::time::Duration;

/// Where Ollama, llama.cpp, vLLM and LM Studio listen unless told otherwise.
const PORTS: [u16; 4] = [11434, 8080, 8000, 1234];
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Models that are named to a person.
const NAMED: usize = 3;

/// A server that speaks the OpenAI API.
pub(super) struct Neighbour {
    url: String,
    models: Vec<String>,
}

/// Looks at the usual ports.
pub(super) async fn find() -> Vec<Neighbour> {
    let look = PORTS.map(|port| async move {
        let url = format!("http://127.0.0.1:{port}");
        let address: Address = url.parse().ok()?;
        let models = list_models(&address, PATIENCE).await.ok()?;
        Some(Neighbour { url, models })
    });
    join_all(look).await.into_iter().flatten().collect()
}

impl Neighbour {
    /// What offers it.
    pub(super) fn command(&self, program: &str, home: &str) -> String {
        let model = match self.models.as_slice() {
            [] | [_] => String::new(),
            [first, ..] => format!(" --model {}", quoted(first)),
        };
        format!("{program}{home} sell --upstream {}{model}", self.url)
    }

    pub(super) fn event(&self, command: &str) -> Value {
        json!({"event": "upstream_found", "url": self.url, "models": self.models, "command": command})
    }

    pub(super) fn line(&self, command: &str) -> String {
        let more = self.models.len().saturating_sub(NAMED);
        let mut named = self.models.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        if more > 0 {
            named.push_str(&format!(" and {more} more"));
        }
        let has = if named.is_empty() { "without a model".to_owned() } else { format!("with {named}") };
        format!("found     a server at {} {has}; to offer it for pay:\n\n  {command}\n", self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_copied() {
        for (models, command) in [
            (&[][..], "gristmill sell --upstream http://127.0.0.1:8080"),
            (&["tiny"], "gristmill sell --upstream http://127.0.0.1:8080"),
            (&["qwen2.5:0.5b", "b"], "gristmill sell --upstream http://127.0.0.1:8080 --model qwen2.5:0.5b"),
            (
                &["a'; rm -rf x", "b"],
                r"gristmill sell --upstream http://127.0.0.1:8080 --model 'a'\''; rm -rf x'",
            ),
        ] {
            let models = models.iter().map(|model| (*model).to_owned()).collect();
            let neighbour = Neighbour { url: "http://127.0.0.1:8080".into(), models };
            assert_eq!(neighbour.command("gristmill", ""), command);
            assert!(neighbour.line(command).contains(command));
        }
    }
}
