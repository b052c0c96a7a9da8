//! Turns what was fetched into a data directory.

use std::path::PathBuf;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};

use super::RestoreError;
use super::context::RestoreContext;
use super::filter::RecordRules;
use super::head::{HeadBlocks, HeadRules, build_blocks};
use super::inventory::BlockInventory;
use super::plan::RestorePlan;
use super::progress::{Phase, Progress};
use super::records::LogRecords;
use super::request::{HeadMode, RestoreRequest, ServerVersion};
use super::rewrite::{READS_EVERYTHING, Rewrite, read_meta};
use super::segments::SegmentFiles;
use super::tombstones::write_tombstones;
use super::workplace::{Workplace, make_dir, sync_dir};
use crate::bucket::LogKind;
use crate::model::{Ulid, parse_duration_ms};
use crate::tsdb::block::BlockMeta;

/// The length of a block unless the server was told otherwise.
const BLOCK_RANGE_MS: i64 = 2 * 3_600_000;

/// From this version on a deleted range hides out-of-order samples too.
const DELETES_LATE: ServerVersion = ServerVersion::new(3, 0);

/// What a build needs to know beside the plan.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// The version that wrote the archive, where it is known.
    pub(super) written_by: Option<ServerVersion>,
    /// The length of the server's blocks, where it is known.
    pub(super) block_range: Option<String>,
    /// What the ids of new blocks are made of.
    pub(super) seed: String,
}

/// Returns whether blocks pass through the builder, so that their files are staged first.
pub(super) fn rewrites_blocks(request: &RestoreRequest) -> bool {
    !request.selectors.is_empty() || request.for_version.is_some_and(|version| version < READS_EVERYTHING)
}

/// The logs of a restore.
#[derive(Debug, Clone)]
pub(super) struct Logs {
    pub(super) wal: Arc<LogRecords>,
    pub(super) wbl: Arc<LogRecords>,
}

impl Logs {
    pub(super) fn of(context: &RestoreContext, place: &Workplace, plan: &RestorePlan) -> Self {
        let log = |kind| Arc::new(LogRecords::new(&context.archive, &place.stage(), &plan.inventory, kind));
        Self { wal: log(LogKind::Wal), wbl: log(LogKind::Wbl) }
    }
}

/// Completes the blocks, builds those of the head, and writes the log. Returns the blocks that were built.
pub(super) async fn build(
    context: &RestoreContext,
    place: &Workplace,
    plan: &RestorePlan,
    facts: &Facts,
    logs: &Logs,
) -> Result<Vec<BlockMeta>, RestoreError> {
    let cut_off_ms = complete_blocks(context, place, plan, facts).await?;
    let until_ms = plan.inventory.until_ms();
    let with_blocks = matches!(plan.head, HeadMode::Blocks | HeadMode::BlocksOnly);
    let built = async {
        if !with_blocks {
            return Ok(Vec::new());
        }
        let version = plan.request.for_version.or(facts.written_by);
        let range = facts.block_range.as_deref().and_then(|text| parse_duration_ms(text).ok());
        let head = HeadBlocks {
            wal: Arc::clone(&logs.wal),
            wbl: Arc::clone(&logs.wbl),
            rules: HeadRules {
                cut_off_ms,
                until_ms: until_ms.unwrap_or(i64::MAX),
                selectors: plan.request.selectors.clone(),
                deletes_late: version.is_some_and(|version| version >= DELETES_LATE),
                version: plan.request.for_version,
            },
            data: place.data(),
            seed: facts.seed.clone(),
            created_ms: plan.written_ms,
            range_ms: range.filter(|ms| *ms > 0).unwrap_or(BLOCK_RANGE_MS),
            samples: plan.log.samples,
        };
        build_blocks(context, head).await
    };
    let written = async {
        let (logs, data) = (logs.clone(), place.data());
        // A rewritten block may turn out empty and be left out: then nothing but this keeps the server from replaying
        // what lies before its end.
        let cut_off_ms = rewrites_blocks(&plan.request).then_some(cut_off_ms);
        let rules = RecordRules {
            until_ms,
            from_ms: with_blocks.then_some(i64::MAX).max(cut_off_ms),
            series: None,
            version: plan.request.for_version,
        };
        let selectors = plan.request.selectors.clone();
        let mode = plan.head;
        let progress = Arc::clone(&context.progress);
        if mode == HeadMode::Wal {
            progress.begin(Phase::Wal, logs.wal.plain_bytes() + logs.wbl.plain_bytes());
        }
        let write = move || write_logs(&logs, data, rules, &selectors, (mode, &*progress));
        context.cpu.run(write).await?
    };
    // The log is written while blocks are built: both read the same pieces.
    let (built, ()) = futures::try_join!(built, written)?;
    Ok(built)
}

/// Writes tombstones, or rewrites blocks; returns the time up to which in-order blocks reach.
async fn complete_blocks(
    context: &RestoreContext,
    place: &Workplace,
    plan: &RestorePlan,
    facts: &Facts,
) -> Result<i64, RestoreError> {
    let rewrites = rewrites_blocks(&plan.request);
    let total_bytes = plan.inventory.blocks.iter().map(BlockInventory::plain_bytes).sum();
    context.progress.begin(Phase::Build, total_bytes);
    let jobs = plan.inventory.blocks.iter().map(|block| {
        let (block, data) = (block.clone(), place.data());
        let until_ms = plan.inventory.until_ms();
        let rewrite = rewrites.then(|| Rewrite {
            from: staged_block(place, block.block.id),
            data: data.clone(),
            id: block.block.id,
            selectors: plan.request.selectors.clone(),
            until_ms,
            version: plan.request.for_version,
            seed: facts.seed.clone(),
        });
        let bytes = block.plain_bytes();
        let job = move || {
            let folder = match &rewrite {
                Some(rewrite) => rewrite.from.clone(),
                None => data.join(block.block.id.to_string()),
            };
            let meta = read_meta(&folder)?;
            if meta.ulid != block.block.id {
                let reason = format!("its meta.json is that of {}", meta.ulid);
                return Err(RestoreError::Untrusted { what: format!("block {}", block.block.id), reason });
            }
            let as_it_was = rewrite.map_or(Ok(true), |rewrite| rewrite.run())?;
            if as_it_was {
                write_tombstones(&data, &block, until_ms)?;
            }
            Ok::<_, RestoreError>((!meta.is_out_of_order()).then_some(meta.max_time_ms))
        };
        async move {
            let reaches_ms = context.cpu.run(job).await??;
            context.progress.advance(bytes);
            Ok::<_, RestoreError>(reaches_ms)
        }
    });
    let reached: Vec<Option<i64>> =
        futures::stream::iter(jobs).buffered(context.threads).try_collect().await?;
    context.progress.end();
    Ok(reached.into_iter().flatten().max().unwrap_or(i64::MIN))
}

/// Returns where a block lies that is rewritten.
pub(super) fn staged_block(place: &Workplace, id: Ulid) -> PathBuf {
    place.stage().join("blocks").join(id.to_string())
}

fn write_logs(
    logs: &Logs,
    data: PathBuf,
    mut rules: RecordRules,
    selectors: &[super::request::Selector],
    (mode, progress): (HeadMode, &dyn Progress),
) -> Result<(), RestoreError> {
    if mode == HeadMode::BlocksOnly {
        make_dir(&data.join("wal"))?;
        return sync_dir(&data.join("wal"));
    }
    rules.choose_series(&logs.wal, &logs.wbl, selectors)?;
    // Beside the building of blocks, that is what is shown.
    let advance = |bytes: u64| {
        if mode == HeadMode::Wal {
            progress.advance(bytes);
        }
    };
    write_log(&logs.wal, &data.join("wal"), &rules, advance)?;
    if mode == HeadMode::Wal {
        // Late samples stand in the blocks, where those are built; else they count whatever their time.
        if !logs.wbl.is_empty() {
            rules.from_ms = None;
            write_log(&logs.wbl, &data.join("wbl"), &rules, advance)?;
        }
        progress.end();
    }
    Ok(())
}

fn write_log(
    log: &LogRecords,
    folder: &std::path::Path,
    rules: &RecordRules,
    advance: impl Fn(u64),
) -> Result<(), RestoreError> {
    let mut segments = SegmentFiles::create(folder)?;
    let mut scratch = Vec::new();
    log.each(|data| {
        advance(data.len() as u64);
        rules.apply(data, &mut scratch, |record| segments.append(record))
    })?;
    segments.finish()?;
    sync_dir(folder)
}
