//! The steps of a request's choices, in the order in which they come.

use crate::{
    error::BuyError,
    progress::Progress,
    purchase::{Purchase, Step},
};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

/// A stream begins after so long though no word came: proxies on its way wait for its head.
pub(crate) const SILENCE: Duration = Duration::from_secs(15);

/// The choices of one request, each with what counts it: it was placed, or was not.
pub(crate) type Placed = Vec<(Arc<Progress>, Result<Purchase, BuyError>)>;

/// The step of a choice, by its index.
type Stepped = (u32, Result<Step, BuyError>);

/// The choices of one request under way. When it is dropped, they stop at the next safe point.
pub(crate) struct Steps {
    counts: Vec<Arc<Progress>>,
    /// Looked at, and not given yet.
    ahead: VecDeque<Stepped>,
    receiver: mpsc::Receiver<Stepped>,
}

impl Steps {
    /// Each purchase runs in a task of its own and to its end: what is written down half way must be confirmed.
    pub(crate) fn run(placed: Placed) -> Self {
        // Nothing is read ahead of the client but one step each.
        let (sender, receiver) = mpsc::channel(1);
        let mut counts = Vec::new();
        for (index, (progress, purchase)) in (0_u32..).zip(placed) {
            counts.push(progress);
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut purchase = match purchase {
                    Ok(purchase) => purchase,
                    Err(error) => return drop(sender.send((index, Err(error))).await),
                };
                loop {
                    let step = match purchase.next(sender.closed()).await {
                        Err(BuyError::Gone) => return,
                        step => step,
                    };
                    let more = matches!(step, Ok(Step::Text(..)));
                    if sender.send((index, step)).await.is_err() || !more {
                        return;
                    }
                }
            });
        }
        Self { counts, ahead: VecDeque::new(), receiver }
    }

    pub(crate) fn choices(&self) -> u32 {
        u32::try_from(self.counts.len()).unwrap_or(u32::MAX)
    }

    /// The next step of any choice. After its end or its error a choice has none.
    pub(crate) async fn next(&mut self) -> Option<Stepped> {
        let step = match self.ahead.pop_front() {
            Some(step) => step,
            None => self.receiver.recv().await?,
        };
        if let (index, Err(error)) = &step {
            self.count(*index, error);
        }
        Some(step)
    }

    fn count(&self, index: u32, error: &BuyError) {
        self.progress(index).inspect(|progress| progress.failed(error));
    }

    fn progress(&self, index: u32) -> Option<&Arc<Progress>> {
        usize::try_from(index).ok().and_then(|index| self.counts.get(index))
    }

    /// Waits for the first words of any choice, until then at most. Fails where all came to nothing that is
    /// paid for: another may do better, or the request is refused with its status. The first choice is not counted as failed
    /// then.
    pub(crate) async fn begun(
        &mut self,
        until: Option<Instant>,
        gone: &CancellationToken,
    ) -> Result<(), BuyError> {
        let mut silence = std::pin::pin!(async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        });
        for _ in 0..self.choices() {
            let step = tokio::select! {
                step = self.receiver.recv() => step,
                () = &mut silence => return Ok(()),
                () = gone.cancelled() => return Err(BuyError::Gone),
            };
            let Some(step) = step else { return Ok(()) };
            let nothing = matches!(&step.1, Err(error) if !matches!(error, BuyError::Cut { .. } | BuyError::Unsettled { .. }));
            self.ahead.push_back(step);
            if !nothing {
                return Ok(());
            }
        }
        let mut first = None;
        for (index, step) in std::mem::take(&mut self.ahead) {
            match step {
                Err(error) if index == 0 => first = Some(error),
                Err(error) => drop(self.progress(index).inspect(|progress| progress.dropped(&error))),
                Ok(_) => {}
            }
        }
        first.map_or(Ok(()), Err)
    }
}
