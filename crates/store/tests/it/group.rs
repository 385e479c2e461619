//! Group commit: many callers, few commits, one order.

use crate::Folder;
use gristmill_store::{Batch, StoreError, rusqlite::types::Value};
use std::sync::{Arc, Mutex};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_wait_together_share_commits() {
    let folder = Folder::new();
    let store = folder.open();
    const CALLERS: u64 = 2_000;
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let store = store.clone();
            tokio::spawn(async move { store.append("log", caller.to_le_bytes().to_vec()).await })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    let stats = store.stats();
    assert_eq!((stats.batches, stats.records), (CALLERS, CALLERS));
    assert!(stats.commits < CALLERS / 4, "{stats:?}");
    let mut registry = prometheus_client::registry::Registry::default();
    store.register(&mut registry);
    let shown = gristmill_metrics::read(&gristmill_metrics::text(&registry));
    let value = |name| shown.value(name, &[]).unwrap() as u64;
    assert_eq!(value("store_commit_seconds_count"), stats.commits);
    assert_eq!(value("store_commit_batches_count"), stats.commits);
    assert_eq!(value("store_commit_batches_sum"), CALLERS);
    assert_eq!(value("store_failed"), 0);
    let mut seen: Vec<u64> = store
        .load("log")
        .unwrap()
        .iter()
        .map(|row| u64::from_le_bytes(row.record[..].try_into().unwrap()))
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..CALLERS).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_keep_the_order_of_the_lock() {
    let folder = Folder::new();
    let store = folder.open();
    let machine = Arc::new(Mutex::new(0u64));
    let callers: Vec<_> = (0..500)
        .map(|_| {
            let (store, machine) = (store.clone(), Arc::clone(&machine));
            tokio::spawn(async move {
                let slot = store.slot().await.unwrap();
                let ticket = {
                    let mut count = machine.lock().unwrap();
                    *count += 1;
                    slot.write(Batch::new().append("log", count.to_le_bytes().to_vec()))
                };
                ticket.await.unwrap();
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let counts: Vec<_> = store
        .load("log")
        .unwrap()
        .iter()
        .map(|row| u64::from_le_bytes(row.record[..].try_into().unwrap()))
        .collect();
    assert_eq!(counts, (1..=500).collect::<Vec<_>>());
}

const INSERT: &str = "INSERT INTO request VALUES (?1, '1', NULL)";

#[tokio::test]
async fn a_batch_is_all_or_nothing_and_harms_no_other() {
    let folder = Folder::new();
    let store = folder.open();
    let insert = |id| Batch::new().sql(INSERT, [Value::Integer(id)]);
    // Queued together, so that they share a transaction.
    let mut tickets = Vec::new();
    for batch in [
        insert(1).append("a", vec![1]),
        insert(2).sql(INSERT, [Value::Integer(1)]),
        insert(2).append("a", vec![2]),
        insert(3).sql("INSERT INTO nowhere VALUES (1)", []),
        insert(3).append("new", vec![1]),
    ] {
        tickets.push(store.slot().await.unwrap().write(batch));
    }
    let mut results = Vec::new();
    for ticket in tickets {
        results.push(ticket.await);
    }
    let refused = |result: &Result<(), StoreError>| matches!(result, Err(StoreError::Refused { .. }));
    assert_eq!(results.iter().map(refused).collect::<Vec<_>>(), [false, true, false, true, false]);
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 3);
    drop(store);
    let store = folder.open();
    assert_eq!((store.load("a").unwrap().len(), store.load("new").unwrap().len()), (2, 1));
}

#[tokio::test]
async fn a_refused_change_of_a_log_stops_the_store() {
    let folder = Folder::new();
    let mut kept = 0;
    let twice = |batch: Batch| batch.sql(INSERT, [Value::Integer(7)]).sql(INSERT, [Value::Integer(7)]);
    for refused in [
        twice(Batch::new().append("log", vec![9])),
        twice(Batch::new().replace("log", vec![])),
        twice(Batch::new().remove("log")),
        (0..4_097).fold(Batch::new(), |batch, _| batch.append("log", vec![9])),
    ] {
        let store = folder.open();
        store.append("log", vec![1]).await.unwrap();
        kept += 1;
        // Whoever wrote it has gone on in memory; what it does next must not follow on what is missing.
        let error = store.write(refused).await.unwrap_err();
        assert!(matches!(error, StoreError::Refused { .. } | StoreError::TooLarge { .. }), "{error}");
        assert_eq!(store.append("log", vec![2]).await, Err(error.clone()));
        assert_eq!(store.failed().await, error);
        drop(store);
        assert_eq!(folder.open().load("log").unwrap().len(), kept, "{error}");
    }
}

#[tokio::test]
async fn readers_cannot_write() {
    let folder = Folder::new();
    let store = folder.open();
    for sql in ["DELETE FROM gristmill_record", "INSERT INTO request VALUES (1, '1', NULL)"] {
        assert!(store.read_blocking(|connection| connection.execute(sql, [])).is_err());
    }
}

#[tokio::test]
async fn what_is_queued_is_written_when_the_store_is_dropped() {
    let folder = Folder::new();
    let store = folder.open();
    let mut tickets = Vec::new();
    for n in 0..50 {
        tickets.push(store.slot().await.unwrap().write(Batch::new().append("log", vec![n])));
    }
    drop(tickets);
    drop(store);
    assert_eq!(folder.open().load("log").unwrap().len(), 50);
}
