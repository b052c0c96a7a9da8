//! Selected series and their samples.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};

use super::error::SelectError;
use super::tsdb_blocks::{TsdbBlock, TsdbSeries};
use crate::block::{BlockReader, BlockRow};
use crate::catalog::{BlockEntry, BlockKind};
use crate::head::{Head, HeadSeries};
use crate::model::{Labels, Sample, SeriesData, TimeRange, Ulid};
use crate::runtime::Cpu;

/// So many sources are read at once: each keeps connections and buffers busy.
pub(super) const SOURCES_AT_ONCE: usize = 16;

/// Where series may be.
#[derive(Debug)]
pub(super) enum Source {
    Head(Arc<Head>),
    Unopened(Arc<BlockEntry>),
    Tsdb(Arc<TsdbBlock>),
}

/// A source that holds selected series.
#[derive(Debug, Clone)]
enum OpenSource {
    Head(Arc<Head>),
    Block(BlockReader, Ulid),
    Histograms(BlockReader, Ulid),
    Tsdb(Arc<TsdbBlock>),
}

/// A series that a source holds.
#[derive(Debug)]
struct FoundSeries {
    labels: Labels,
    /// Its number within the source.
    number: u32,
    size: Size,
}

/// How much a series holds at most: samples, and the bytes of memory that they take once they are read.
#[derive(Debug, Clone, Copy)]
struct Size {
    samples: u64,
    bytes: u64,
}

/// The series that one source holds.
#[derive(Debug)]
pub(super) struct Found {
    source: OpenSource,
    series: Vec<FoundSeries>,
}

impl Found {
    pub(super) fn in_head(series: Vec<HeadSeries>, head: Arc<Head>) -> Self {
        let series = series.into_iter().map(|found| {
            let size = Size { samples: found.samples_max as u64, bytes: found.bytes_max as u64 };
            FoundSeries { labels: found.labels, number: found.series, size }
        });
        Self { source: OpenSource::Head(head), series: series.collect() }
    }

    pub(super) fn in_block(rows: Vec<BlockRow>, reader: BlockReader, entry: &BlockEntry) -> Self {
        let series = rows.into_iter().map(|row| {
            let size = Size { samples: u64::from(row.samples), bytes: reader.read_bytes(&row) };
            FoundSeries { labels: row.labels, number: row.row, size }
        });
        let series = series.collect();
        let source = match entry.kind {
            BlockKind::Histograms => OpenSource::Histograms(reader, entry.id),
            _ => OpenSource::Block(reader, entry.id),
        };
        Self { source, series }
    }

    pub(super) fn in_tsdb(series: Vec<TsdbSeries>, block: Arc<TsdbBlock>) -> Self {
        // What a chunk holds is not known before it is read: floats as a rule.
        let size = |samples| Size { samples, bytes: samples * size_of::<Sample>() as u64 };
        let series = series.into_iter().map(|(labels, number, samples)| FoundSeries {
            labels,
            number,
            size: size(samples),
        });
        Self { source: OpenSource::Tsdb(block), series: series.collect() }
    }
}

/// A number within a source.
#[derive(Debug, Clone, Copy)]
struct Place {
    source: u32,
    number: u32,
}

#[derive(Debug)]
struct SelectedSeries {
    labels: Labels,
    places: Range<u32>,
    size: Size,
}

/// Series sorted by label set, with references to their samples.
#[derive(Debug)]
pub struct Selection {
    external_labels: Labels,
    range: TimeRange,
    sources: Vec<OpenSource>,
    series: Vec<SelectedSeries>,
    places: Vec<Place>,
    cpu: Option<Cpu>,
}

impl Selection {
    /// Sorts what the sources found and joins equal label sets.
    pub(super) fn merge((external_labels, range): (Labels, TimeRange), found: Vec<Found>) -> Self {
        let mut all = Vec::with_capacity(found.iter().map(|f| f.series.len()).sum());
        let mut sources = Vec::with_capacity(found.len());
        for (source, found) in (0u32..).zip(found) {
            let series = found.series.into_iter();
            all.extend(series.map(|s| (s.labels, Place { source, number: s.number }, s.size)));
            sources.push(found.source);
        }
        // Stable, so that a series' places stay in the order of sources and rows.
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let (mut series, mut places) = (Vec::<SelectedSeries>::new(), Vec::with_capacity(all.len()));
        for (labels, place, size) in all {
            let at = places.len() as u32;
            places.push(place);
            match series.last_mut() {
                Some(last) if last.labels == labels => {
                    last.places.end = at + 1;
                    last.size.samples = last.size.samples.saturating_add(size.samples);
                    last.size.bytes = last.size.bytes.saturating_add(size.bytes);
                }
                _ => series.push(SelectedSeries { labels, places: at..at + 1, size }),
            }
        }
        Self { external_labels, range, sources, series, places, cpu: None }
    }

    pub(super) fn with_cpu(mut self, cpu: Cpu) -> Self {
        self.cpu = Some(cpu);
        self
    }

    /// Returns the threads that decode and merge.
    #[must_use]
    pub fn cpu(&self) -> &Cpu {
        self.cpu.as_ref().expect("a selection is handed out with its compute threads")
    }

    /// Returns the external labels that the series share; empty in a merged selection.
    #[must_use]
    pub fn external_labels(&self) -> &Labels {
        &self.external_labels
    }

    /// Returns the number of series.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Returns whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Returns an upper bound of all samples.
    #[must_use]
    pub fn samples_max(&self) -> u64 {
        self.series.iter().map(|s| s.size.samples).fold(0, u64::saturating_add)
    }

    /// Returns an upper bound of a series' samples.
    #[must_use]
    pub fn series_samples_max(&self, index: usize) -> u64 {
        self.series[index].size.samples
    }

    /// Returns about how many bytes of memory the samples of a series take at most once they are read.
    #[must_use]
    pub fn series_bytes_max(&self, index: usize) -> u64 {
        self.series[index].size.bytes
    }

    /// Iterates over the label sets, sorted, without external labels.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = &Labels> {
        self.series.iter().map(|s| &s.labels)
    }

    /// Reads the samples of some series (by their place in the selection) within the selected range, each sorted and
    /// with one value per timestamp, in the order asked for.
    ///
    /// # Errors
    /// Blocks that cannot be read.
    pub async fn read(&self, wanted: &[usize]) -> Result<Vec<SeriesData>, SelectError> {
        Ok(self.read_apart(wanted).await?.into_iter().map(SeriesData::join).collect())
    }

    /// Reads as [`Self::read`] does, each series in the parts that [`SeriesData::merge_apart`] leaves.
    ///
    /// # Errors
    /// Blocks that cannot be read.
    pub async fn read_apart(&self, wanted: &[usize]) -> Result<Vec<Vec<SeriesData>>, SelectError> {
        let cpu = self.cpu();
        let mut by_source: BTreeMap<u32, Vec<(u32, usize)>> = BTreeMap::new();
        for (slot, series) in wanted.iter().enumerate() {
            let places = self.series[*series].places.clone();
            for place in &self.places[places.start as usize..places.end as usize] {
                by_source.entry(place.source).or_default().push((place.number, slot));
            }
        }
        let reads = by_source.into_iter().map(|(source, mut numbers)| {
            numbers.sort_unstable();
            let source = self.sources[source as usize].clone();
            async move {
                let asked: Vec<u32> = numbers.iter().map(|(number, _)| *number).collect();
                let runs = source.read(asked, self.range, cpu).await?;
                Ok::<_, SelectError>(numbers.into_iter().map(|(_, slot)| slot).zip(runs).collect::<Vec<_>>())
            }
        });
        let reads = futures::stream::iter(reads.collect::<Vec<_>>()).buffered(SOURCES_AT_ONCE);
        let runs: Vec<Vec<(usize, SeriesData)>> = reads.try_collect().await?;
        let (slots, range) = (wanted.len(), self.range);
        Ok(cpu.run(move || merge_runs(runs, slots, range)).await?)
    }
}

impl OpenSource {
    async fn read(
        &self,
        numbers: Vec<u32>,
        range: TimeRange,
        cpu: &Cpu,
    ) -> Result<Vec<SeriesData>, SelectError> {
        match self {
            Self::Head(head) => {
                let head = Arc::clone(head);
                Ok(cpu.run(move || head.read(&numbers, range)).await?)
            }
            Self::Tsdb(block) => {
                let block = Arc::clone(block);
                cpu.run(move || block.read(&numbers, range)).await?
            }
            Self::Block(reader, id) => {
                let read = reader.read_samples(&numbers).await;
                let read = read.map_err(|source| SelectError::of_block(*id, source))?;
                Ok(read.into_iter().map(SeriesData::floats).collect())
            }
            Self::Histograms(reader, id) => {
                let read = reader.read_histograms(&numbers).await;
                let read = read.map_err(|source| SelectError::Block { id: *id, source })?;
                let data = read.into_iter().map(|histograms| SeriesData { samples: Vec::new(), histograms });
                Ok(data.collect())
            }
        }
    }
}

/// Merges what each source holds of each series, sources in turn; one may hold a series in several rows.
fn merge_runs(
    sources: Vec<Vec<(usize, SeriesData)>>,
    slots: usize,
    range: TimeRange,
) -> Vec<Vec<SeriesData>> {
    let mut by_slot: Vec<Vec<(usize, Vec<SeriesData>)>> = (0..slots).map(|_| Vec::new()).collect();
    for (source, runs) in sources.into_iter().enumerate() {
        for (slot, mut run) in runs {
            run.clip(range);
            match by_slot[slot].last_mut() {
                Some((last, rows)) if *last == source => rows.push(run),
                _ => by_slot[slot].push((source, vec![run])),
            }
        }
    }
    let of_source = |(_, rows): (usize, Vec<SeriesData>)| SeriesData::merge(rows);
    let merge = |runs: Vec<_>| SeriesData::merge_apart(runs.into_iter().map(of_source).collect());
    by_slot.into_iter().map(merge).collect()
}
