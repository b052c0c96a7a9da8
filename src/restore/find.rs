//! What happened to a server, and which time to restore to undo it.

use serde::Serialize;

use crate::archive::{ArchiveView, Event, EventKind, Position};
use crate::model::Ulid;

/// Events that belong to one action of a person come this close together: tombstones of the log and of every block.
const ONE_ACTION_MS: i64 = 5_000;

/// Which events are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventFilter {
    /// Series that were deleted.
    Deletes,
    /// Starts of the server.
    Restarts,
    /// Repairs of the log, rewritten segments and gaps.
    Repairs,
    /// Blocks that went away, were replaced or could not be read.
    Blocks,
}

impl EventFilter {
    fn takes(self, kind: EventKind) -> bool {
        match self {
            Self::Deletes => kind == EventKind::Delete,
            Self::Restarts => kind == EventKind::Restart,
            Self::Repairs => matches!(kind, EventKind::Repair | EventKind::Rewritten | EventKind::Gap),
            Self::Blocks => {
                matches!(kind, EventKind::BlockGone | EventKind::BlockReplaced | EventKind::BlockUnreadable)
            }
        }
    }
}

/// An event with the time that is just before it.
#[derive(Debug, Clone, Serialize)]
pub struct FoundEvent {
    /// What happened.
    pub kind: EventKind,
    /// When.
    pub at_ms: i64,
    /// What to give to `--as-of` to come out just before it.
    pub as_of_ms: i64,
    /// What to give to `--timeline` as well: the clock was set back since, and that time was twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeline: Option<u32>,
    /// How far the log was written.
    pub position: Position,
    /// The block that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<Ulid>,
    /// For people.
    pub detail: String,
}

/// Lists events, the oldest first; all kinds where no filter is given.
#[must_use]
pub fn find_events(view: &ArchiveView, filters: &[EventFilter], since_ms: i64) -> Vec<FoundEvent> {
    let wanted = |event: &&Event| {
        event.at_ms >= since_ms
            && (filters.is_empty() || filters.iter().any(|filter| filter.takes(event.kind)))
    };
    let mut events: Vec<&Event> = view.events.iter().filter(wanted).collect();
    events.sort_by_key(|event| event.at_ms);
    let mut found: Vec<FoundEvent> = Vec::with_capacity(events.len());
    for event in events {
        // One delete leaves several traces: what undoes it lies before the first.
        let same = found.iter().rev().find(|before| before.kind == event.kind);
        let same = same.filter(|before| event.at_ms.saturating_sub(before.at_ms) <= ONE_ACTION_MS);
        let as_of_ms = same.map_or(event.at_ms.saturating_sub(1), |before| before.as_of_ms);
        found.push(FoundEvent {
            kind: event.kind,
            at_ms: event.at_ms,
            as_of_ms,
            timeline: Some(event.position.timeline).filter(|at| view.came_back_to(as_of_ms, *at)),
            position: event.position,
            block: event.block,
            detail: event.detail.clone(),
        });
    }
    found
}
