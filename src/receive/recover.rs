//! What the log holds beyond the catalog goes back into the heads.

use std::sync::Arc;

use ulid::Ulid;

use super::blocks::CutError;
use super::commit::CutPoint;
use super::cut::{CutReport, Cutter};
use super::replay::{SegmentReplay, Stop};
use crate::catalog::CatalogError;
use crate::head::{HeadPart, Heads};
use crate::log::{DiskLog, LogError, RecoveredSegment};
use crate::model::{ErrorKind, TenantId, error_chain};
use crate::runtime::CpuError;

/// Why the log could not be brought back.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The log does not read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A tenant's catalog does not read.
    #[error("cannot read the catalog of tenant {tenant} to know what it covers: {source}")]
    Catalog {
        /// The tenant.
        tenant: TenantId,
        /// The catalog's reason.
        #[source]
        source: CatalogError,
    },
    /// A cut in between failed.
    #[error(transparent)]
    Cut(#[from] CutError),
    /// A compute job panicked.
    #[error(transparent)]
    Cpu(#[from] CpuError),
}

impl RecoverError {
    /// Returns what the failure asks of the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Log(error) => error.kind(),
            Self::Catalog { source, .. } => source.kind(),
            Self::Cut(error) => error.kind(),
            Self::Cpu(_) => ErrorKind::Internal,
        }
    }
}

/// What was brought back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Segments read.
    pub segments: usize,
    /// Samples that are in heads or blocks again.
    pub samples: u64,
    /// Cuts that were made in between to bound memory.
    pub cuts: u64,
}

/// What the replay has to live with.
#[derive(Debug, Clone, Copy)]
pub struct RecoverSettings {
    /// When the heads pass this size between two segments, they are cut.
    pub head_bytes_max: usize,
    /// Whether the bucket was away when the process started.
    pub bucket_away: bool,
}

/// Replays segments in order. Where the bucket is away, all of them are replayed, also what catalogs may cover: what
/// is twice is merged, and each commit finds out what is new. Heads that are cut wait in files then.
///
/// # Errors
/// A damaged log, a catalog that does not read, or a failed cut; starting again repeats the whole.
pub async fn recover(
    segments: Vec<RecoveredSegment>,
    heads: &Arc<Heads>,
    cutter: &mut Cutter,
    log: &mut DiskLog,
    settings: RecoverSettings,
) -> Result<Recovered, RecoverError> {
    let mut reachable = !settings.bucket_away;
    let mut recovered = Recovered { segments: segments.len(), ..Recovered::default() };
    cutter.hold_epochs(segments.iter().map(RecoveredSegment::epoch), log.epoch());
    for segment in segments {
        let (epoch, last_seq) = (segment.epoch(), segment.last_seq());
        recovered.samples += replay_segment(segment, heads, cutter, &mut reachable).await?;
        cutter.positions().recover(epoch, last_seq);
        if heads.bytes() > settings.head_bytes_max {
            recovered.cuts += 1;
            cutter.take_over(CutPoint { heads: heads.freeze(), epoch, through_seq: last_seq });
            if !reachable {
                cutter.spill_heads().await?;
                continue;
            }
            let (release, outcome) = cutter.commit_heads(&mut CutReport::default()).await;
            match outcome {
                Err(error) if error.is_of_absent_bucket() => reachable = false,
                outcome => outcome?,
            }
            for (epoch, through_seq) in release {
                log.release(epoch, through_seq)?;
            }
        }
    }
    Ok(recovered)
}

/// Replays a segment on all compute threads; returns how many samples it gave.
async fn replay_segment(
    segment: RecoveredSegment,
    heads: &Arc<Heads>,
    cutter: &mut Cutter,
    reachable: &mut bool,
) -> Result<u64, RecoverError> {
    let (cpu, epoch) = (cutter.target().cpu.clone(), segment.epoch());
    let open = |part| SegmentReplay::open(&segment, Arc::clone(heads), part);
    let mut replays = HeadPart::for_threads(cpu.threads()).map(open).collect::<Result<Vec<_>, _>>()?;
    loop {
        let jobs = replays.into_iter().map(|mut replay| {
            cpu.run(move || {
                let stop = replay.run();
                stop.map(|stop| (replay, stop))
            })
        });
        let ended = futures::future::try_join_all(jobs).await?;
        let (resting, stops): (Vec<_>, Vec<_>) =
            ended.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        replays = resting;
        // All read the same and stop at the same tenant.
        match stops.into_iter().next() {
            Some(Stop::Ask(tenant)) => {
                let through_seq = known_covered(cutter, &tenant, epoch, reachable).await?;
                replays.iter_mut().for_each(|replay| replay.learn_covered(tenant.clone(), through_seq));
            }
            Some(Stop::End) | None => break,
        }
    }
    let replayed = replays.into_iter().next().map(SegmentReplay::into_replayed).unwrap_or_default();
    for (tenant, seq) in &replayed.through {
        cutter.positions().replay(tenant, epoch, *seq);
    }
    Ok(replayed.samples)
}

/// Returns the last entry of an epoch that a tenant's catalog covers, 0 where that cannot be known yet; reads the
/// catalog the first time.
async fn known_covered(
    cutter: &mut Cutter,
    tenant: &TenantId,
    epoch: Ulid,
    reachable: &mut bool,
) -> Result<u64, RecoverError> {
    if let Some(through_seq) = cutter.positions().known(tenant, epoch) {
        return Ok(through_seq);
    }
    if !*reachable {
        return Ok(0);
    }
    let catalog = cutter.target().catalogs.of(tenant);
    let newest = catalog.newest(None).await;
    if let Err(error @ CatalogError::Bucket(_)) = &newest
        && error.kind() == ErrorKind::Unavailable
    {
        tracing::warn!(error = error_chain(error), "the bucket is away, all of the log is replayed");
        *reachable = false;
        return Ok(0);
    }
    let newest = newest.map_err(|source| RecoverError::Catalog { tenant: tenant.clone(), source })?;
    let through_seq = newest.map_or(0, |snapshot| snapshot.version().covered_through(epoch));
    cutter.positions().learn_covered(tenant, epoch, through_seq);
    Ok(through_seq)
}
