//! A channel on the ledger, as the two roles of `gristmill-channel` see it.

use crate::client::ChannelRecords;
use gristmill_channel::{LedgerView, Phase};
use gristmill_ledger::record::ChannelState;

/// What the ledger says about a channel, for payer and payee.
pub fn ledger_view(records: &ChannelRecords) -> LedgerView {
    let channel = &records.channel;
    LedgerView {
        deposit: channel.deposit,
        settled: channel.settled,
        // A closed channel has no lanes any more: all of them are retired.
        floor: if channel.state == ChannelState::Closed { u32::MAX } else { channel.lane_floor },
        phase: match channel.state {
            ChannelState::Open => Phase::Open,
            ChannelState::Closing { deadline_ms } => Phase::Closing { deadline_ms },
            ChannelState::Closed => Phase::Closed,
        },
        lanes: records.lanes.iter().map(|lane| (lane.lane, lane.paid)).collect(),
    }
}
