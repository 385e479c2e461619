//! How a payer gets out of a channel.

use crate::{
    client::{ChannelRecords, Verified},
    error::ClientError,
    schema::Inclusion,
    sender::Sender,
};
use gristmill_ledger::{
    record::{ChannelState, Lane},
    tx::{CloseChannel, MaturedLane, RequestClose, Withdraw},
};

/// How far a channel is on its way to its end.
#[derive(Clone, Debug)]
pub struct Closing {
    /// Whether it has ended. What was not paid out of it is back with the payer.
    pub closed: bool,
    /// Ledger time until the payer can end it, in milliseconds. Its payee may do so at once.
    pub left_ms: u64,
    /// What was sent for it, if anything was.
    pub inclusion: Option<Inclusion>,
}

impl Sender {
    /// Takes the next step to the end of a channel that this account paid into, given its proven records: requests
    /// it, waits for its time, or pays out what was claimed meanwhile and ends it.
    pub async fn close_channel(&self, found: &Verified<ChannelRecords>) -> Result<Closing, ClientError> {
        let ChannelRecords { channel, lanes } = &found.value;
        let terms = channel.terms;
        let wait = |left_ms, inclusion| Closing { closed: false, left_ms, inclusion };
        let deadline_ms = match channel.state {
            ChannelState::Closed => return Ok(Closing { closed: true, left_ms: 0, inclusion: None }),
            ChannelState::Open => {
                let sent = self.send(RequestClose { terms }).await?;
                return Ok(wait(terms.grace_ms, Some(sent)));
            }
            ChannelState::Closing { deadline_ms } => deadline_ms,
        };
        // What its payee claimed without an approval has a time of its own, and is paid first.
        let pending = |lane: &Lane| lane.pending.as_ref().map(|pending| pending.deadline_ms);
        let last = lanes.iter().filter_map(pending).max();
        let until_ms = deadline_ms.max(last.unwrap_or_default());
        if until_ms > found.clock_ms {
            return Ok(wait(until_ms.saturating_sub(found.clock_ms), None));
        }
        if last.is_some() {
            let matured = lanes.iter().filter(|lane| lane.pending.is_some()).map(|lane| MaturedLane {
                lane: lane.lane,
                lines: lane.royalties.iter().map(|part| part.line).collect(),
            });
            self.send(Withdraw { terms, lanes: matured.collect() }).await?;
        }
        let lanes = channel.open_lanes().collect();
        let sent = self.send(CloseChannel { terms, lanes }).await?;
        Ok(Closing { closed: true, left_ms: 0, inclusion: Some(sent) })
    }
}
