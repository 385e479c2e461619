//! What an engine's thread is told: new tasks, that an event was taken, that it is to end.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// Shared by the thread and everybody who talks to it.
pub(crate) struct Inbox<T> {
    state: Mutex<State<T>>,
    bell: Condvar,
}

struct State<T> {
    /// Bounded by the places that tasks hold.
    tasks: VecDeque<T>,
    rung: bool,
    closed: bool,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        let state = State { tasks: VecDeque::new(), rung: false, closed: false };
        Self { state: Mutex::new(state), bell: Condvar::new() }
    }
}

impl<T> Inbox<T> {
    /// Hands over a task; gives it back if the thread has ended or is to end.
    pub(crate) fn push(&self, task: T) -> Result<(), Box<T>> {
        let mut state = self.lock();
        if state.closed {
            return Err(Box::new(task));
        }
        state.tasks.push_back(task);
        state.rung = true;
        self.bell.notify_one();
        Ok(())
    }

    /// Wakes the thread: there is room in a channel, or a reader is gone.
    pub(crate) fn ring(&self) {
        self.lock().rung = true;
        self.bell.notify_one();
    }

    /// Ends the thread, or says that it has ended; tasks that still wait are dropped, which their
    /// readers notice.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let dropped = std::mem::take(&mut state.tasks);
        self.bell.notify_one();
        drop(state);
        drop(dropped);
    }

    /// Whether no task is taken any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// New tasks; `None` if the thread is to end. What rings from here on, a wait will hear.
    pub(crate) fn take(&self) -> Option<VecDeque<T>> {
        let mut state = self.lock();
        state.rung = false;
        if state.closed { None } else { Some(std::mem::take(&mut state.tasks)) }
    }

    /// Sleeps until there is a reason to look again.
    pub(crate) fn wait(&self) {
        let state = self.lock();
        let idle = |state: &mut State<T>| !state.rung && !state.closed;
        drop(self.bell.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner));
    }

    /// The state has no invariant that a panic could leave broken, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that the thread has ended, however it ended.
pub(crate) struct Exit<T>(pub(crate) Arc<Inbox<T>>);

impl<T> Drop for Exit<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}
