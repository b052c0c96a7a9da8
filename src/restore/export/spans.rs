//! How time is divided: blocks lie in aligned slots, and the slots that share a stored row are written together.

use crate::model::TimeRange;

/// Slots whose blocks are written in one pass over the series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    /// The time that is read.
    pub(super) range: TimeRange,
    /// The slots, oldest first; together they cover the range.
    pub(super) slots: Vec<TimeRange>,
}

/// Divides a range into slots of `block_ms`, aligned to the epoch, and cuts those at the ends. Slots that no part
/// of `data` touches are left out.
///
/// A row of our blocks holds a series for [`crate::model::RAW_WINDOW_MS`], and reading any of it decodes all of it. So
/// slots that begin in the time of the same row stand in one span.
pub(super) fn plan_spans(range: TimeRange, block_ms: i64, data: &[TimeRange]) -> Vec<Span> {
    let first_ms = data.iter().map(|d| d.start_ms).min().unwrap_or(0).max(range.start_ms);
    let last_ms = data.iter().map(|d| d.end_ms).max().unwrap_or(0).min(range.end_ms);
    let mut spans: Vec<Span> = Vec::new();
    let mut start_ms = first_ms;
    while start_ms < last_ms {
        let aligned_ms = start_ms.saturating_sub(start_ms.rem_euclid(block_ms));
        let end_ms = aligned_ms.saturating_add(block_ms).min(last_ms);
        let slot = TimeRange { start_ms, end_ms };
        if !data.iter().any(|d| d.overlaps(&slot)) {
            // On to the next data at once: years may lie between.
            let later = data.iter().map(|d| d.start_ms).filter(|start| *start >= end_ms).min();
            start_ms = later.unwrap_or(last_ms).max(end_ms);
            continue;
        }
        let row = TimeRange::raw_window(start_ms);
        match spans.last_mut() {
            Some(span) if row.contains(span.range.start_ms) => {
                span.range.end_ms = end_ms;
                span.slots.push(slot);
            }
            _ => spans.push(Span { range: slot, slots: vec![slot] }),
        }
        start_ms = end_ms;
    }
    spans
}
