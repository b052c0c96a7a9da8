//! Retention: which moments stay restorable, and what they need. Pure planning; [`super::collect`] acts on it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike};
use serde::{Deserialize, Serialize};

use super::ArchiveError;
use super::Sha256Hash;
use super::chain::Link;
use super::entry::{Base, Chapter, ENTRY_FORMAT, Entry};
use super::hold::{Held, Hold};
use super::roll_up::{entries_of, made, made_ms, says_something};
use super::view::ArchiveView;
use crate::bucket::LogKind;
use crate::model::Ulid;

/// A day.
const DAY_MS: i64 = 86_400_000;

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionPolicy {
    /// Every second of so many milliseconds before the newest entry.
    pub window_ms: i64,
    /// The newest restore point of each of so many hours before the window.
    pub hourly: u32,
    /// Of so many days.
    pub daily: u32,
    /// Of so many weeks, which begin on Monday.
    pub weekly: u32,
    /// Of so many months.
    pub monthly: u32,
    /// Of so many years.
    pub yearly: u32,
}

impl Default for RetentionPolicy {
    fn default() -> Self {
        Self { window_ms: 7 * DAY_MS, hourly: 48, daily: 35, weekly: 12, monthly: 24, yearly: 0 }
    }
}

impl RetentionPolicy {
    /// Refuses a policy that keeps nothing.
    ///
    /// # Errors
    /// A window that is not positive.
    pub fn check(&self) -> Result<(), ArchiveError> {
        if self.window_ms <= 0 {
            let message =
                "the window has to be longer than 0: a policy without a window would delete the archive";
            return Err(ArchiveError::Invalid(message.to_owned()));
        }
        Ok(())
    }
}

/// A moment that stays restorable beyond the window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestorePoint {
    /// Its time.
    pub at_ms: i64,
    /// What keeps it: `hourly`, `daily`, …
    pub kept_by: Vec<&'static str>,
}

/// What a retention run would do.
#[derive(Debug, Clone)]
pub struct RetentionPlan {
    /// Every second from here on is restorable.
    pub window_start_ms: i64,
    /// Restore points before that.
    pub points: Vec<RestorePoint>,
    /// Bases that go.
    pub dropped_bases: usize,
    /// Pieces that go, and the size of their objects.
    pub dropped_pieces: (usize, u64),
    /// What takes the place of the entries before the window; nothing where there is nothing to drop.
    pub chapter: Option<Chapter>,
}

/// What has to stay.
#[derive(Debug, Default)]
struct Kept {
    pieces: BTreeSet<Ulid>,
    /// Bases by number of their place in the view.
    bases: BTreeSet<usize>,
}

impl Kept {
    fn base(&mut self, view: &ArchiveView, index: usize) {
        let Some(base) = view.bases.get(index) else { return };
        if !self.bases.insert(index) {
            return;
        }
        let position = view.settled(&base.position);
        for (log, first_segment) in needs_of(base) {
            // A base whose log has a hole is kept with what there is of it.
            let cuts = view.pieces_to(log, first_segment, &position).unwrap_or_default();
            self.pieces.extend(cuts.iter().map(|cut| cut.piece.id));
            // Also where the server has dropped all of the log, its last piece tells where that ended, and when.
            let pieces = view.timelines.get(&position.timeline).map_or(&[][..], |t| t.pieces(log));
            let last = pieces.iter().find(|piece| Some(piece.end_position()) == position.of(log));
            self.pieces.extend(last.map(|piece| piece.id));
        }
    }

    /// Keeps every second of a range, and the two bases before it: the newest may have been seen a little late. Where the
    /// clock was set, the range is wider by as much.
    fn range(&mut self, view: &ArchiveView, (from_ms, to_ms): (i64, i64)) {
        let step_ms = view.clock_set_by_ms((from_ms, to_ms));
        let (from_ms, to_ms) = (from_ms.saturating_sub(step_ms), to_ms.saturating_add(step_ms));
        let before = view.bases.iter().enumerate().rev().filter(|(_, base)| base.seen.wall_ms <= from_ms);
        let before: Vec<usize> = before.map(|(i, _)| i).take(2).collect();
        let since_ms = before.last().map_or(from_ms, |i| view.bases[*i].seen.wall_ms).min(from_ms);
        before.into_iter().for_each(|i| self.base(view, i));
        for (i, base) in view.bases.iter().enumerate() {
            if (since_ms..=to_ms).contains(&base.seen.wall_ms) {
                self.base(view, i);
            }
        }
        for log in [LogKind::Wal, LogKind::Wbl] {
            let pieces = view.timelines.values().flat_map(|timeline| timeline.pieces(log));
            let mut pieces = pieces.filter(|piece| piece.seen.wall_ms >= since_ms).peekable();
            while let Some(piece) = pieces.next_if(|piece| piece.after_ms <= to_ms) {
                self.pieces.insert(piece.id);
            }
            // The next one tells that nothing came in between.
            self.pieces.extend(pieces.next().map(|piece| piece.id));
        }
    }
}

/// Returns the logs that a base needs, each from its first segment on.
fn needs_of(base: &Base) -> [(LogKind, u32); 2] {
    let wal = base.checkpoint.as_ref().map_or(base.first_segment, |c| c.number + 1);
    [(LogKind::Wal, wal), (LogKind::Wbl, base.wbl_first_segment.unwrap_or(0))]
}

/// Plans what is kept and what goes. The window is counted back from the newest entry, or from now where that is
/// earlier: an archiver that was away for longer than the window loses nothing by it.
///
/// # Errors
/// A policy that keeps nothing, or an archive whose remaining entries would not lead to what is kept.
pub fn plan_retention(
    links: &[Link],
    view: &ArchiveView,
    holds: &[Hold],
    policy: &RetentionPolicy,
    (id, now_ms): (Ulid, i64),
) -> Result<RetentionPlan, ArchiveError> {
    policy.check()?;
    let newest_ms = view.last_made.wall_ms.min(now_ms);
    let window_start_ms = newest_ms.saturating_sub(policy.window_ms);
    let prefix = links.len().saturating_sub(1);
    let prefix = links[..prefix].partition_point(|link| made_ms(link).1 < window_start_ms);
    let mut kept = Kept::default();
    kept.range(view, (window_start_ms.min(earliest_ms(&links[prefix..])), i64::MAX));
    let points = restore_points(view, policy, window_start_ms);
    for (index, _) in &points {
        kept.base(view, *index);
    }
    for hold in holds {
        if let Held::Range { from_ms, to_ms } = hold.what {
            kept.range(view, (from_ms, to_ms));
        }
    }
    let (chapter, dropped_bases, dropped_pieces) = condense(&links[..prefix], view, &kept, id);
    let points = points.into_iter().map(|(_, point)| point).collect();
    let plan = RetentionPlan { window_start_ms, points, dropped_bases, dropped_pieces, chapter };
    check_plan(&plan, links, prefix, view, &kept)?;
    Ok(plan)
}

/// Returns the time of the first thing that entries tell of. They stay as they are, and what they tell of may have been
/// seen long before they were made, as the store was away: all of it stays restorable.
fn earliest_ms(links: &[Link]) -> i64 {
    let entries = entries_of(links);
    let bases = entries.iter().filter_map(|entry| entry.base.as_ref()).map(|base| base.seen.wall_ms);
    let pieces = entries.iter().flat_map(|entry| &entry.pieces).map(|piece| piece.seen.wall_ms);
    bases.chain(pieces).min().unwrap_or(i64::MAX)
}

/// Returns the bases before the window that the policy keeps, with their place in the view.
fn restore_points(
    view: &ArchiveView,
    policy: &RetentionPolicy,
    window_start_ms: i64,
) -> Vec<(usize, RestorePoint)> {
    type Period = fn(DateTime<chrono::Utc>) -> i64;
    let tiers: [(&'static str, u32, Period); 5] = [
        ("hourly", policy.hourly, |t| t.timestamp().div_euclid(3_600)),
        ("daily", policy.daily, |t| i64::from(t.num_days_from_ce())),
        ("weekly", policy.weekly, |t| i64::from(t.num_days_from_ce() - 1).div_euclid(7)),
        ("monthly", policy.monthly, |t| i64::from(t.year()) * 12 + i64::from(t.month0())),
        ("yearly", policy.yearly, |t| i64::from(t.year())),
    ];
    let mut points: BTreeMap<usize, RestorePoint> = BTreeMap::new();
    for (name, count, period) in tiers {
        let mut periods = BTreeSet::new();
        for (index, base) in view.bases.iter().enumerate().rev() {
            let at_ms = base.seen.wall_ms;
            if at_ms >= window_start_ms {
                continue;
            }
            let Some(time) = DateTime::from_timestamp_millis(at_ms) else { continue };
            if periods.len() >= count as usize && !periods.contains(&period(time)) {
                break;
            }
            if periods.insert(period(time)) {
                let point = points.entry(index);
                point.or_insert(RestorePoint { at_ms, kept_by: Vec::new() }).kept_by.push(name);
            }
        }
    }
    points.into_iter().collect()
}

/// Copies the entries before the window without what is not kept.
fn condense(
    run: &[Link],
    view: &ArchiveView,
    kept: &Kept,
    id: Ulid,
) -> (Option<Chapter>, usize, (usize, u64)) {
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return (None, 0, (0, 0)) };
    let (mut bases, mut pieces, mut bytes, mut next_base) = (0, 0, 0, 0);
    let end = last.end();
    let mut entries: Vec<Entry> = entries_of(run);
    for entry in &mut entries {
        if entry.base.is_some() {
            if !kept.bases.contains(&next_base) {
                entry.base = None;
                bases += 1;
            }
            next_base += 1;
        }
        // What follows may go: what the base needs must not be told by it any more.
        if let Some(base) = &mut entry.base {
            base.position = view.settled(&base.position);
        }
        let before = entry.pieces.len();
        bytes +=
            entry.pieces.iter().filter(|p| !kept.pieces.contains(&p.id)).map(|p| p.stored_bytes).sum::<u64>();
        entry.pieces.retain(|piece| kept.pieces.contains(&piece.id));
        pieces += before - entry.pieces.len();
        let first_base_ms = kept.bases.first().map_or(i64::MAX, |i| view.bases[*i].seen.wall_ms);
        entry.digests.retain(|digest| digest.max_time_ms >= first_base_ms);
    }
    if bases == 0 && pieces == 0 {
        return (None, 0, (0, 0));
    }
    entries.retain(|entry| says_something(entry) || entry.seq == end.seq);
    let chapter = Chapter {
        format: ENTRY_FORMAT,
        source: view.source.clone(),
        first_seq: first.begin().0,
        last_seq: end.seq,
        previous_sha256: first.begin().1,
        last_sha256: end.sha256.unwrap_or_else(|| Sha256Hash::of(&[])),
        id,
        made: (made(first).0, made(last).1),
        entries,
    };
    (Some(chapter), bases, (pieces, bytes))
}

/// Folds what the catalog would be and makes sure that everything kept can still be reached: the last line before
/// anything is deleted.
fn check_plan(
    plan: &RetentionPlan,
    links: &[Link],
    prefix: usize,
    view: &ArchiveView,
    kept: &Kept,
) -> Result<(), ArchiveError> {
    let Some(chapter) = &plan.chapter else { return Ok(()) };
    let mut after = vec![Link::Chapter(Box::new(chapter.clone()))];
    after.extend_from_slice(&links[prefix..]);
    let after = ArchiveView::fold(view.source.clone(), after)?;
    let refuse = |what: String| {
        Err(ArchiveError::Invalid(format!(
            "the plan would cut into what is kept ({what}); nothing was changed, report this"
        )))
    };
    for index in &kept.bases {
        let base = &view.bases[*index];
        let position = view.settled(&base.position);
        let settled = Base { position, ..base.clone() };
        if !after.bases.contains(base) && !after.bases.contains(&settled) {
            return refuse(format!("the base of {}", crate::model::format_time_ms(base.seen.wall_ms)));
        }
        for (log, first_segment) in needs_of(base) {
            let before = view.pieces_to(log, first_segment, &position);
            if before.is_ok() && before != after.pieces_to(log, first_segment, &position) {
                return refuse(format!("the log to {}", base.position.wal));
            }
        }
    }
    Ok(())
}
