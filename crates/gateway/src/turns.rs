//! Turns of requests for several answers. Each takes several lanes of a channel; of two that hold some and
//! wait for more, neither would get them. So one at a time reserves its lanes at a processor.

use gristmill_types::AccountId;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{OwnedMutexGuard, Semaphore};

/// Whose turn it is, at each processor. Only those are kept that somebody has or waits for.
#[derive(Default)]
pub(crate) struct Turns(Mutex<BTreeMap<AccountId, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits for a turn at the processor; with a place among those who may wait, if it has to. None where
    /// all of these are taken.
    pub(crate) async fn take(
        &self,
        processor: &AccountId,
        waiting: &Semaphore,
    ) -> Option<OwnedMutexGuard<()>> {
        let turn = self.at(processor);
        if let Ok(turn) = Arc::clone(&turn).try_lock_owned() {
            return Some(turn);
        }
        let _place = waiting.try_acquire().ok()?;
        Some(turn.lock_owned().await)
    }

    fn at(&self, processor: &AccountId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(*processor).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    fn processor(byte: u8) -> AccountId {
        AccountId::new([byte; 32])
    }

    #[tokio::test]
    async fn only_those_of_one_processor_wait_for_each_other() {
        let (turns, waiting) = (Turns::default(), Semaphore::new(1));
        let one = processor(1);
        let first = turns.take(&one, &waiting).await.unwrap();
        assert!(turns.take(&processor(2), &waiting).now_or_never().flatten().is_some());
        let mut second = std::pin::pin!(turns.take(&one, &waiting));
        assert!(second.as_mut().now_or_never().is_none());
        // There is a place for one that waits.
        assert!(turns.take(&one, &waiting).await.is_none());
        drop(first);
        let second = second.await.unwrap();
        assert_eq!(waiting.available_permits(), 1);
        // One that goes away leaves its place.
        assert!(turns.take(&one, &waiting).now_or_never().is_none());
        assert_eq!(waiting.available_permits(), 1);
        drop(second);
        drop(turns.take(&processor(3), &waiting).await);
        drop(turns.take(&processor(4), &waiting).await);
        assert_eq!(turns.0.lock().unwrap().len(), 1, "nobody's turns are not kept");
    }
}
