//! Real servers, sold: llama.cpp's own, and that of llama-cpp-python. Both serve the starter model, written
//! as GGUF, so that what they say is known. Where one is not installed the test says so and passes, unless
//! GRISTMILL_E2E_REQUIRED is set, as continuous integration does.

use crate::{
    exchange::{Exchange, MODEL, grains},
    sell::{post, settled},
};
use serde_json::{Value, json};
use std::{
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const KEY: &str = "sk-peer-secret";
const PATIENCE: Duration = Duration::from_secs(60);

/// The Python that the servers are installed for.
fn python() -> Command {
    Command::new(std::env::var_os("GRISTMILL_PEERS").unwrap_or_else(|| "python3".into()))
}

/// A server that runs until the test is over.
struct Server {
    child: Child,
    url: String,
    model: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Starts a server of the starter model; none where it is not installed.
async fn serve(
    name: &str,
    module: &str,
    folder: &Path,
    call: impl FnOnce(&mut Command, &str, &str),
) -> Option<Server> {
    let installed = python().args(["-c", &format!("import gguf, {module}")]).output();
    if !installed.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("GRISTMILL_E2E_REQUIRED").is_none(), "the server {name} is required here");
        eprintln!("skipped: the server {name} is not installed; see .ci/tools.sh");
        return None;
    }
    let model = folder.join("starter.gguf");
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/numbers");
    let written =
        python().args(["-c", include_str!("peers/gguf_of.py")]).arg(&files).arg(&model).output().unwrap();
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut command = python();
    call(&mut command, model.to_str().unwrap(), &port);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let url = format!("http://127.0.0.1:{port}");
    let mut server = Server { child, url, model: String::new() };
    let started = Instant::now();
    let http = gristmill_net::http::client().unwrap();
    loop {
        let request = http.get(format!("{}/v1/models", server.url)).bearer_auth(KEY);
        if let Ok(answer) = request.send().await
            && answer.status().is_success()
        {
            let list: Value = answer.json().await.unwrap();
            server.model = list["data"][0]["id"].as_str().unwrap().to_owned();
            return Some(server);
        }
        assert!(server.child.try_wait().unwrap().is_none(), "the server {name} ended");
        assert!(started.elapsed() < PATIENCE, "the server {name} does not start");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// All that a consumer does with it.
async fn is_sold(folder: &Path, server: Server) {
    let key = folder.join("key");
    std::fs::write(&key, KEY).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let home = folder.join("home");
    let exchange = Exchange::start(&home);
    let arguments =
        ["--upstream", &server.url, "--key-file", key.to_str().unwrap(), "--name", "peer/starter"];
    let seller = Exchange::sell(&home, &arguments);
    let account = seller.ready["processor"].clone();
    let ask = |model: &str, text: &str| exchange.json(&["ask", "--model", model, text]);

    let answer = ask("peer/starter", "Spell 42 in English");
    assert_eq!((&answer["answer"], &answer["finish_reason"]), (&json!("forty-two"), &json!("stop")));
    let usage = &answer["usage"];
    let counted = (&usage["prompt_tokens"], &usage["completion_tokens"], &usage["unit"]);
    assert_eq!(counted, (&json!("user: Spell 42 in English\n".len()), &json!(9), &json!("byte")));
    // The same weights say the same here and there, in whatever script.
    for text in ["Spell 4217 in Kazakh", "Spell 90210 in Japanese", "Spell 777777 in German"] {
        assert_eq!(ask("peer/starter", text)["answer"], ask(MODEL, text)["answer"], "{text}");
    }

    let (status, text) = post(&exchange, "/completions", json!({
        "model": "peer/starter", "prompt": "<s>Spell 42 in German<|answer|>", "temperature": 0, "max_tokens": 60,
    }))
    .await;
    let text: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &text["choices"][0]["text"]), (200, &json!("zweiundvierzig")), "{text}");
    let chat = |members: Value| {
        let mut body = json!({"model": "peer/starter", "messages": [{"role": "user", "content": "Spell 42 in English"}], "temperature": 0});
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        post(&exchange, "/chat/completions", body)
    };
    for (members, content, finish) in [
        (json!({"max_tokens": 5}), "forty", "length"),
        (json!({"stop": ["-"]}), "forty", "stop"),
        (json!({"top_p": 0.5, "top_k": 3, "seed": 7}), "forty-two", "stop"),
    ] {
        let (status, text) = chat(members.clone()).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        let choice = &answer["choices"][0];
        assert_eq!(status, 200, "{members}: {text}");
        assert_eq!(
            (&choice["message"]["content"], &choice["finish_reason"]),
            (&json!(content), &json!(finish))
        );
    }
    let (_, text) = chat(json!({"n": 2, "stream": true})).await;
    assert_eq!(text.matches("\"finish_reason\":\"stop\"").count(), 2, "{text}");
    // More than its context, though not more than was offered: refused there, and nothing is charged.
    let before = settled(&exchange, &account).await;
    let long = json!({"messages": [{"role": "user", "content": "Spell 42 in English. ".repeat(90)}]});
    let (status, text) = chat(long).await;
    assert!(status >= 400, "{text}");
    assert_eq!(settled(&exchange, &account).await, before);

    let receipt = exchange.json(&["receipt", "show", answer["receipt"].as_str().unwrap()]);
    let file = folder.join("receipt.json");
    std::fs::write(&file, receipt.to_string()).unwrap();
    let verified = exchange.json(&["receipt", "verify", file.to_str().unwrap()]);
    assert_eq!((&verified["holds"], &verified["receipt"]["recomputable"]), (&json!(true), &json!(false)));
    assert!(grains(&receipt["cost"]) > 0);
    drop(server);
    let failed = exchange.run(&["ask", "--model", "peer/starter", "Spell 42 in English"]);
    let error = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success() && error.contains("upstream server failed"), "{error}");
    assert!(!error.contains(KEY));
    assert_eq!(settled(&exchange, &account).await, before);
    assert_eq!(exchange.json(&["ledger", "supply"])["adds_up"], true);
    seller.stop();
    exchange.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn llama_cpp() {
    let folder = tempfile::tempdir().unwrap();
    let call = |command: &mut Command, model: &str, port: &str| {
        command.args(["-c", include_str!("peers/llama_server.py"), model, port, KEY]);
    };
    if let Some(server) = serve("llama.cpp", "xllamacpp", folder.path(), call).await {
        is_sold(folder.path(), server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn llama_cpp_python() {
    let folder = tempfile::tempdir().unwrap();
    let call = |command: &mut Command, model: &str, port: &str| {
        command.args(["-m", "llama_cpp.server", "--model", model, "--n_ctx", "512", "--host", "127.0.0.1"]);
        // It would break off an answer for the next request.
        command.args(["--port", port, "--api_key", KEY, "--interrupt_requests", "False"]);
    };
    if let Some(server) = serve("llama-cpp-python", "llama_cpp.server", folder.path(), call).await {
        is_sold(folder.path(), server).await;
    }
}
