//! Carries out a plan.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::RestoreError;
use super::build::{Facts, Logs, build, rewrites_blocks};
use super::check::{DirReport, check_built};
use super::context::RestoreContext;
use super::fetch::{Destinations, Fetcher, Limiter};
use super::finish::{finish, remove_finished, settle};
use super::inventory::{Inventory, Obstacle};
use super::journal::Journal;
use super::plan::{RestorePlan, plan_around};
use super::progress::Phase;
use super::request::RestoreRequest;
use super::resume::asked_like;
use super::workplace::{self, Workplace, sync_dirs};
use crate::archive::ArchiveView;
use crate::model::ErrorKind;
use crate::runtime::crash_point;

/// What a restore has done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RestoreReport {
    /// The data directory.
    pub to: PathBuf,
    /// What was restored, for people.
    pub target_text: String,
    /// When the last record in it was written.
    pub written_ms: i64,
    /// Blocks of the archive in it.
    pub blocks: usize,
    /// Blocks that were built of the head's samples.
    pub head_blocks: usize,
    /// Samples in those.
    pub head_samples: u64,
    /// How long it took.
    pub seconds: f64,
    /// Where the directory is that stood there before.
    pub replaced: Option<PathBuf>,
    /// What is missing in it; nothing for a complete restore.
    pub missing: Vec<String>,
    /// What was found damaged in the archive and went another way.
    pub avoided: Vec<String>,
    /// What to look out for.
    pub warnings: Vec<String>,
    /// Whether an earlier call had completed it and was killed right after that.
    #[serde(default)]
    pub was_complete: bool,
}

impl RestoreReport {
    /// Returns the kind of failure that the restore ends with although it is done: it is incomplete.
    #[must_use]
    pub fn shortcoming(&self) -> Option<ErrorKind> {
        (!self.missing.is_empty()).then_some(ErrorKind::Incomplete)
    }
}

/// Carries out a plan: fetches, verifies, builds, checks, and puts the directory in its place by a rename.
///
/// # Errors
/// What has to be confirmed and was not; damage that nothing helps against; a failure of the store or the disk. The
/// directory is then as it was, and the same call goes on where this one stopped.
pub async fn run(
    context: &RestoreContext,
    view: &ArchiveView,
    plan: RestorePlan,
) -> Result<RestoreReport, RestoreError> {
    let begun_ms = context.clock.monotonic_ms();
    // A relative time is this one from here on.
    let (source, to) = (context.archive.source(), plan.to.display());
    tracing::info!(%source, target_time = plan.target_text, %to, "restoring");
    check_confirmed(&plan)?;
    let place = Workplace::open(&plan.to)?;
    if plan.request.restart {
        place.clear()?;
    }
    if let Some(shortage) = plan.disk.shortage(&plan.to) {
        return Err(shortage);
    }
    let (plan, logs) = fetch_some_way(context, view, &place, plan).await?;
    let facts = facts(context, view, &plan);
    crash_point("restore.before-build");
    let built = build(context, &place, &plan, &facts, &logs).await?;
    crash_point("restore.after-build");
    check(context, &place, &built.iter().map(|meta| meta.ulid.to_string()).collect::<Vec<_>>()).await?;
    context.progress.begin(Phase::Finish, 0);
    let elapsed_ms = context.clock.monotonic_ms() - begun_ms;
    let (subject, request) = (plan.subject(context), plan.request);
    let report = RestoreReport {
        to: plan.to,
        target_text: plan.target_text,
        written_ms: plan.written_ms,
        blocks: plan.blocks.len(),
        head_blocks: built.len(),
        head_samples: built.iter().map(|meta| meta.stats.num_samples).sum(),
        seconds: elapsed_ms as f64 / 1_000.0,
        replaced: None,
        missing: plan.missing,
        avoided: plan.avoided,
        warnings: plan.warnings,
        was_complete: false,
    };
    let finish = move || {
        sync_dirs(&place.data())?;
        crash_point("restore.before-rename");
        finish(&place, subject, report, (request.delta, request.confirmed))
    };
    let report = context.cpu.run(finish).await??;
    context.progress.end();
    Ok(report)
}

/// Cleans up after a restore that was complete but for its work directory. Returns its report if it is the one that is
/// asked for now.
///
/// # Errors
/// A work directory that is in use, of a newer version, or that cannot be removed.
pub fn complete_interrupted(
    context: &RestoreContext,
    request: &RestoreRequest,
) -> Result<Option<RestoreReport>, RestoreError> {
    let work = Workplace::path_for(&request.to)?;
    workplace::refuse_link(&work)?;
    if !work.is_dir() {
        return Ok(None);
    }
    let _lock = workplace::lock(&work)?;
    let Some(finished) = settle(&work, &request.to)? else { return Ok(None) };
    remove_finished(&work)?;
    let asked = asked_like(context, request, &finished.subject);
    let is_asked = finished.subject.difference(&asked).is_none();
    Ok(is_asked.then_some(RestoreReport { was_complete: true, ..finished.report }))
}

fn check_confirmed(plan: &RestorePlan) -> Result<(), RestoreError> {
    if plan.request.confirmed || plan.to_confirm.is_empty() {
        return Ok(());
    }
    Err(RestoreError::Unconfirmed(plan.to_confirm.join("; ")))
}

pub(super) fn bytes_below(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => bytes_below(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Fetches and verifies everything on the plan's way; where something is damaged, on another one.
async fn fetch_some_way(
    context: &RestoreContext,
    view: &ArchiveView,
    place: &Workplace,
    mut plan: RestorePlan,
) -> Result<(RestorePlan, Logs), RestoreError> {
    loop {
        let obstacle = match fetch_way(context, place, &plan).await {
            Ok(logs) => return Ok((plan, logs)),
            Err(obstacle) => obstacle,
        };
        let avoidable = Inventory::needs(&plan.inventory.resolved).any(|id| id == obstacle.id);
        if !obstacle.is_damage() || !avoidable {
            return Err(obstacle.error);
        }
        tracing::warn!(error = %obstacle.error, "looking for another way around damage in the archive");
        plan = plan_around(context, view, &plan, obstacle).await?;
        check_confirmed(&plan)?;
    }
}

async fn fetch_way(
    context: &RestoreContext,
    place: &Workplace,
    plan: &RestorePlan,
) -> Result<Logs, Obstacle> {
    let failed = |error| Obstacle::of(crate::model::Ulid::nil(), error);
    let journal = Journal::open(&place.journal(), &plan.subject(context)).map_err(failed)?;
    let mut wanted = Destinations::of(&plan.inventory);
    if rewrites_blocks(&plan.request) {
        wanted.stage_blocks();
    }
    place.prune(&wanted.below("data"), &wanted.below("stage")).map_err(failed)?;
    let limiter = Limiter::new(plan.request.limit_bytes_per_second);
    let fetcher = Fetcher { context, place, journal: &journal, limiter };
    fetcher.fetch(&wanted, &plan.local, &plan.to).await?;
    let logs = Logs::of(context, place, plan);
    logs.wal.verify(context).await?;
    logs.wbl.verify(context).await?;
    Ok(logs)
}

fn facts(context: &RestoreContext, view: &ArchiveView, plan: &RestorePlan) -> Facts {
    let server = view.server_at(plan.written_ms);
    let subject = serde_json::to_vec(&plan.subject(context)).unwrap_or_default();
    Facts {
        written_by: server.and_then(|facts| facts.version.as_deref()).and_then(|text| text.parse().ok()),
        block_range: server.and_then(|facts| facts.flags.get("storage.tsdb.min-block-duration").cloned()),
        seed: format!("{:x}", Sha256::digest(subject)),
    }
}

/// Reads back what was built here: the log and the blocks of the head. Fetched files are proven by their hashes.
async fn check(context: &RestoreContext, place: &Workplace, built: &[String]) -> Result<(), RestoreError> {
    let (data, built) = (place.data(), built.iter().cloned().collect::<BTreeSet<_>>());
    let total_bytes =
        bytes_below(&data.join("wal")) + built.iter().map(|id| bytes_below(&data.join(id))).sum::<u64>();
    context.progress.begin(Phase::Check, total_bytes);
    let report: DirReport = check_built(context, &data, &built).await?;
    context.progress.end();
    match report.findings.first() {
        None => Ok(()),
        Some(finding) => Err(RestoreError::Damaged {
            what: format!("what was built ({})", finding.file),
            reason: finding.what.clone(),
        }),
    }
}
