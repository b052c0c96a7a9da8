//! Does the log go on without a hole from every base?
//!
//! Retention leaves holes on purpose: between the restore points before the window. It always writes what is left of the
//! oldest entries into one chapter, so holes are allowed in the first link only.

use std::collections::BTreeSet;

use super::VerifyReport;
use crate::archive::roll_up::{entries_of, made_ms};
use crate::archive::{ArchiveView, Base, Link, Timeline};
use crate::bucket::{LogKind, ObjectKey};
use crate::model::{Ulid, format_time_ms};

/// Checks every base and every timeline.
pub(super) fn check(view: &ArchiveView, links: &[Link], window_ms: Option<i64>, report: &mut VerifyReport) {
    let thinned: BTreeSet<Ulid> = match links.first() {
        Some(link @ Link::Chapter(_)) => {
            entries_of(std::slice::from_ref(link)).into_iter().flat_map(|e| e.pieces).map(|p| p.id).collect()
        }
        _ => BTreeSet::new(),
    };
    let thinned_to_ms =
        links.first().filter(|_| !thinned.is_empty()).map_or(i64::MIN, |link| made_ms(link).1);
    for base in &view.bases {
        check_base(view, base, report);
    }
    for log in [LogKind::Wal, LogKind::Wbl] {
        for hole in view.holes(log).into_iter().filter(|hole| !thinned.contains(&hole.piece.id)) {
            let what =
                format!("records before it are missing: those after {} of the {}", hole.after, name(log));
            report.add(hole.piece.key(&view.source), what);
        }
    }
    for timeline in view.timelines.values() {
        check_end(view, timeline, thinned_to_ms, report);
    }
    report.newest_ms = Some(view.last_made.wall_ms);
    report.continuous_since_ms = view.continuous_since_ms();
    let since_ms = report.continuous_since_ms.unwrap_or(i64::MIN);
    let due_ms = window_ms.map(|window_ms| view.last_made.wall_ms.saturating_sub(window_ms));
    if let Some(due_ms) = due_ms.filter(|due_ms| since_ms > *due_ms && began_before(view, *due_ms)) {
        let what = format!(
            "not every second since {} can be restored, as the window asks for, only since {}",
            format_time_ms(due_ms),
            format_time_ms(since_ms)
        );
        report.add(catalog_of(view), what);
    }
}

/// An archive that is younger than its window is not expected to fill it.
fn began_before(view: &ArchiveView, due_ms: i64) -> bool {
    view.timelines.values().next().is_some_and(|first| first.fork.noticed.wall_ms <= due_ms)
}

fn check_base(view: &ArchiveView, base: &Base, report: &mut VerifyReport) {
    let wal = base.checkpoint.as_ref().map_or(base.first_segment, |c| c.number.saturating_add(1));
    for (log, first) in [(LogKind::Wal, wal), (LogKind::Wbl, base.wbl_first_segment.unwrap_or(0))] {
        if let Err(missing) = view.pieces_to(log, first, &view.settled(&base.position)) {
            let at = format_time_ms(base.seen.wall_ms);
            let what = format!(
                "the base of {at} cannot be restored: records after {} of the {} are missing",
                missing.after,
                name(log)
            );
            report.add(catalog_of(view), what);
        }
    }
}

/// The end of a timeline must be reachable from its newest base: with no hole in between, so is all before it.
fn check_end(view: &ArchiveView, timeline: &Timeline, thinned_to_ms: i64, report: &mut VerifyReport) {
    if timeline.last_made.wall_ms <= thinned_to_ms {
        return;
    }
    let target = crate::archive::Target::Until(i64::MAX);
    let Ok(found) = crate::archive::resolve_at(view, target, timeline.end, timeline.last_made.wall_ms) else {
        // A timeline that ended before its first upload was done has nothing to restore from.
        return;
    };
    for missing in found.missing {
        let what = format!(
            "the end of timeline {} cannot be restored: records after {} of the {} are missing",
            timeline.number,
            missing.after,
            name(missing.log)
        );
        report.add(catalog_of(view), what);
    }
}

fn catalog_of(view: &ArchiveView) -> String {
    format!("{}/catalog", ObjectKey::archive_folder(&view.source))
}

fn name(log: LogKind) -> &'static str {
    match log {
        LogKind::Wal => "WAL",
        LogKind::Wbl => "log of out-of-order samples",
    }
}
