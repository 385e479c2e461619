//! Whether the upstream answers, by its last answer.

use crate::connection::Http;
use gristmill_engine::Condition;
use std::time::Duration;
use tokio::sync::watch;

/// How often one that could not be reached is looked for.
const LOOK: Duration = Duration::from_secs(5);
/// The kind of failure after which it can be looked for without asking it anything.
pub(crate) const UNREACHABLE: &str = "unreachable";

/// The kind of its last failure, until it answers again.
#[derive(Clone, Debug)]
pub(crate) struct Health(watch::Sender<Option<&'static str>>);

impl Health {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    fn is_well(&self) -> bool {
        self.0.borrow().is_none()
    }

    /// One that is not looked for must be asked, or it could never be well again.
    pub(crate) fn condition(&self) -> Condition {
        match *self.0.borrow() {
            None => Condition::Well,
            Some(UNREACHABLE) => Condition::Down,
            Some(_) => Condition::Failing,
        }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Option<&'static str>> {
        self.0.subscribe()
    }

    pub(crate) fn answered(&self) {
        self.0.send_if_modified(|kind| kind.take().is_some());
    }

    /// Nobody may ask for a while what failed a moment ago: one that could not be reached is looked for.
    pub(crate) fn failed(&self, kind: &'static str, http: &Http) {
        let mut before = None;
        self.0.send_if_modified(|now| {
            before = now.replace(kind);
            before != Some(kind)
        });
        if kind == UNREACHABLE && before != Some(UNREACHABLE) {
            let (health, http) = (self.clone(), http.clone());
            tokio::spawn(async move { health.look(&http).await });
        }
    }

    async fn look(&self, http: &Http) {
        let url = http.address.api("/models");
        // Once every engine and every answer of this upstream is gone, nobody is left to tell.
        while !self.is_well() && self.0.sender_count() > 1 {
            tokio::time::sleep(LOOK).await;
            if http.get(url.clone()).timeout(LOOK).send().await.is_ok() {
                self.0.send_if_modified(|kind| kind.take_if(|kind| *kind == UNREACHABLE).is_some());
                return;
            }
        }
    }
}
