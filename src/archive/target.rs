//! From a time to a position: what the server knew at that time, and what has to be fetched for it.
//!
//! The log has no clock. Every piece has marks: at this look, the log was written so far. Between two looks the times
//! of the samples decide, as a scrape's samples carry the time at which it began.

use serde::Serialize;

use super::ArchiveError;
use super::chain::Archive;
use super::entry::{Base, EventKind, LogPosition, PieceEntry, Position};
use super::piece::{Mark, Piece, PieceRecord};
use super::view::{ArchiveView, MissingRecords, PieceCut, Timeline};
use crate::bucket::LogKind;
use crate::model::format_time_ms;
use crate::tsdb::wal::{RecordKind, summarize};

/// Looks further apart than this are no looks at all: nobody looked in between.
const LOOKS_APART_MS: i64 = 1_000;

/// What is to be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// What the server knew at this time: deletes after it are undone, late samples before it are there.
    AsOf(i64),
    /// The newest position, or that of a timeline, without samples after this time.
    Until(i64),
}

/// A target's position and what leads there.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The target.
    pub target: Target,
    /// Where the logs are cut.
    pub position: Position,
    /// When the last record before the cut was written, as exactly as is known.
    pub written_ms: i64,
    /// Blocks, tombstones and checkpoint.
    pub base: Base,
    /// The WAL after the checkpoint.
    pub wal: Vec<PieceCut>,
    /// The log of out-of-order samples.
    pub wbl: Vec<PieceCut>,
    /// What is missing, where the way there has a hole.
    pub missing: Vec<MissingRecords>,
}

impl Archive {
    /// Finds the position of a target. Reads at most two pieces, those that the target falls into.
    ///
    /// # Errors
    /// [`ArchiveError::OutsideWindow`] with the nearest time that can be restored, or a piece that cannot be read.
    pub async fn resolve(
        &self,
        view: &ArchiveView,
        target: Target,
        timeline: Option<u32>,
    ) -> Result<Resolved, ArchiveError> {
        let (position, written_ms) = match target {
            Target::AsOf(as_of_ms) => self.position_at(view, as_of_ms, timeline).await?,
            Target::Until(until_ms) => {
                check_begun(view, until_ms)?;
                newest_position(view, timeline)?
            }
        };
        resolve_at(view, target, position, written_ms)
    }

    async fn position_at(
        &self,
        view: &ArchiveView,
        as_of_ms: i64,
        timeline: Option<u32>,
    ) -> Result<(Position, i64), ArchiveError> {
        check_window(view, as_of_ms)?;
        let candidates = view.timelines.values().rev().filter(|t| timeline.is_none_or(|n| n == t.number));
        let begun: Vec<&Timeline> = candidates.filter(|t| began_ms(view, t) <= as_of_ms).collect();
        let newest = begun.first().map_or(u32::MAX, |newest| newest.number);
        let mut later = view.timelines.values().filter(|t| t.number > newest).find_map(|t| t.wal.first());
        for (i, live) in begun.iter().copied().enumerate() {
            let older = &begun[i + 1..];
            let wal = self.cut(live, LogKind::Wal, as_of_ms).await?;
            // A timeline without a record by then was not what the server went by: its parent knew more. One that has
            // not come that far is left for an older one that has: the clock was set back.
            let empty = wal.at.is_none() && live.fork.reason != super::ForkReason::Gap;
            let reaches = |timeline: &Timeline| timeline.last_made.wall_ms >= as_of_ms;
            let short = !reaches(live) && older.iter().any(|timeline| reaches(timeline));
            if !older.is_empty() && (empty || short) {
                later = wal.next.filter(|_| !short).or(later);
                continue;
            }
            check_gap(view, live, as_of_ms)?;
            let at_fork = live.fork.at.unwrap_or_default();
            let wbl = self.cut(live, LogKind::Wbl, as_of_ms).await?;
            let position = Position {
                timeline: live.number,
                wal: wal.at.unwrap_or(at_fork.wal),
                wbl: wbl.at.or(at_fork.wbl),
            };
            if let Some(next) = wal.next.or(later).filter(|_| wal.whole) {
                check_thinned(view, &position, next, as_of_ms)?;
            }
            return Ok((position, wal.written_ms.unwrap_or_else(|| began_ms(view, live))));
        }
        let nearest = timeline.and_then(|n| view.timelines.get(&n)).map_or(as_of_ms, |t| began_ms(view, t));
        Err(outside("that timeline had not begun", nearest))
    }

    /// Finds where one log of a timeline is cut.
    async fn cut<'a>(
        &self,
        timeline: &'a Timeline,
        log: LogKind,
        as_of_ms: i64,
    ) -> Result<Cut<'a>, ArchiveError> {
        let mut next = None;
        for piece in timeline.pieces(log).iter().rev() {
            if piece.seen.wall_ms <= as_of_ms {
                let (at, written_ms) = (Some(piece.end_position()), Some(piece.seen.wall_ms));
                return Ok(Cut { at, written_ms, whole: true, next });
            }
            // Without a look before it, the times of its samples say when it began.
            let first_ms = piece.sample_times_ms.map_or(i64::MIN, |(first_ms, _)| first_ms);
            if piece.looked_before_ms().unwrap_or(first_ms) <= as_of_ms {
                let cut = cut_in_piece(&self.read_piece(piece).await?, as_of_ms);
                if let Some((offset, written_ms)) = cut {
                    let at = Some(LogPosition { segment: piece.segment, offset });
                    return Ok(Cut { at, written_ms: Some(written_ms), whole: false, next });
                }
            }
            next = Some(piece);
        }
        Ok(Cut { at: None, written_ms: None, whole: true, next })
    }

    /// Reads a piece.
    ///
    /// # Errors
    /// As [`Archive::read`].
    pub async fn read_piece(&self, piece: &PieceEntry) -> Result<Piece, ArchiveError> {
        let key = piece.key(self.source());
        let bytes = self.read(&key, piece.stored_sha256).await?;
        Piece::decompress(&bytes, piece.plain_bytes)
            .map_err(|reason| ArchiveError::Damaged { key: key.to_string(), reason })
    }
}

/// Where one log of a timeline is cut for a time.
struct Cut<'a> {
    /// Nothing where all records of the timeline came later.
    at: Option<LogPosition>,
    /// When the record before was written.
    written_ms: Option<i64>,
    /// Whether no piece is cut in two.
    whole: bool,
    /// The first piece that is left out as a whole.
    next: Option<&'a PieceEntry>,
}

/// Returns where a piece is cut for a time and when the record before the cut was written; nothing where all its
/// records came later.
#[must_use]
pub fn cut_in_piece(piece: &Piece, as_of_ms: i64) -> Option<(u64, i64)> {
    let header = piece.header();
    let (mut marks, mut seen_before) = (header.marks.iter().copied().peekable(), header.after_ms);
    let (mut written_ms, mut cut) = (seen_before, None);
    let mut records = piece.records();
    while let Some(record) = records.next() {
        while let Some(Mark(_, wall_ms)) = marks.next_if(|Mark(end, _)| *end < record.end) {
            seen_before = wall_ms;
        }
        let seen = marks.peek().map_or(i64::MAX, |Mark(_, wall_ms)| *wall_ms);
        // The clock was set back: what was held against it before counts no more.
        if seen < seen_before {
            (seen_before, written_ms) = (seen, seen);
        }
        let Ok(summary) = summarize(record.data) else {
            cut = Some((record.end, written_ms));
            continue;
        };
        let looked = seen.saturating_sub(seen_before) <= LOOKS_APART_MS;
        let estimate = match (summary.kind, summary.times_ms) {
            (RecordKind::Tombstones, _) if looked => seen,
            // As late as can be: what was scraped next came after it.
            (RecordKind::Tombstones, _) => {
                next_sample_ms(records.clone()).unwrap_or(seen).clamp(seen_before, seen)
            }
            // Late samples do not tell when they came.
            _ if header.log == LogKind::Wbl && !looked => seen,
            // Series come right before their first samples: alone they say nothing of a time.
            (_, None) if cut.is_none() => continue,
            (_, Some((_, newest_ms))) => newest_ms.clamp(seen_before, seen),
            (_, None) => seen_before,
        };
        written_ms = written_ms.max(estimate);
        if written_ms <= as_of_ms {
            cut = Some((record.end, written_ms));
        }
    }
    cut
}

fn next_sample_ms<'a>(mut records: impl Iterator<Item = PieceRecord<'a>>) -> Option<i64> {
    records.find_map(|record| summarize(record.data).ok()?.times_ms.map(|(_, newest_ms)| newest_ms))
}

/// Returns what leads to a position.
///
/// # Errors
/// An archive without a base that leads there.
pub fn resolve_at(
    view: &ArchiveView,
    target: Target,
    position: Position,
    written_ms: i64,
) -> Result<Resolved, ArchiveError> {
    let mut first = None;
    for found in ways_to(view, target, position, written_ms) {
        if found.missing.is_empty() {
            return Ok(found);
        }
        first.get_or_insert(found);
    }
    first.ok_or_else(|| ArchiveError::Empty(view.source.clone()))
}

/// Returns every way to a position, one per base that leads there, the newest base first. Ways with holes are among
/// them: [`Resolved::missing`] says so.
pub fn ways_to(
    view: &ArchiveView,
    target: Target,
    position: Position,
    written_ms: i64,
) -> impl Iterator<Item = Resolved> + '_ {
    let knows = move |base: &&Base| match target {
        Target::AsOf(as_of_ms) => {
            base.changed_ms <= as_of_ms || view.clock_set_between(base.position.timeline, position.timeline)
        }
        Target::Until(_) => true,
    };
    let leads =
        move |base: &&Base| view.is_before(&Position { wal: base_needs(base), ..base.position }, &position);
    view.bases.iter().rev().filter(knows).filter(leads).map(move |base| {
        let first_segment = base.checkpoint.as_ref().map_or(base.first_segment, |c| c.number + 1);
        let wal = view.pieces_to(LogKind::Wal, first_segment, &position);
        let wbl = view.pieces_to(LogKind::Wbl, base.wbl_first_segment.unwrap_or(0), &position);
        let missing: Vec<MissingRecords> =
            [wal.as_ref().err(), wbl.as_ref().err()].into_iter().flatten().copied().collect();
        let (wal, wbl) = (wal.unwrap_or_default(), wbl.unwrap_or_default());
        Resolved { target, position, written_ms, base: base.clone(), wal, wbl, missing }
    })
}

/// Returns the place that a target must have passed for a base to be of use: the beginning of the log after its
/// checkpoint. The base itself may have been seen a little later than the target.
fn base_needs(base: &Base) -> LogPosition {
    let segment = base.checkpoint.as_ref().map_or(base.first_segment, |c| c.number + 1);
    LogPosition { segment, offset: 0 }.min(base.position.wal)
}

fn newest_position(view: &ArchiveView, timeline: Option<u32>) -> Result<(Position, i64), ArchiveError> {
    let found = match timeline {
        Some(number) => view.timelines.get(&number),
        None => view.newest_timeline(),
    };
    let known: Vec<String> = view.timelines.keys().map(u32::to_string).collect();
    let found = found.ok_or_else(|| {
        ArchiveError::Invalid(format!("--timeline: there is no such timeline, only {}", known.join(", ")))
    })?;
    Ok((found.end, found.last_made.wall_ms))
}

/// Returns a time from which on a timeline may have records: not before its parent was last seen to go on.
fn began_ms(view: &ArchiveView, timeline: &Timeline) -> i64 {
    let noticed_ms = timeline.fork.noticed.wall_ms;
    if timeline.fork.reason == super::ForkReason::ClockStep {
        return noticed_ms;
    }
    let Some(parent) = timeline.fork.parent.and_then(|number| view.timelines.get(&number)) else {
        return timeline.wal.first().map_or(noticed_ms, |piece| noticed_ms.min(piece.seen.wall_ms));
    };
    if timeline.fork.reason == super::ForkReason::Gap {
        let first = timeline.wal.first();
        let after_ms = first.map(|piece| piece.after_ms).filter(|after_ms| *after_ms > 0);
        return after_ms.or(first.map(|piece| piece.seen.wall_ms.min(noticed_ms))).unwrap_or(noticed_ms);
    }
    parent.wal.last().map_or(noticed_ms, |piece| piece.seen.wall_ms.min(noticed_ms))
}

impl ArchiveView {
    /// Returns the first and the last time that `--as-of` takes.
    #[must_use]
    pub fn window_ms(&self) -> Option<(i64, i64)> {
        let first = self.bases.iter().map(|base| base.seen.wall_ms).min()?;
        let set = self.clock_set().filter(|set| self.bases[0].position.timeline < set.number);
        let first = set.map(|set| set.fork.noticed.wall_ms).fold(first, i64::min);
        let last = self.timelines.values().map(|timeline| timeline.last_made.wall_ms).max();
        Some((first, last.map_or(first, |last| last.max(first))))
    }

    /// Returns the other timeline on which a time was as well, because the clock was set back: the one left before a
    /// timeline's beginning.
    #[must_use]
    pub fn also_on(&self, as_of_ms: i64, timeline: u32) -> Option<u32> {
        let set =
            self.clock_set().filter(|set| set.number <= timeline && set.fork.noticed.wall_ms <= as_of_ms);
        let mut parents = set.filter_map(|set| self.timelines.get(&set.fork.parent?));
        parents.find(|parent| parent.last_made.wall_ms >= as_of_ms).map(|parent| parent.number)
    }

    /// Returns whether a time that was on a timeline came again on a later one, because the clock was set back.
    #[must_use]
    pub fn came_back_to(&self, as_of_ms: i64, timeline: u32) -> bool {
        self.clock_set().any(|later| later.number > timeline && later.fork.noticed.wall_ms <= as_of_ms)
    }

    /// Returns by how much the clock was set at most, forward or back, close enough to a range of time to matter.
    pub(super) fn clock_set_by_ms(&self, (from_ms, to_ms): (i64, i64)) -> i64 {
        let steps = self.clock_set().filter_map(|set| {
            let before_ms = self.timelines.get(&set.fork.parent?)?.last_made.wall_ms;
            let (low, high) =
                (set.fork.noticed.wall_ms.min(before_ms), set.fork.noticed.wall_ms.max(before_ms));
            let step_ms = high - low;
            let near = high >= from_ms.saturating_sub(step_ms) && low <= to_ms.saturating_add(step_ms);
            near.then_some(step_ms)
        });
        steps.max().unwrap_or(0)
    }

    fn clock_set_between(&self, older: u32, newer: u32) -> bool {
        self.clock_set().any(|set| older < set.number && set.number <= newer)
    }

    fn clock_set(&self) -> impl Iterator<Item = &Timeline> {
        self.timelines.values().filter(|timeline| timeline.fork.reason == super::ForkReason::ClockStep)
    }
}

fn check_window(view: &ArchiveView, as_of_ms: i64) -> Result<(), ArchiveError> {
    let (first, last) = view.window_ms().ok_or_else(|| ArchiveError::Empty(view.source.clone()))?;
    if as_of_ms < first {
        return Err(outside("the archive begins later", first));
    }
    if as_of_ms > last {
        return Err(outside("the archive does not reach that far yet", last));
    }
    Ok(())
}

/// Refuses a time before all samples.
fn check_begun(view: &ArchiveView, until_ms: i64) -> Result<(), ArchiveError> {
    let blocks = view.bases.iter().flat_map(|base| &base.blocks).map(|block| block.min_time_ms);
    let pieces = view.timelines.values().flat_map(|timeline| timeline.wal.iter().chain(&timeline.wbl));
    let pieces = pieces.filter_map(|piece| piece.sample_times_ms).map(|(first_ms, _)| first_ms);
    match blocks.chain(pieces).min() {
        Some(first_ms) if until_ms < first_ms => Err(outside("all samples are later", first_ms)),
        _ => Ok(()),
    }
}

/// Refuses a time at which the archive was blind: between a timeline's end and the next one that begins with a gap.
fn check_gap(view: &ArchiveView, live: &Timeline, as_of_ms: i64) -> Result<(), ArchiveError> {
    let next = view.timelines.values().find(|t| t.number > live.number);
    let Some(next) = next.filter(|t| t.fork.reason == super::ForkReason::Gap) else { return Ok(()) };
    // An archiver's start may have made an entry on this timeline before it found that records are gone.
    let noticed =
        view.events.iter().rfind(|e| e.kind == EventKind::Gap && e.position.timeline == live.number);
    let seen_ms = noticed.map_or(i64::MAX, |event| event.at_ms).min(live.last_made.wall_ms);
    if as_of_ms <= seen_ms {
        return Ok(());
    }
    let (before, after) = (seen_ms, began_ms(view, next));
    let nearest = if as_of_ms - before <= after - as_of_ms { before } else { after };
    Err(outside("records of that time are missing (a gap); --until can still use the blocks", nearest))
}

/// Refuses a time between two restore points that retention left: what came after the first of them is gone.
fn check_thinned(
    view: &ArchiveView,
    position: &Position,
    next: &PieceEntry,
    as_of_ms: i64,
) -> Result<(), ArchiveError> {
    if next.follows <= position.wal || view.clock_set_between(position.timeline, next.timeline) {
        return Ok(());
    }
    let holes = view.holes(LogKind::Wal);
    match holes.iter().find(|hole| hole.piece.id == next.id) {
        Some(hole) if as_of_ms > hole.from_ms => {
            let to_ms = hole.to_ms.max(hole.piece.sample_times_ms.map_or(i64::MIN, |(first_ms, _)| first_ms));
            let nearest = if as_of_ms - hole.from_ms <= to_ms - as_of_ms { hole.from_ms } else { to_ms };
            Err(outside(
                "retention kept only restore points of that time; --until can still use the blocks",
                nearest,
            ))
        }
        _ => Ok(()),
    }
}

fn outside(reason: &str, nearest_ms: i64) -> ArchiveError {
    ArchiveError::OutsideWindow { reason: reason.to_owned(), nearest: format_time_ms(nearest_ms) }
}
