//! Block files out of a frozen head: one of each kind for each raw window that has data of it.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::iter::Peekable;
use std::sync::Arc;

use super::blocks::{BlockTarget, Columns, CutError, PendingBlock, PendingBlocks};
use crate::block::{
    BlockError, BlockSpec, BlockStats, HashingWriter, HistogramRun, LogPositions, SeriesRun, block_order,
    extend_label_columns, write_block, write_exemplars, write_histograms, write_metadata,
};
use crate::catalog::{BlockEntry, BlockKind};
use crate::head::{Head, HeadSeries};
use crate::model::{
    Exemplar, Labels, MetadataEntry, RAW_WINDOW_MS, Resolution, SeriesData, TimeRange, normalize_metadata,
};

/// zstd level of fresh blocks; compaction packs harder.
const FRESH_ZSTD_LEVEL: i32 = 3;

/// So many series are read from the head at once while a block is written. Histograms take some hundred bytes each.
const SERIES_AT_ONCE: usize = 64;

type Out<'a> = &'a mut HashingWriter<BufWriter<File>>;

/// Exemplars by series.
type Exemplars = [(Labels, Vec<Exemplar>)];

impl BlockTarget {
    /// Writes the block files of a head: samples, histograms and exemplars by raw window, and the metadata that is
    /// not in earlier blocks.
    pub(super) async fn build(
        &self,
        head: &Arc<Head>,
        positions: Vec<LogPositions>,
        columns: Columns,
    ) -> Result<PendingBlocks, CutError> {
        let (head, target) = (Arc::clone(head), self.clone());
        let build = move || {
            let series = head.sorted_series(block_order);
            let mut exemplars = head.exemplars(&[], TimeRange::ALL);
            exemplars.sort_by(|(a, _), (b, _)| block_order(a, b));
            let label_columns = match columns {
                Columns::Extended(known) => extend_label_columns(&known, all_labels(&series, &exemplars)),
                Columns::Only(known) => extend_label_columns(&known, std::iter::empty()),
            };
            let mut metadata = head.metadata();
            normalize_metadata(&mut metadata);
            let said = target.written_metadata.said(&metadata);
            target.written_metadata.retain_fresh(head.tenant(), &mut metadata);
            let built = PendingBlocks { label_columns: label_columns.clone(), said, blocks: Vec::new() };
            let mut builder = Builder { target, head, positions, label_columns, built };
            match builder.all(&series, &exemplars, &metadata) {
                Ok(()) => Ok(builder.built),
                Err(error) => {
                    // A full disk must not fill further with each attempt.
                    builder.built.discard();
                    Err(error)
                }
            }
        };
        self.cpu.run(build).await?
    }
}

/// Returns the labels of every series that has samples or exemplars, each once; both lists are in block order.
fn all_labels<'a>(series: &'a [HeadSeries], exemplars: &'a Exemplars) -> impl Iterator<Item = &'a Labels> {
    let mut others = exemplars.iter().map(|(labels, _)| labels).peekable();
    let mut own = series.iter().map(|s| &s.labels).peekable();
    std::iter::from_fn(move || match (own.peek(), others.peek()) {
        (Some(a), Some(b)) => match block_order(a, b) {
            Ordering::Less => own.next(),
            Ordering::Greater => others.next(),
            Ordering::Equal => own.next().and(others.next()),
        },
        _ => own.next().or_else(|| others.next()),
    })
}

struct Builder {
    target: BlockTarget,
    head: Arc<Head>,
    positions: Vec<LogPositions>,
    label_columns: Vec<String>,
    built: PendingBlocks,
}

impl Builder {
    fn all(
        &mut self,
        series: &[HeadSeries],
        exemplars: &Exemplars,
        metadata: &[MetadataEntry],
    ) -> Result<(), CutError> {
        let head = Arc::clone(&self.head);
        for start_ms in head.raw_windows() {
            let range = TimeRange { start_ms, end_ms: start_ms.saturating_add(RAW_WINDOW_MS) };
            let mut with_histograms = Vec::new();
            let runs = samples(&head, series, range, &mut with_histograms);
            let write = |out: Out<'_>, spec: &BlockSpec, runs: Peekable<_>| write_block(out, spec, runs);
            self.write_some(BlockKind::Samples, range, runs, write)?;
            let runs = histograms(&head, &with_histograms, range);
            let write = |out: Out<'_>, spec: &BlockSpec, runs: Peekable<_>| write_histograms(out, spec, runs);
            self.write_some(BlockKind::Histograms, range, runs, write)?;
            let own = exemplars.iter().map(|(labels, exemplars)| (labels.clone(), within(exemplars, range)));
            let own = own.filter(|(_, exemplars)| !exemplars.is_empty());
            let write = |out: Out<'_>, spec: &BlockSpec, own: Peekable<_>| write_exemplars(out, spec, own);
            self.write_some(BlockKind::Exemplars, range, own, write)?;
        }
        if !metadata.is_empty() {
            let write = |out: Out<'_>, spec: &BlockSpec| write_metadata(out, spec, metadata);
            self.write(BlockKind::Metadata, TimeRange::ALL, write)?;
        }
        Ok(())
    }

    /// Writes a file, unless there is nothing for it.
    fn write_some<I: Iterator>(
        &mut self,
        kind: BlockKind,
        range: TimeRange,
        content: I,
        write: impl FnOnce(Out<'_>, &BlockSpec, Peekable<I>) -> Result<BlockStats, BlockError>,
    ) -> Result<(), CutError> {
        let mut content = content.peekable();
        match content.peek() {
            Some(_) => self.write(kind, range, |out, spec| write(out, spec, content)),
            None => Ok(()),
        }
    }

    fn write(
        &mut self,
        kind: BlockKind,
        range: TimeRange,
        write: impl FnOnce(Out<'_>, &BlockSpec) -> Result<BlockStats, BlockError>,
    ) -> Result<(), CutError> {
        let spec = self.spec(range);
        let path = self.target.pending_dir.join(format!("{}.parquet", spec.id));
        let failed = |source| CutError::File { path: path.clone(), source };
        let write = || {
            let file = File::create(&path).map_err(failed)?;
            let mut out = HashingWriter::new(BufWriter::new(file));
            let stats = write(&mut out, &spec)?;
            let (mut file, size_bytes, sha256) = out.finish();
            file.flush().map_err(failed)?;
            Ok::<_, CutError>((stats, size_bytes, sha256))
        };
        let written = write();
        if written.is_err() {
            let _ = std::fs::remove_file(&path);
        }
        let (stats, size_bytes, sha256) = written?;
        let entry =
            BlockEntry::of_file((spec, kind), stats, (size_bytes, sha256), self.target.clock.now_ms());
        self.built.blocks.push(PendingBlock { path, entry });
        Ok(())
    }

    fn spec(&self, range: TimeRange) -> BlockSpec {
        BlockSpec {
            id: self.target.random.ulid(self.target.clock.now_ms()),
            tenant: self.head.tenant().clone(),
            resolution: Resolution::Raw,
            range,
            external_labels: self.target.external_labels.clone(),
            label_columns: self.label_columns.clone(),
            positions: self.positions.clone(),
            sources: Vec::new(),
            zstd_level: FRESH_ZSTD_LEVEL,
        }
    }
}

/// Returns the float samples of a window by series, and notes which series have histograms in it.
fn samples<'a>(
    head: &Head,
    series: &'a [HeadSeries],
    range: TimeRange,
    with_histograms: &mut Vec<&'a HeadSeries>,
) -> impl Iterator<Item = SeriesRun> {
    series.chunks(SERIES_AT_ONCE).flat_map(move |slice| {
        let mut runs = Vec::new();
        for (series, data) in slice.iter().zip(read(head, slice.iter(), range)) {
            if !data.histograms.is_empty() {
                with_histograms.push(series);
            }
            if !data.samples.is_empty() {
                runs.push(SeriesRun { labels: series.labels.clone(), samples: data.samples });
            }
        }
        runs
    })
}

fn histograms(head: &Head, series: &[&HeadSeries], range: TimeRange) -> impl Iterator<Item = HistogramRun> {
    series.chunks(SERIES_AT_ONCE).flat_map(move |slice| {
        let data = read(head, slice.iter().copied(), range);
        let run = |(series, data): (&&HeadSeries, SeriesData)| HistogramRun {
            labels: series.labels.clone(),
            histograms: data.histograms,
        };
        slice.iter().zip(data).map(run).collect::<Vec<_>>()
    })
}

fn read<'a>(head: &Head, series: impl Iterator<Item = &'a HeadSeries>, range: TimeRange) -> Vec<SeriesData> {
    head.read(&series.map(|s| s.series).collect::<Vec<u32>>(), range)
}

/// Returns the exemplars of a range; they are sorted by time.
fn within(exemplars: &[Exemplar], range: TimeRange) -> Vec<Exemplar> {
    let first = exemplars.partition_point(|e| e.ts_ms < range.start_ms);
    let end = exemplars.partition_point(|e| e.ts_ms < range.end_ms || range.end_ms == i64::MAX);
    exemplars[first..end.max(first)].to_vec()
}
