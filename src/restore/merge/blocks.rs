//! Reads both directories series by series and writes the blocks that fill.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::holes::{fill, times_of};
use crate::model::{Labels, Matcher, SeriesData, TenantId, TimeRange, Ulid};
use crate::restore::context::RestoreContext;
use crate::restore::error::RestoreError;
use crate::restore::finish::{FORMAT, first_format};
use crate::restore::head::{FilesInFolder, block_id};
use crate::restore::progress::Phase;
use crate::restore::tombstones::block_error;
use crate::restore::workplace::sync_dirs;
use crate::select::{Grouping, SelectError, SelectLimits, Selection, Selector, TsdbBlocks};
use crate::tsdb::block::{BlockBuilder, BlockOptions, HINT_FROM_OUT_OF_ORDER, SeriesChunks};

/// As long as the first blocks that a server cuts.
const RANGE_MS: i64 = 2 * 3_600_000;

/// A batch is read whole, from both sides.
const BATCH_SAMPLES_MAX: u64 = 1 << 20;

const BATCH_SERIES_MAX: usize = 1 << 13;

/// What filled.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Filled {
    #[serde(default = "first_format")]
    format: u32,
    pub(super) series: u64,
    pub(super) samples: u64,
    pub(super) blocks: usize,
}

impl Default for Filled {
    fn default() -> Self {
        Self { format: FORMAT, series: 0, samples: 0, blocks: 0 }
    }
}

/// One of the directories.
struct Side {
    selection: Option<Selection>,
}

impl Side {
    async fn open(context: &RestoreContext, folder: &Path) -> Result<Self, RestoreError> {
        let path = folder.to_owned();
        let blocks = match context.cpu.run(move || TsdbBlocks::open(&path)).await? {
            Ok(blocks) => Arc::new(blocks),
            Err(SelectError::NoTsdbBlocks(_)) => return Ok(Self { selection: None }),
            Err(error) => return Err(error.into()),
        };
        let tenant = TenantId::new("merge").map_err(|e| RestoreError::Invalid(e.to_string()))?;
        let shown_as = (tenant.clone(), Labels::empty());
        let limits = SelectLimits::NONE;
        let selector = Selector::over_directory(blocks, shown_as, context.cpu.clone(), limits);
        let all = |_: &Labels| -> Option<Vec<Matcher>> { Some(Vec::new()) };
        let selections = selector.select(&tenant, TimeRange::ALL, &all, Grouping::Merged).await?;
        Ok(Self { selection: selections.into_iter().next() })
    }
}

/// Compares two restored directories and writes what fills the holes of the first.
pub(super) async fn fill_blocks(
    context: &RestoreContext,
    first: &Path,
    other: &Path,
    fill_dir: &Path,
    seed: Arc<str>,
) -> Result<Filled, RestoreError> {
    let (ours, theirs) = (Side::open(context, first).await?, Side::open(context, other).await?);
    let mut writer =
        FillWriter { folder: fill_dir.to_owned(), seed, open: BTreeMap::new(), filled: Filled::default() };
    let Some(selection) = &theirs.selection else { return Ok(Filled::default()) };
    context.progress.begin(Phase::Compare, selection.len() as u64);
    let labels: Vec<Labels> = selection.labels().cloned().collect();
    let mut start = 0;
    while start < labels.len() {
        let end = batch_end(selection, start);
        let batch: Vec<usize> = (start..end).collect();
        let samples = selection.read(&batch).await?;
        let own = read_own(&ours, &labels[start..end]).await?;
        let names = labels[start..end].to_vec();
        writer = context.cpu.run(move || writer.take(&names, own, samples).map(|()| writer)).await??;
        context.progress.advance((end - start) as u64);
        start = end;
    }
    let filled = context.cpu.run(move || writer.finish()).await??;
    context.progress.end();
    Ok(filled)
}

fn batch_end(selection: &Selection, start: usize) -> usize {
    let (mut end, mut samples) = (start, 0_u64);
    while end < selection.len() && end - start < BATCH_SERIES_MAX {
        samples = samples.saturating_add(selection.series_samples_max(end));
        if samples > BATCH_SAMPLES_MAX && end > start {
            break;
        }
        end += 1;
    }
    end
}

/// Reads what the first has of some series, sorted as they are.
async fn read_own(ours: &Side, labels: &[Labels]) -> Result<Vec<SeriesData>, RestoreError> {
    let mut own = vec![SeriesData::default(); labels.len()];
    let Some(selection) = &ours.selection else { return Ok(own) };
    let (mut wanted, mut slots) = (Vec::new(), Vec::new());
    let mut places = selection.labels().enumerate().peekable();
    for (slot, labels) in labels.iter().enumerate() {
        while places.next_if(|(_, have)| *have < labels).is_some() {}
        if let Some((place, _)) = places.next_if(|(_, have)| *have == labels) {
            wanted.push(place);
            slots.push(slot);
        }
    }
    let read = selection.read(&wanted).await?;
    slots.into_iter().zip(read).for_each(|(slot, data)| own[slot] = data);
    Ok(own)
}

/// The blocks under construction, by number of their range.
#[derive(Debug)]
struct FillWriter {
    folder: PathBuf,
    seed: Arc<str>,
    open: BTreeMap<i64, (Ulid, BlockBuilder<FilesInFolder>)>,
    filled: Filled,
}

impl FillWriter {
    fn take(
        &mut self,
        labels: &[Labels],
        own: Vec<SeriesData>,
        other: Vec<SeriesData>,
    ) -> Result<(), RestoreError> {
        for (labels, (own, other)) in labels.iter().zip(own.into_iter().zip(other)) {
            let filling = fill(&times_of(&own), other);
            if filling.is_empty() {
                continue;
            }
            self.filled.series += 1;
            self.filled.samples += filling.len() as u64;
            for (window, run) in by_window(filling) {
                self.add(labels, window, &run)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, labels: &Labels, window: i64, run: &SeriesData) -> Result<(), RestoreError> {
        if !self.open.contains_key(&window) {
            let id = block_id(&self.seed, &format!("fill {window}"), window.saturating_mul(RANGE_MS));
            let files = FilesInFolder::create(&self.folder.join(id.to_string()))?;
            let hints = vec![HINT_FROM_OUT_OF_ORDER.to_owned()];
            let options = BlockOptions { hints, ..BlockOptions::level_one(id) };
            self.open.insert(window, (id, BlockBuilder::new(files, options)));
        }
        let Some((id, builder)) = self.open.get_mut(&window) else { return Ok(()) };
        let mut chunks = SeriesChunks::new();
        let pushed = chunks.push_all(&run.samples, &run.histograms);
        pushed.map_err(|error| RestoreError::Damaged {
            what: format!("a native histogram of {labels} in the archive"),
            reason: error.to_string(),
        })?;
        let added = builder.add(labels, &mut chunks);
        added.map_err(|source| RestoreError::Block { block: id.to_string(), source })
    }

    fn finish(self) -> Result<Filled, RestoreError> {
        let mut filled = self.filled;
        for (id, builder) in self.open.into_values() {
            let folder = self.folder.join(id.to_string());
            builder.finish().map_err(|source| block_error(&folder, source))?;
            sync_dirs(&folder)?;
            filled.blocks += 1;
        }
        Ok(filled)
    }
}

/// Splits samples by the range that their block covers.
fn by_window(data: SeriesData) -> BTreeMap<i64, SeriesData> {
    let mut windows: BTreeMap<i64, SeriesData> = BTreeMap::new();
    for sample in data.samples {
        windows.entry(sample.ts_ms.div_euclid(RANGE_MS)).or_default().samples.push(sample);
    }
    for sample in data.histograms {
        windows.entry(sample.ts_ms.div_euclid(RANGE_MS)).or_default().histograms.push(sample);
    }
    windows
}
