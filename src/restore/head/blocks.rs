//! Encodes collected samples and writes them as blocks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::try_join_all;
use sha2::{Digest, Sha256};

use super::HeadRules;
use super::collect::{Collected, CollectedShare, Share, collect};
use super::series::SeriesTable;
use crate::model::Ulid;
use crate::restore::RestoreError;
use crate::restore::context::RestoreContext;
use crate::restore::progress::Phase;
use crate::restore::records::LogRecords;
use crate::restore::request::ServerVersion;
use crate::restore::tombstones::block_error;
use crate::restore::workplace::{make_dir, new_file, sync_dirs};
use crate::tsdb::block::{
    BlockBuilder, BlockFile, BlockFiles, BlockMeta, BlockOptions, HINT_FROM_OUT_OF_ORDER, SeriesChunks,
};
use crate::tsdb::chunk::SampleValue;

/// Samples that one pass over the log collects: some 1.5 GiB.
const PASS_SAMPLES: u64 = 48_000_000;

/// Series that are encoded at once, per thread.
const BATCH_SERIES: usize = 2_048;

/// More ranges than this are not open at once: the ranges grow instead.
const WINDOWS_MAX: i64 = 64;

/// The first version that reads histograms with custom buckets.
const READS_CUSTOM_BUCKETS: ServerVersion = ServerVersion::new(3, 2);

/// What is built, and of what.
#[derive(Debug)]
pub(in crate::restore) struct HeadBlocks {
    pub(in crate::restore) wal: Arc<LogRecords>,
    pub(in crate::restore) wbl: Arc<LogRecords>,
    pub(in crate::restore) rules: HeadRules,
    /// The data directory.
    pub(in crate::restore) data: PathBuf,
    /// What the blocks' ids are made of, so that the same restore gives the same ones.
    pub(in crate::restore) seed: String,
    pub(in crate::restore) created_ms: i64,
    /// The length of a block.
    pub(in crate::restore) range_ms: i64,
    /// How many samples to expect.
    pub(in crate::restore) samples: u64,
}

/// The files of a block on disk, each durable once it is closed.
#[derive(Debug)]
pub(in crate::restore) struct FilesInFolder(PathBuf);

impl FilesInFolder {
    /// Makes the folder of a block.
    pub(in crate::restore) fn create(folder: &Path) -> Result<Self, RestoreError> {
        make_dir(folder)?;
        make_dir(&folder.join("chunks"))?;
        Ok(Self(folder.to_owned()))
    }
}

impl BlockFiles for FilesInFolder {
    type File = BufWriter<File>;

    fn create(&mut self, file: BlockFile) -> std::io::Result<Self::File> {
        let file = new_file(&self.0.join(file.to_string()));
        let file = file.map_err(std::io::Error::other)?;
        Ok(BufWriter::with_capacity(1 << 20, file))
    }

    fn close(&mut self, _file: BlockFile, mut written: Self::File) -> std::io::Result<()> {
        written.flush()?;
        written.get_ref().sync_all()
    }
}

/// The blocks under construction, by range of time.
#[derive(Debug)]
struct OpenBlocks {
    data: PathBuf,
    seed: String,
    created_ms: i64,
    table: Arc<SeriesTable>,
    open: BTreeMap<i64, (Ulid, BlockBuilder<FilesInFolder>)>,
}

/// A series' chunks by range of time.
type Encoded = (u32, Vec<(i64, SeriesChunks)>);

/// Builds blocks of what the logs hold; returns what they say of themselves.
pub(in crate::restore) async fn build_blocks(
    context: &RestoreContext,
    head: HeadBlocks,
) -> Result<Vec<BlockMeta>, RestoreError> {
    context.progress.begin(Phase::Build, head.samples);
    let head = Arc::new(head);
    let table = Arc::new(SeriesTable::read(context, &head.wal, &head.rules).await?);
    let mut blocks = OpenBlocks {
        data: head.data.clone(),
        seed: head.seed.clone(),
        created_ms: head.created_ms,
        table: Arc::clone(&table),
        open: BTreeMap::new(),
    };
    let series = table.len() as u32;
    let passes =
        u32::try_from(head.samples.div_ceil(PASS_SAMPLES)).unwrap_or(u32::MAX).clamp(1, series.max(1));
    let pass_series = series.div_ceil(passes).max(1);
    let range_ms = range_for(&head);
    for pass in table.in_order().chunks(pass_series as usize) {
        let shares = collect_pass(context, &head, &table, range_ms, pass).await?;
        context.progress.advance(head.samples / u64::from(passes));
        blocks = write_pass(context, &head, blocks, (pass, shares), range_ms).await?;
    }
    let metas = context.cpu.run(move || blocks.finish()).await??;
    context.progress.end();
    Ok(metas)
}

/// Returns the length of the blocks: the server's own, or a multiple where there would be too many.
fn range_for(head: &HeadBlocks) -> i64 {
    let pieces = head.wal.cuts().iter().chain(head.wbl.cuts());
    let times = pieces.filter_map(|cut| cut.piece.sample_times_ms);
    let bounds = times.reduce(|(a_min, a_max), (min, max)| (a_min.min(min), a_max.max(max)));
    let Some((min_ms, max_ms)) = bounds else { return head.range_ms };
    let mut range_ms = head.range_ms.max(1);
    while max_ms.saturating_sub(min_ms) / range_ms > WINDOWS_MAX {
        range_ms = range_ms.saturating_mul(3);
    }
    range_ms
}

async fn collect_pass(
    context: &RestoreContext,
    head: &Arc<HeadBlocks>,
    table: &Arc<SeriesTable>,
    range_ms: i64,
    pass: &[u32],
) -> Result<Vec<CollectedShare>, RestoreError> {
    let step = context.threads as u32;
    let jobs = (0..step).map(|thread| {
        let (head, table) = (Arc::clone(head), Arc::clone(table));
        let share = Share::of(pass, table.len(), (thread, step));
        context.cpu.run(move || collect(&head.wal, &head.wbl, &table, &head.rules, range_ms, share))
    });
    try_join_all(jobs).await?.into_iter().collect()
}

/// Encodes batch after batch on all threads, while the one before is written.
async fn write_pass(
    context: &RestoreContext,
    head: &Arc<HeadBlocks>,
    mut blocks: OpenBlocks,
    (pass, mut shares): (&[u32], Vec<CollectedShare>),
    range_ms: i64,
) -> Result<OpenBlocks, RestoreError> {
    let mut take = |id: &u32| shares.iter_mut().find_map(|share| share.take(*id));
    let mut batches = pass.chunks(BATCH_SERIES);
    let mut encoded: Vec<Vec<Encoded>> = Vec::new();
    loop {
        let now: Vec<Vec<Collected>> = batches
            .by_ref()
            .take(context.threads)
            .map(|batch| batch.iter().filter_map(&mut take).collect())
            .collect();
        let is_last = now.is_empty();
        let jobs = now.into_iter().map(|batch| {
            let (head, table) = (Arc::clone(head), Arc::clone(&blocks.table));
            context.cpu.run(move || encode(batch, &table, &head.rules, range_ms))
        });
        let jobs = try_join_all(jobs.collect::<Vec<_>>());
        let before = std::mem::take(&mut encoded);
        let written = context.cpu.run(move || blocks.write(before).map(|()| blocks));
        let (next, written) = futures::try_join!(jobs, written)?;
        blocks = written?;
        if is_last {
            return Ok(blocks);
        }
        encoded = next.into_iter().collect::<Result<_, _>>()?;
    }
}

fn encode(
    batch: Vec<Collected>,
    table: &SeriesTable,
    rules: &HeadRules,
    range_ms: i64,
) -> Result<Vec<Encoded>, RestoreError> {
    let encode = |collected: Collected| Ok((collected.id, collected.into_chunks(table, rules, range_ms)?));
    batch.into_iter().map(encode).collect()
}

/// Appends a sample to a series' chunks, where the wanted version can read it.
pub(in crate::restore) fn push(
    chunks: &mut SeriesChunks,
    ts_ms: i64,
    value: &SampleValue,
    version: Option<ServerVersion>,
) -> Result<(), RestoreError> {
    let custom = match value {
        SampleValue::Float(bits) => {
            chunks.push_float(ts_ms, *bits);
            return Ok(());
        }
        SampleValue::Histogram(histogram) => histogram.has_custom_buckets(),
        SampleValue::FloatHistogram(histogram) => histogram.has_custom_buckets(),
    };
    if let Some(version) = version.filter(|version| custom && *version < READS_CUSTOM_BUCKETS) {
        return Err(RestoreError::Unsupported(format!(
            "the archive holds native histograms with custom buckets, which version {version} cannot read: restore for \
             {READS_CUSTOM_BUCKETS} or later, or leave those series out with --match"
        )));
    }
    let pushed = match value {
        SampleValue::Histogram(histogram) => chunks.push_histogram(ts_ms, histogram),
        SampleValue::FloatHistogram(histogram) => chunks.push_float_histogram(ts_ms, histogram),
        SampleValue::Float(_) => Ok(()),
    };
    pushed.map_err(|error| RestoreError::Damaged {
        what: "a native histogram in the archive".to_owned(),
        reason: error.to_string(),
    })
}

impl OpenBlocks {
    /// Writes batches, which follow each other in the order of labels.
    fn write(&mut self, batches: Vec<Vec<Encoded>>) -> Result<(), RestoreError> {
        for (id, chunks) in batches.into_iter().flatten() {
            for (window, mut chunks) in chunks {
                self.add(id, window, &mut chunks)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, series: u32, window: i64, chunks: &mut SeriesChunks) -> Result<(), RestoreError> {
        if !self.open.contains_key(&window) {
            let id = block_id(&self.seed, &format!("head {window}"), self.created_ms);
            let files = FilesInFolder::create(&self.data.join(id.to_string()))?;
            let hints = vec![HINT_FROM_OUT_OF_ORDER.to_owned()];
            let options = BlockOptions { hints, ..BlockOptions::level_one(id) };
            self.open.insert(window, (id, BlockBuilder::new(files, options)));
        }
        let Some((id, builder)) = self.open.get_mut(&window) else { return Ok(()) };
        let added = builder.add(self.table.labels(series), chunks);
        added.map_err(|source| RestoreError::Block { block: id.to_string(), source })
    }

    fn finish(self) -> Result<Vec<BlockMeta>, RestoreError> {
        let mut metas = Vec::new();
        for (id, builder) in self.open.into_values() {
            let folder = self.data.join(id.to_string());
            let (_, meta) = builder.finish().map_err(|source| block_error(&folder, source))?;
            sync_dirs(&folder)?;
            metas.push(meta);
        }
        Ok(metas)
    }
}

/// Returns an id that only the restore and the block's role decide.
pub(in crate::restore) fn block_id(seed: &str, role: &str, created_ms: i64) -> Ulid {
    let digest = Sha256::digest(format!("{seed}\n{role}"));
    let mut random = [0; 16];
    random.copy_from_slice(&digest[..16]);
    Ulid::from_parts(u64::try_from(created_ms).unwrap_or(0), u128::from_be_bytes(random))
}
