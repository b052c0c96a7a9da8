//! Two replicas of one Prometheus: the holes of one are filled from the archive of the other.
//!
//! Vocabulary: the *first* archive is the one that is restored, the *other* one fills. They are *tied* by their servers'
//! external labels, which are equal but for the *replica label*. A *hole* is a time in which a series of the first has
//! no sample for more than two of its intervals.
//!
//! Flow
//! 1. Both archives are restored to the same moment (the other to its end, where that is earlier), side by side: the first with its head as blocks and the last
//!    seconds as a log, the other as blocks only.
//! 2. Series by series the times of the first are compared with the other's samples ([`holes::fill`]).
//! 3. What fills a hole goes into further blocks, one per aligned range, with the hint `from-out-of-order`: they do not
//!    move the server's replay, and its next compaction merges them.
//! 4. The blocks join the first directory, which appears in its place by a rename.
//!
//! **Invariants**
//! - A filling sample keeps half an interval from the samples around its hole: no time is doubled and no interval looks
//!   halved by the replicas' different offsets.
//! - Nothing of the first is changed or left out.
//! - The filling blocks' ids follow from what is restored: again the same directory comes out.
//!
//! **Crash consistency** Everything lies in `<to>.merge/` until the last rename: each restore goes on where it stopped,
//! the filling is made anew unless it was complete. What each half lacks is kept beside it, and `report.json` tells of a
//! merge that was killed after its rename.
//!
//! What it does not do: fill exemplars or metadata, which no block of Prometheus holds; choose between two values for one time.

mod blocks;
mod holes;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::context::RestoreContext;
use super::error::RestoreError;
use super::finish::{FORMAT, Finished, check_format, first_format, remove_finished};
use super::plan::{plan, target_text};
use super::request::{HeadMode, RestoreRequest};
use super::run::{RestoreReport, complete_interrupted, run};
use super::workplace::{
    beside, check_place, make_dir, parent_of, refuse_link, remove_all, sync_dir, write_file,
};
use crate::archive::{ArchiveView, EventKind, Target};
use crate::model::{SourceName, format_time_ms};
use crate::runtime::crash_point;

use blocks::{Filled, fill_blocks};

/// An archiver of a quiet server makes an entry every ten seconds: one that was silent for so long has ended.
const ENDED_MS: i64 = 60_000;

/// Two archives, one moment.
#[derive(Debug)]
pub struct MergeRequest {
    /// What is restored of the first.
    pub request: RestoreRequest,
    /// The external label in which the two servers differ.
    pub replica_label: String,
}

/// One of the two archives.
#[derive(Debug)]
pub struct Replica<'a> {
    /// Where from.
    pub context: &'a RestoreContext,
    /// Its catalog.
    pub view: &'a ArchiveView,
}

/// What a merge has done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MergeReport {
    /// The data directory.
    pub to: PathBuf,
    /// The restore of the first.
    pub restored: RestoreReport,
    /// The source that filled.
    pub other: SourceName,
    /// Series with holes that were filled.
    pub filled_series: u64,
    /// Samples that filled them.
    pub filled_samples: u64,
    /// Blocks that hold those.
    pub filled_blocks: usize,
    /// What is missing in either archive; nothing for a complete restore.
    pub missing: Vec<String>,
    /// What to look out for.
    pub warnings: Vec<String>,
    /// Whether an earlier call had completed it and was killed right after that.
    #[serde(default)]
    pub was_complete: bool,
}

/// Restores the first archive and fills its holes from the other.
///
/// # Errors
/// Archives that are not tied, a target that is in use, or what keeps either from being restored.
pub async fn merge_replicas(
    first: Replica<'_>,
    other: Replica<'_>,
    merge: MergeRequest,
) -> Result<MergeReport, RestoreError> {
    let MergeRequest { request, replica_label } = merge;
    let (Target::AsOf(at_ms) | Target::Until(at_ms)) = request.target;
    check_tied(first.view, other.view, &replica_label, at_ms)?;
    if request.delta {
        let message = "--merge-replicas makes a fresh directory: leave --delta out and give another --to";
        return Err(RestoreError::Invalid(message.to_owned()));
    }
    let work = beside(&request.to, ".merge")?;
    refuse_link(&work)?;
    let asked = Subject::of(&first, &other, &request, at_ms);
    if let Some(done) = Finished::<Subject, MergeReport>::read(&work)?.filter(|done| done.is(&request.to)) {
        remove_finished(&work)?;
        if done.subject.is_asked(&asked, request.target_moves) {
            return Ok(MergeReport { was_complete: true, ..done.report });
        }
    }
    check_place(&request.to, false)?;
    let begun = open_work(&work, asked, (request.restart, request.target_moves))?;
    let request = RestoreRequest { target: begun.target(request.target), ..request };
    let (first_dir, other_dir, fill_dir) = (work.join("first"), work.join("other"), work.join("fill"));
    let restored = restore(&first, &request, &first_dir, HeadMode::Blocks).await?;
    crash_point("restore.merge-first");
    let filler =
        restore(&other, &other_request(&request, other.view), &other_dir, HeadMode::BlocksOnly).await?;
    crash_point("restore.merge-other");
    let seed = format!("{} {} {}", first.view.source, other.view.source, begun.at_ms);
    let filled = fill_once(first.context, (&first_dir, &other_dir, &fill_dir), seed).await?;
    crash_point("restore.merge-filled");
    join(&first_dir, &fill_dir)?;
    let report = report(&first, &other, &request, (restored, filler, filled));
    let done = Finished::note(&work, &first_dir, begun, report)?;
    // What came into the place meanwhile stays there.
    check_place(&request.to, false)?;
    fs::rename(&first_dir, &request.to).map_err(RestoreError::file(&request.to))?;
    sync_dir(parent_of(&request.to))?;
    crash_point("restore.merge-renamed");
    remove_finished(&work)?;
    sync_dir(parent_of(&request.to))?;
    Ok(done.report)
}

fn report(
    first: &Replica<'_>,
    other: &Replica<'_>,
    request: &RestoreRequest,
    (restored, filler, filled): (RestoreReport, RestoreReport, Filled),
) -> MergeReport {
    let (Target::AsOf(at_ms) | Target::Until(at_ms)) = request.target;
    let mut warnings = warnings(first.view, other.view, at_ms);
    warnings.extend(restored.warnings.iter().cloned());
    MergeReport {
        to: request.to.clone(),
        other: other.view.source.clone(),
        filled_series: filled.series,
        filled_samples: filled.samples,
        filled_blocks: filled.blocks,
        missing: restored.missing.iter().chain(&filler.missing).cloned().collect(),
        restored,
        warnings,
        was_complete: false,
    }
}

/// Makes sure that the two servers are replicas of each other.
fn check_tied(first: &ArchiveView, other: &ArchiveView, label: &str, at_ms: i64) -> Result<(), RestoreError> {
    let refuse = |reason: String| {
        let (first, other) = (&first.source, &other.source);
        Err(RestoreError::Invalid(format!("{first} and {other} are not replicas of each other: {reason}")))
    };
    let labels = |view: &ArchiveView| -> BTreeMap<String, String> {
        view.server_at(at_ms).map(|facts| facts.external_labels.clone()).unwrap_or_default()
    };
    let (mut ours, mut theirs) = (labels(first), labels(other));
    let (our_replica, their_replica) = (ours.remove(label), theirs.remove(label));
    let missing =
        [(first, &our_replica), (other, &their_replica)].into_iter().find(|(_, value)| value.is_none());
    if let Some((view, _)) = missing {
        return refuse(format!(
            "nothing is known of an external label {label:?} of {}; name the label in which they differ with \
             --replica-label, and archive with --prometheus.url so that external labels are known",
            view.source
        ));
    }
    if our_replica == their_replica {
        return refuse(format!("both have the external label {label}={our_replica:?}"));
    }
    if ours != theirs {
        return refuse(format!("their external labels are {ours:?} and {theirs:?}, {label} apart"));
    }
    Ok(())
}

/// What a work directory is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Subject {
    #[serde(default = "first_format")]
    format: u32,
    first: SourceName,
    other: SourceName,
    /// With its time, for people.
    target: String,
    at_ms: i64,
    timeline: Option<u32>,
    options: Vec<String>,
}

/// Returns what is restored of the other archive. One that ended before the moment still has what it had seen; its
/// timelines are its own.
fn other_request(request: &RestoreRequest, other: &ArchiveView) -> RestoreRequest {
    let target = match request.target {
        Target::AsOf(at_ms) => Target::AsOf(at_ms.min(other.last_made.wall_ms)),
        until @ Target::Until(_) => until,
    };
    RestoreRequest { target, timeline: None, ..request.clone() }
}

impl Subject {
    fn of(first: &Replica<'_>, other: &Replica<'_>, request: &RestoreRequest, at_ms: i64) -> Self {
        let selectors = request.selectors.iter().map(|selector| format!("match {}", selector.text()));
        let version = request.for_version.map(|version| format!("for {version}"));
        Self {
            format: FORMAT,
            first: first.view.source.clone(),
            other: other.view.source.clone(),
            target: target_text(request.target),
            at_ms,
            timeline: request.timeline,
            options: selectors.chain(version).collect(),
        }
    }

    /// Returns whether this is what is asked for now; the time of a relative one may be another.
    fn is_asked(&self, asked: &Self, target_moves: bool) -> bool {
        let kind = |subject: &Self| subject.target.split(' ').next().map(str::to_owned);
        let same_target = self.target == asked.target || target_moves && kind(self) == kind(asked);
        let target = (self.target.clone(), self.at_ms);
        same_target
            && *self == Self { format: self.format, target: target.0, at_ms: target.1, ..asked.clone() }
    }

    /// Returns the target, which is of the same kind as the one that is asked for.
    fn target(&self, asked: Target) -> Target {
        match asked {
            Target::AsOf(_) => Target::AsOf(self.at_ms),
            Target::Until(_) => Target::Until(self.at_ms),
        }
    }
}

/// Makes the work directory, or goes on with it; returns what it is about.
fn open_work(
    work: &Path,
    asked: Subject,
    (restart, target_moves): (bool, bool),
) -> Result<Subject, RestoreError> {
    let path = work.join("subject.json");
    if restart && work.exists() {
        remove_all(work)?;
    }
    make_dir(work)?;
    let Ok(bytes) = fs::read(&path) else {
        // Plain data: what cannot be written would be a defect, and the merge is then begun anew.
        write_file(&path, &serde_json::to_vec(&asked).unwrap_or_default())?;
        return Ok(asked);
    };
    let found: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    check_format(&path, &found)?;
    match serde_json::from_value::<Subject>(found) {
        Ok(begun) if begun.is_asked(&asked, target_moves) => Ok(begun),
        found => {
            let found = found.map_or("something unreadable".to_owned(), |begun| format!("{begun:?}"));
            let difference = format!("that one is {found}, this one {asked:?}");
            Err(RestoreError::OtherRestore { path: work.to_owned(), difference })
        }
    }
}

/// Restores one of the archives, unless that was done before. What came of it stands beside it.
async fn restore(
    replica: &Replica<'_>,
    request: &RestoreRequest,
    to: &Path,
    head: HeadMode,
) -> Result<RestoreReport, RestoreError> {
    let (request, path) = (
        RestoreRequest { to: to.to_owned(), head, restart: false, target_moves: false, ..request.clone() },
        to.with_extension("json"),
    );
    if to.is_dir() {
        if let Some(report) = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            return Ok(report);
        }
        if let Some(report) = complete_interrupted(replica.context, &request)? {
            return keep_report(&path, report);
        }
        // Nobody knows any more what is missing in it.
        remove_all(to)?;
    }
    let plan = plan(replica.context, replica.view, &request).await?;
    let report = run(replica.context, replica.view, plan).await?;
    keep_report(&path, report)
}

fn keep_report(path: &Path, report: RestoreReport) -> Result<RestoreReport, RestoreError> {
    // Plain data: what cannot be written would be a defect, and this half is then restored again.
    write_file(path, &serde_json::to_vec(&report).unwrap_or_default())?;
    sync_dir(parent_of(path))?;
    Ok(report)
}

/// Makes the filling blocks, unless they were complete before.
async fn fill_once(
    context: &RestoreContext,
    (first, other, fill): (&Path, &Path, &Path),
    seed: String,
) -> Result<Filled, RestoreError> {
    let done = fill.join("filled.json");
    if let Ok(bytes) = fs::read(&done) {
        let found: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        check_format(&done, &found)?;
        if let Ok(filled) = serde_json::from_value(found) {
            return Ok(filled);
        }
    }
    if fill.exists() {
        remove_all(fill)?;
    }
    make_dir(fill)?;
    let filled = fill_blocks(context, first, other, fill, Arc::from(seed)).await?;
    // Plain numbers: what cannot be written would be a defect, and the filling is made again.
    write_file(&done, &serde_json::to_vec(&filled).unwrap_or_default())?;
    sync_dir(fill)?;
    Ok(filled)
}

/// Moves the filling blocks to the others.
fn join(first: &Path, fill: &Path) -> Result<(), RestoreError> {
    for entry in fs::read_dir(fill).map_err(RestoreError::file(fill))? {
        let path = entry.map_err(RestoreError::file(fill))?.path();
        let Some(name) = path.file_name().filter(|_| path.is_dir()) else { continue };
        fs::rename(&path, first.join(name)).map_err(RestoreError::file(&path))?;
        crash_point("restore.merge-joined");
    }
    sync_dir(first)
}

fn warnings(first: &ArchiveView, other: &ArchiveView, at_ms: i64) -> Vec<String> {
    let deleted = |event: &&crate::archive::Event| event.kind == EventKind::Delete && event.at_ms <= at_ms;
    let count = first.events.iter().filter(deleted).count();
    let mut warnings = Vec::new();
    if at_ms.saturating_sub(other.last_made.wall_ms) > ENDED_MS {
        warnings.push(format!(
            "the archive of {} ends at {}: holes after that are not filled",
            other.source,
            format_time_ms(other.last_made.wall_ms)
        ));
    }
    if count > 0 {
        warnings.push(format!(
            "series of {} were deleted {count} times before that moment: what {} still has of them fills the holes",
            first.source, other.source
        ));
    }
    warnings
}
