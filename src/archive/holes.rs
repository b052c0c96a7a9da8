//! Where records are missing between those that are kept: after a gap, and between restore points that retention left.

use super::entry::{ForkReason, LogPosition, PieceEntry, Position};
use super::view::{ArchiveView, Timeline};
use crate::bucket::LogKind;

/// Records that are missing before a piece.
#[derive(Debug, Clone, Copy)]
pub struct Hole<'a> {
    /// The log.
    pub log: LogKind,
    /// The first piece after it.
    pub piece: &'a PieceEntry,
    /// The end of what is kept before it.
    pub after: LogPosition,
    /// The last time before it that restores.
    pub from_ms: i64,
    /// The first time after it that restores, but for the base that may be missing then.
    pub to_ms: i64,
}

impl ArchiveView {
    /// Returns the holes of a log, the oldest first.
    #[must_use]
    pub fn holes(&self, log: LogKind) -> Vec<Hole<'_>> {
        self.timelines.values().flat_map(|timeline| self.holes_of(timeline, log)).collect()
    }

    /// Returns since when every second can be restored.
    #[must_use]
    pub fn continuous_since_ms(&self) -> Option<i64> {
        let (first, _) = self.window_ms()?;
        let holes = [LogKind::Wal, LogKind::Wbl].into_iter().flat_map(|log| self.holes(log));
        Some(holes.map(|hole| hole.piece.seen.wall_ms).fold(first, i64::max))
    }

    fn holes_of(&self, timeline: &Timeline, log: LogKind) -> Vec<Hole<'_>> {
        // The first piece of an archive, and the first one after a gap, follow nothing.
        let begins_anew = matches!(timeline.fork.reason, ForkReason::Start | ForkReason::Gap);
        let mut before = if begins_anew { None } else { self.before(timeline, log, None) };
        let mut holes = Vec::new();
        for piece in self.timelines.get(&timeline.number).into_iter().flat_map(|own| own.pieces(log)) {
            let follows = (piece.end_position(), piece.seen.wall_ms);
            if let Some((after, seen_ms)) =
                before.replace(follows).filter(|(after, _)| piece.follows != *after)
            {
                let at_bases = |at| self.seen_at(timeline.number, at, log);
                let from_ms = at_bases(after).max().unwrap_or(seen_ms).max(seen_ms);
                let to_ms = at_bases(piece.follows).min().unwrap_or(i64::MAX).min(began_ms(piece));
                holes.push(Hole { log, piece, after, from_ms, to_ms });
            }
        }
        holes
    }

    /// Returns where what is kept before a timeline ends, and when that was last seen. Where a successor left the
    /// timeline before that place, it ends there.
    fn before(
        &self,
        timeline: &Timeline,
        log: LogKind,
        left: Option<LogPosition>,
    ) -> Option<(LogPosition, i64)> {
        let fork = timeline.fork.at.and_then(|at| at.of(log))?;
        let fork = left.map_or(fork, |left| fork.min(left));
        let parent = timeline.fork.parent.and_then(|parent| self.timelines.get(&parent))?;
        let last = parent.pieces(log).iter().rfind(|piece| piece.start_position() < fork);
        let noticed_ms = timeline.fork.noticed.wall_ms;
        match last {
            Some(last) => Some((last.end_position().min(fork), last.seen.wall_ms.min(noticed_ms))),
            None => self.before(parent, log, Some(fork)),
        }
    }

    /// Returns when bases saw the log end at a place.
    fn seen_at(&self, timeline: u32, at: LogPosition, log: LogKind) -> impl Iterator<Item = i64> + '_ {
        let there = move |position: &Position| self.settled(position).of(log) == Some(at);
        let before = self.bases.iter().filter(move |base| base.position.timeline <= timeline);
        before.filter(move |base| there(&base.position)).map(|base| base.seen.wall_ms)
    }
}

/// Returns since when a piece can be cut.
fn began_ms(piece: &PieceEntry) -> i64 {
    let first_ms = piece.sample_times_ms.map_or(piece.seen.wall_ms, |(first_ms, _)| first_ms);
    piece.looked_before_ms().unwrap_or(first_ms.min(piece.seen.wall_ms))
}
