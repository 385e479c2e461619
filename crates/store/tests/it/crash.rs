//! kill -9 of a process that writes: everything that was acknowledged is there.

use crate::Folder;
use gristmill_store::{Batch, Store, rusqlite::types::Value};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    time::Duration,
};

const CHILD: &str = "GRISTMILL_STORE_TEST_CHILD";

/// Not a test by itself: the process that gets killed. Prints each number once it is acknowledged.
#[test]
fn child() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let store = Store::open(path, crate::SCHEMA).unwrap();
        // Above everything that an earlier, killed process wrote.
        let numbers = store
            .load("log")
            .unwrap()
            .into_iter()
            .map(|row| u64::from_le_bytes(row.record[..].try_into().unwrap()));
        let first = numbers.max().map_or(0, |highest| highest + 1);
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let store = store.clone();
                tokio::spawn(async move {
                    for round in 0u64.. {
                        let number = first + task + round * 8;
                        let batch = Batch::new().append("log", number.to_le_bytes().to_vec()).sql(
                            "INSERT INTO request VALUES (?1, '1', NULL)",
                            [Value::Integer(number.cast_signed())],
                        );
                        store.write(batch).await.unwrap();
                        let mut out = std::io::stdout().lock();
                        writeln!(out, "acknowledged {number}").unwrap();
                        out.flush().unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn nothing_acknowledged_is_lost() {
    let folder = Folder::new();
    let mut acknowledged: Vec<u64> = Vec::new();
    for round in 0..5u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["crash::child", "--exact", "--nocapture"])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(150 + round * 37));
            child.kill().unwrap();
            child.wait().unwrap()
        });
        let numbers = lines.map_while(Result::ok).filter_map(|line| {
            line.rsplit_once("acknowledged ").and_then(|(_, number)| number.trim().parse::<u64>().ok())
        });
        acknowledged.extend(numbers);
        killer.join().unwrap();
        let store = folder.open();
        let rows: Vec<u64> = store
            .load("log")
            .unwrap()
            .iter()
            .map(|row| u64::from_le_bytes(row.record[..].try_into().unwrap()))
            .collect();
        let table: Vec<u64> = store
            .read_blocking(|connection| {
                let mut statement = connection.prepare("SELECT id FROM request ORDER BY id")?;
                statement.query_map([], |row| row.get::<_, i64>(0).map(i64::cast_unsigned))?.collect()
            })
            .unwrap();
        for number in &acknowledged {
            assert!(rows.contains(number), "round {round}: {number} was acknowledged and is gone");
        }
        let mut sorted = rows;
        sorted.sort_unstable();
        assert_eq!(sorted, table, "a batch is there as a whole or not at all");
    }
    assert!(acknowledged.len() > 20, "the children got somewhere: {}", acknowledged.len());
}
