//! SIGKILL under load: this test runs itself as a child, kills it, and counts.

use crate::fixture::{client, genesis, issuer, key, signed, start, transfer};
use gristmill_ledger::tx_hash;
use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// Set for the child: the node's folder.
const FOLDER: &str = "GRISTMILL_TEST_KILL_FOLDER";
const ROUNDS: usize = 3;

/// Runs only as a child: sends transfers and prints the hash of each after it was reported final.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let node = start(Path::new(&folder)).await;
    let client = client(&node);
    let chain = client.chain();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..8 {
        let client = client.clone();
        tasks.spawn(async move {
            let mut nonce = client.nonce(&key(number).account()).await.unwrap().value;
            loop {
                let tx = signed(chain, number, nonce, transfer(number + 8, 1));
                client.submit_and_wait(&tx).await.unwrap();
                println!("\nfinal {number} {nonce} {}", tx_hash(&tx));
                nonce += 1;
            }
        });
    }
    tasks.join_next().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_reported_final_survives_sigkill() {
    if std::env::var(FOLDER).is_ok() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut reported = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["kill::child", "--exact", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            // Shown when the test fails.
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let target = reported.len() + 40 + 37 * round;
        for line in lines.filter(|line| line.starts_with("final ")) {
            reported.push(line);
            if reported.len() == target {
                // SIGKILL: the child gets no word in.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(reported.len() >= target, "the child ended by itself");
    }

    let node = start(folder.path()).await;
    assert!(node.audit().adds_up());
    let client = client(&node);
    let mut nonces = [0; 8];
    for line in &reported {
        let mut words = line.split(' ').skip(1);
        let (number, nonce): (usize, u64) =
            (words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap());
        let hash = words.next().unwrap().parse().unwrap();
        assert!(client.included(&hash).await.unwrap().is_some(), "lost: {line}");
        // A kill may come between the report and its line here, so numbers may be missing.
        assert!(nonce >= nonces[number], "out of order: {line}");
        nonces[number] = nonce + 1;
    }
    // What was applied is what the receivers hold, also beyond what was reported.
    tokio::time::sleep(Duration::from_millis(200)).await;
    for number in 0..8u8 {
        let nonce = client.nonce(&key(number).account()).await.unwrap().value;
        assert!(nonce >= nonces[usize::from(number)]);
        let received = client.balance(&key(number + 8).account(), &issuer()).await.unwrap().value;
        let start = genesis().balances[0].amount;
        assert_eq!(received.grains() - start.grains(), u128::from(nonce));
    }
    node.stop().await;
}
