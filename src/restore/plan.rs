//! Says what a restore would do, before it does it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::RestoreError;
use super::build::rewrites_blocks;
use super::context::RestoreContext;
use super::estimate::{Estimate, Work, estimate};
use super::inventory::{Inventory, Obstacle, take_inventory};
use super::journal::Subject;
use super::local::LocalFiles;
use super::request::{HeadMode, RestoreRequest, ServerVersion};
use super::resume::{adopting, subject_of, unfinished};
use super::warnings::warnings;
use super::workplace::{self, Workplace};
use crate::archive::{
    ArchiveError, ArchiveView, Event, EventKind, PieceCut, Position, Resolved, Target, ways_to,
};
use crate::model::{Ulid, format_time_ms};

/// The samples from which on replaying the log would be noticed.
const HEAD_SAMPLES_FOR_BLOCKS: u64 = 500_000;

/// What a restore would do.
#[derive(Debug, Clone, Serialize)]
pub struct RestorePlan {
    /// The source.
    pub source: String,
    /// Where to.
    pub to: PathBuf,
    /// What is to be restored.
    pub target: Target,
    /// The same for people, such as `as of 2026-11-22T14:02:59Z`.
    pub target_text: String,
    /// Where the logs are cut.
    pub position: Position,
    /// When the last record before the cut was written.
    pub written_ms: i64,
    /// How long before the target that was; 0 for `until`.
    pub distance_ms: i64,
    /// When the blocks were seen that it starts from.
    pub base_seen_ms: i64,
    /// The blocks that are restored.
    pub blocks: Vec<PlannedBlock>,
    /// The log.
    pub log: PlannedLog,
    /// What is read from the bucket.
    pub fetch: PlannedFetch,
    /// What becomes of the head.
    pub head: HeadMode,
    /// The selectors, where not everything is restored.
    pub selectors: Vec<String>,
    /// How long it takes.
    pub estimate: Estimate,
    /// The room that it needs, and what there is.
    pub disk: PlannedDisk,
    /// What to look out for.
    pub warnings: Vec<String>,
    /// What the restored directory does not have.
    pub loses: Vec<String>,
    /// What should be there and is missing: a restore is then incomplete.
    pub missing: Vec<String>,
    /// What has to be confirmed before it runs.
    pub to_confirm: Vec<String>,
    /// What was found damaged, so that another way was chosen.
    pub avoided: Vec<String>,
    #[serde(skip)]
    pub(super) request: RestoreRequest,
    #[serde(skip)]
    pub(super) inventory: Inventory,
    #[serde(skip)]
    pub(super) local: LocalFiles,
    #[serde(skip)]
    pub(super) damaged: BTreeSet<Ulid>,
}

/// A block of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedBlock {
    /// The block.
    pub id: Ulid,
    /// Start of its time range.
    pub min_time_ms: i64,
    /// End of its time range, exclusive.
    pub max_time_ms: i64,
    /// Samples in it.
    pub samples: u64,
    /// Size of its files.
    pub size_bytes: u64,
    /// How much of that is in the target already.
    pub local_bytes: u64,
    /// Whether samples in it lie after the target and are hidden by tombstones.
    pub cut: bool,
}

/// The log of a plan.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct PlannedLog {
    /// Pieces of the WAL.
    pub wal_pieces: u64,
    /// Pieces of the log of out-of-order samples.
    pub wbl_pieces: u64,
    /// Samples in them.
    pub samples: u64,
    /// Their size, decompressed.
    pub plain_bytes: u64,
    /// Their size in the bucket.
    pub stored_bytes: u64,
    /// Size of the checkpoint.
    pub checkpoint_bytes: u64,
}

/// What is read from the bucket.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct PlannedFetch {
    /// Objects.
    pub objects: u64,
    /// Their size.
    pub stored_bytes: u64,
    /// Size of files that are in the target already and are kept.
    pub local_bytes: u64,
}

/// The room that a restore needs.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct PlannedDisk {
    /// While it runs.
    pub needed_bytes: u64,
    /// What is free where it writes; none where that cannot be told.
    pub free_bytes: Option<u64>,
    /// What an unfinished restore has there already, which counts as room.
    pub fetched_bytes: u64,
}

impl PlannedDisk {
    /// Returns the refusal of a restore that has no room.
    pub(super) fn shortage(&self, to: &Path) -> Option<RestoreError> {
        let (needed_bytes, free_bytes) = (self.needed_bytes, self.free_bytes?);
        let lacks = needed_bytes > free_bytes.saturating_add(self.fetched_bytes);
        lacks.then(|| RestoreError::Space { path: to.to_owned(), needed_bytes, free_bytes })
    }
}

/// Makes a plan: finds the position, a way to it whose objects are there, and what that takes.
///
/// # Errors
/// A time that cannot be restored, with the nearest one that can; a target that cannot be used; an archive that is
/// damaged in a way that nothing helps against.
pub async fn plan(
    context: &RestoreContext,
    view: &ArchiveView,
    request: &RestoreRequest,
) -> Result<RestorePlan, RestoreError> {
    check_target(request)?;
    context.archive.envelope().check_opening().map_err(|source| {
        RestoreError::Archive(ArchiveError::Envelope { key: context.archive.source().to_string(), source })
    })?;
    let begun = unfinished(context, request)?;
    let adopted = begun.as_ref().map(|begun| adopting(request, begun));
    let request = adopted.as_ref().unwrap_or(request);
    let (position, written_ms) = match &begun {
        Some(begun) => (begun.position, begun.written_ms),
        None => {
            let found = context.archive.resolve(view, request.target, request.timeline).await?;
            (found.position, found.written_ms)
        }
    };
    let base = begun.map(|begun| begun.base);
    let found = (position, written_ms, base);
    let mut plan = plan_at(context, view, request, found, BTreeSet::new(), None).await?;
    if adopted.is_some() && request.target_moves {
        let text = &plan.target_text;
        plan.warnings.insert(
            0,
            format!("this goes on with the unfinished restore {text}; give --restart to begin with the time of now"),
        );
    }
    Ok(plan)
}

/// Makes the plan anew after something that it needs was found damaged.
pub(super) async fn plan_around(
    context: &RestoreContext,
    view: &ArchiveView,
    plan: &RestorePlan,
    obstacle: Obstacle,
) -> Result<RestorePlan, RestoreError> {
    let mut damaged = plan.damaged.clone();
    damaged.insert(obstacle.id);
    let found = (plan.position, plan.written_ms, None);
    let mut again = plan_at(context, view, &plan.request, found, damaged, Some(obstacle.error)).await?;
    again.avoided = plan.avoided.iter().cloned().chain(again.avoided).collect();
    Ok(again)
}

type Found = (Position, i64, Option<(i64, Position)>);

async fn plan_at(
    context: &RestoreContext,
    view: &ArchiveView,
    request: &RestoreRequest,
    (position, written_ms, base): Found,
    mut damaged: BTreeSet<Ulid>,
    mut failure: Option<RestoreError>,
) -> Result<RestorePlan, RestoreError> {
    let mut avoided: Vec<String> = failure.iter().map(ToString::to_string).collect();
    loop {
        let way = choose_way(view, request.target, (position, written_ms, base), &damaged);
        let Some(way) = way else {
            return Err(failure.unwrap_or_else(|| ArchiveError::Empty(view.source.clone()).into()));
        };
        let inventory = match take_inventory(context, way).await {
            Ok(inventory) => inventory,
            Err(obstacle) if obstacle.is_damage() => {
                tracing::warn!(error = %obstacle.error, "avoiding a damaged part of the archive");
                avoided.push(obstacle.error.to_string());
                damaged.insert(obstacle.id);
                failure.get_or_insert(obstacle.error);
                continue;
            }
            Err(obstacle) => return Err(obstacle.error),
        };
        check_until(context, view, &inventory.resolved)?;
        let local = LocalFiles::find(context, request, &inventory).await?;
        return describe(context, view, request, inventory, local, (damaged, avoided)).await;
    }
}

/// Refuses an end that has not come yet, unless the server's clock was ahead and it has samples of such a time.
fn check_until(context: &RestoreContext, view: &ArchiveView, way: &Resolved) -> Result<(), ArchiveError> {
    let Target::Until(until_ms) = way.target else { return Ok(()) };
    let sampled = way.wal.iter().chain(&way.wbl).filter_map(|cut| cut.piece.sample_times_ms);
    let newest_ms = sampled.map(|(_, newest_ms)| newest_ms).fold(context.clock.now_ms(), i64::max);
    if until_ms <= newest_ms {
        return Ok(());
    }
    let reason = "that time has not come yet".to_owned();
    Err(ArchiveError::OutsideWindow { reason, nearest: format_time_ms(view.last_made.wall_ms) })
}

/// Returns the newest way that nothing damaged lies on; one without holes before one with them.
fn choose_way(
    view: &ArchiveView,
    target: Target,
    (position, written_ms, base): Found,
    damaged: &BTreeSet<Ulid>,
) -> Option<Resolved> {
    let sound = |way: &Resolved| !Inventory::needs(way).any(|id| damaged.contains(&id));
    let ways = || ways_to(view, target, position, written_ms).filter(sound);
    let begun = base.and_then(|base| ways().find(|way| base_id(way) == base));
    begun.or_else(|| ways().find(|way| way.missing.is_empty())).or_else(|| ways().next())
}

fn base_id(way: &Resolved) -> (i64, Position) {
    (way.base.seen.wall_ms, way.base.position)
}

async fn describe(
    context: &RestoreContext,
    view: &ArchiveView,
    request: &RestoreRequest,
    inventory: Inventory,
    local: LocalFiles,
    (damaged, avoided): (BTreeSet<Ulid>, Vec<String>),
) -> Result<RestorePlan, RestoreError> {
    let resolved = &inventory.resolved;
    let log = planned_log(&inventory);
    let head = head_mode(request.head, log, !damaged.is_empty());
    let blocks = planned_blocks(&inventory, &local);
    let fetch = planned_fetch(&inventory, &local, log);
    let work = Work::of(&inventory, fetch, log, (head, may_rewrite(view, request, resolved.written_ms)));
    let estimate = estimate(context, request, &inventory, work).await;
    let disk = PlannedDisk {
        needed_bytes: work.disk_bytes(),
        free_bytes: workplace::free_bytes(&request.to),
        fetched_bytes: workplace::own_bytes(&Workplace::path_for(&request.to)?),
    };
    let mut warnings = warnings(context, view, request, &inventory);
    warnings.extend(disk.shortage(&request.to).map(|error| error.to_string()));
    let mut missing = missing(resolved);
    if !damaged.is_empty() {
        missing.extend(undone_deletes(view, resolved));
    }
    let mut plan = RestorePlan {
        source: view.source.to_string(),
        to: request.to.clone(),
        target: request.target,
        target_text: target_text(request.target),
        position: resolved.position,
        written_ms: resolved.written_ms,
        distance_ms: match request.target {
            Target::AsOf(as_of_ms) => as_of_ms.saturating_sub(resolved.written_ms).max(0),
            Target::Until(_) => 0,
        },
        base_seen_ms: resolved.base.seen.wall_ms,
        blocks,
        log,
        fetch,
        head,
        selectors: request.selectors.iter().map(|selector| selector.text().to_owned()).collect(),
        estimate,
        disk,
        warnings,
        loses: loses(view, request, &inventory, head),
        missing,
        to_confirm: Vec::new(),
        avoided,
        request: request.clone(),
        inventory,
        local,
        damaged,
    };
    plan.to_confirm = to_confirm(&plan);
    Ok(plan)
}

fn head_mode(asked: HeadMode, log: PlannedLog, avoids_damage: bool) -> HeadMode {
    match asked {
        HeadMode::BlocksOnly => HeadMode::BlocksOnly,
        // Of a series that left the head and came back, Prometheus forgets what it replayed before: it counts on a
        // block, which is the one that is damaged.
        _ if avoids_damage => HeadMode::Blocks,
        HeadMode::Auto if log.samples >= HEAD_SAMPLES_FOR_BLOCKS => HeadMode::Blocks,
        HeadMode::Auto => HeadMode::Wal,
        given => given,
    }
}

/// Returns whether blocks may have to be written anew: not for a version that is as new as the one that wrote them.
fn may_rewrite(view: &ArchiveView, request: &RestoreRequest, written_ms: i64) -> bool {
    let written = view.server_at(written_ms).and_then(|facts| facts.version.as_deref()?.parse().ok());
    let older = |wanted: &ServerVersion| written.is_none_or(|written| *wanted < written);
    rewrites_blocks(request)
        && (!request.selectors.is_empty() || request.for_version.as_ref().is_some_and(older))
}

/// Deletes in blocks leave no trace in the log: with an older base their samples come back out of the log.
fn undone_deletes(view: &ArchiveView, resolved: &Resolved) -> Option<String> {
    let until_ms = match resolved.target {
        Target::AsOf(as_of_ms) => as_of_ms,
        Target::Until(_) => i64::MAX,
    };
    let between = |event: &&Event| {
        event.kind == EventKind::Delete
            && event.block.is_some()
            && event.at_ms > resolved.base.changed_ms
            && event.at_ms <= until_ms
    };
    let count = view.events.iter().filter(between).count();
    let since = format_time_ms(resolved.base.changed_ms);
    (count > 0).then(|| {
        format!(
            "damage leads to the blocks of {since}, and {count} deletes in blocks after that may come back"
        )
    })
}

fn to_confirm(plan: &RestorePlan) -> Vec<String> {
    let to = plan.to.display();
    let occupied = matches!(workplace::is_empty_dir(&plan.to), Ok(false));
    let replaces = occupied.then(|| format!("{to} is replaced; what is in it moves to {to}.replaced"));
    let missing = plan.missing.iter().map(|what| format!("the restore is incomplete: {what}"));
    replaces.into_iter().chain(missing).collect()
}

/// Writes a target for people.
#[must_use]
pub(super) fn target_text(target: Target) -> String {
    match target {
        Target::AsOf(as_of_ms) => format!("as of {}", format_time_ms(as_of_ms)),
        Target::Until(until_ms) => format!("until {}", format_time_ms(until_ms)),
    }
}

fn planned_blocks(inventory: &Inventory, local: &LocalFiles) -> Vec<PlannedBlock> {
    let planned = inventory.blocks.iter().map(|block| PlannedBlock {
        id: block.block.id,
        min_time_ms: block.block.min_time_ms,
        max_time_ms: block.block.max_time_ms,
        samples: block.block.samples,
        size_bytes: block.plain_bytes(),
        local_bytes: block
            .all_files()
            .filter(|file| local.has(&block.path_of(file)))
            .map(|file| file.size_bytes)
            .sum(),
        cut: block.straddles,
    });
    let mut planned: Vec<PlannedBlock> = planned.collect();
    planned.sort_by_key(|block| (block.min_time_ms, block.id));
    planned
}

fn planned_log(inventory: &Inventory) -> PlannedLog {
    let resolved = &inventory.resolved;
    let mut log = PlannedLog {
        wal_pieces: resolved.wal.len() as u64,
        wbl_pieces: resolved.wbl.len() as u64,
        checkpoint_bytes: inventory.checkpoint_files().iter().map(|file| file.size_bytes).sum(),
        ..PlannedLog::default()
    };
    for PieceCut { piece, .. } in resolved.wal.iter().chain(&resolved.wbl) {
        let of_samples = |kind: &str| kind.contains("samples") || kind.contains("histograms");
        let samples = piece.counts.iter().filter(|(kind, _)| of_samples(kind)).map(|(_, count)| count);
        log.samples = log.samples.saturating_add(samples.sum());
        log.plain_bytes = log.plain_bytes.saturating_add(piece.plain_bytes);
        log.stored_bytes = log.stored_bytes.saturating_add(piece.stored_bytes);
    }
    log
}

fn planned_fetch(inventory: &Inventory, local: &LocalFiles, log: PlannedLog) -> PlannedFetch {
    let mut fetch = PlannedFetch {
        objects: log.wal_pieces + log.wbl_pieces,
        stored_bytes: log.stored_bytes,
        local_bytes: 0,
    };
    let blocks = inventory.blocks.iter();
    let files =
        blocks.flat_map(|block| block.all_files().map(|file| (local.has(&block.path_of(file)), file)));
    for (is_local, file) in files.chain(inventory.checkpoint_files().iter().map(|file| (false, file))) {
        if is_local {
            fetch.local_bytes += file.size_bytes;
        } else {
            fetch.objects += file.parts.len() as u64;
            fetch.stored_bytes = fetch.stored_bytes.saturating_add(file.stored_bytes());
        }
    }
    fetch
}

fn missing(resolved: &Resolved) -> Vec<String> {
    let text = |missing: &crate::archive::MissingRecords| {
        let log = if missing.log == crate::bucket::LogKind::Wal { "WAL" } else { "out-of-order log" };
        format!(
            "records of the {log} after {} are not in the archive; only blocks cover that time",
            missing.after
        )
    };
    resolved.missing.iter().map(text).collect()
}

fn loses(view: &ArchiveView, request: &RestoreRequest, inventory: &Inventory, head: HeadMode) -> Vec<String> {
    let mut loses = vec![match request.target {
        Target::AsOf(as_of_ms) => {
            let (time, timeline) = (format_time_ms(as_of_ms), inventory.resolved.position.timeline);
            format!("what was written after {time} on timeline {timeline}; the archive keeps it")
        }
        Target::Until(until_ms) => {
            format!("samples and exemplars after {}; the archive keeps them", format_time_ms(until_ms))
        }
    }];
    let later = view.timelines.values().filter(|t| t.number > inventory.resolved.position.timeline).count();
    if later > 0 && matches!(request.target, Target::AsOf(_)) {
        loses.push(format!("{later} later timelines; the archive keeps them"));
    }
    if !request.selectors.is_empty() {
        loses.push("series that no --match selects".to_owned());
    }
    if head == HeadMode::BlocksOnly {
        loses.push("exemplars and metadata of series, which only the log holds".to_owned());
    }
    loses
}

impl RestorePlan {
    /// Names the restore for the journal.
    pub(super) fn subject(&self, context: &RestoreContext) -> Subject {
        let base = base_id(&self.inventory.resolved);
        subject_of(context, &self.request, (self.position, self.written_ms), base)
    }

    /// Returns whether something that should be there is missing.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        !self.missing.is_empty()
    }
}

/// Refuses targets that cannot be made or would be written into.
fn check_target(request: &RestoreRequest) -> Result<(), RestoreError> {
    let to = &request.to;
    workplace::refuse_link(&Workplace::path_for(to)?)?;
    workplace::check_place(to, request.delta).map(drop)
}
