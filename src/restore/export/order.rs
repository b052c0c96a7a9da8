//! The series of one span of time in the order of a block, read in batches.

use std::ops::Range;

use super::ExportError;
use crate::model::{Labels, Matcher, SeriesData, TenantId, TimeRange};
use crate::select::{Grouping, Selection, Selector, remaining_matchers};

/// A batch is read whole: 24 bytes a sample in memory, two batches at once.
const BATCH_SAMPLES_MAX: u64 = 1 << 18;

/// Series without many samples must not make batches huge.
const BATCH_SERIES_MAX: usize = 1 << 14;

/// What is exported of a tenant.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) tenant: TenantId,
    /// One list of matchers per selector; a series that satisfies any of them is wanted. None: every series.
    pub(super) selectors: Vec<Vec<Matcher>>,
    /// Whether series get the labels of their producer.
    pub(super) external_labels: bool,
}

/// Some series in order, with their samples.
pub(super) type Batch = Vec<(Labels, SeriesData)>;

#[derive(Debug)]
struct OrderedSeries {
    /// As in the block.
    labels: Labels,
    selection: u32,
    index: u32,
}

/// Series sorted by their final label set. Equal ones follow each other and become one series.
#[derive(Debug)]
pub(super) struct SeriesOrder {
    selections: Vec<Selection>,
    series: Vec<OrderedSeries>,
}

impl SeriesOrder {
    /// Finds the wanted series that may have samples in `range`.
    pub(super) async fn find(
        selector: &Selector,
        wanted: &Wanted,
        range: TimeRange,
    ) -> Result<Self, ExportError> {
        let everything = [Vec::new()];
        let selectors = if wanted.selectors.is_empty() { &everything[..] } else { &wanted.selectors };
        let grouping = if wanted.external_labels { Grouping::ByExternalLabels } else { Grouping::Merged };
        let mut selections = Vec::new();
        for matchers in selectors {
            // Labels that the block will carry can be asked for.
            let matchers_for = |external: &Labels| match grouping {
                Grouping::Merged => Some(matchers.clone()),
                Grouping::ByExternalLabels => remaining_matchers(matchers, external),
            };
            selections.extend(selector.select(&wanted.tenant, range, &matchers_for, grouping).await?);
        }
        Ok(selector.cpu().run(move || Self::sorted(selections)).await?)
    }

    fn sorted(selections: Vec<Selection>) -> Self {
        let mut all: Vec<(OrderedSeries, &Labels, &Labels)> = Vec::new();
        for (selection, from) in (0u32..).zip(&selections) {
            let external = from.external_labels();
            all.extend((0u32..).zip(from.labels()).map(|(index, own)| {
                let labels = if external.is_empty() { own.clone() } else { own.with_external(external, &[]) };
                (OrderedSeries { labels, selection, index }, external, own)
            }));
        }
        all.sort_by(|a, b| (&a.0.labels, a.1, a.2).cmp(&(&b.0.labels, b.1, b.2)));
        // A series that satisfies several selectors is found once by each, with the same samples.
        all.dedup_by(|next, kept| next.1 == kept.1 && next.2 == kept.2);
        let series = all.into_iter().map(|(series, ..)| series).collect();
        Self { selections, series }
    }

    /// Returns the number of series; equal label sets count each.
    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    /// Returns the series from `start` on that are read at once.
    pub(super) fn batch_from(&self, start: usize) -> Range<usize> {
        let (mut end, mut samples) = (start, 0u64);
        for series in self.series[start..].iter().take(BATCH_SERIES_MAX) {
            let selection = &self.selections[series.selection as usize];
            samples = samples.saturating_add(selection.series_samples_max(series.index as usize));
            if samples > BATCH_SAMPLES_MAX && end > start {
                break;
            }
            end += 1;
        }
        let last = self.series[start..end].last().map(|series| &series.labels);
        let equal = |series: &&OrderedSeries| last == Some(&series.labels);
        let rest = self.series[end..].iter().take_while(equal).count();
        start..end + rest
    }

    /// Reads a batch.
    pub(super) async fn read(&self, batch: Range<usize>) -> Result<Batch, ExportError> {
        let mut wanted: Vec<(Vec<usize>, Vec<usize>)> = vec![Default::default(); self.selections.len()];
        for (slot, series) in self.series[batch.clone()].iter().enumerate() {
            let (indexes, slots) = &mut wanted[series.selection as usize];
            indexes.push(series.index as usize);
            slots.push(slot);
        }
        let mut runs = vec![SeriesData::default(); batch.len()];
        for ((indexes, slots), selection) in wanted.into_iter().zip(&self.selections) {
            if !indexes.is_empty() {
                let read = selection.read(&indexes).await?;
                slots.into_iter().zip(read).for_each(|(slot, run)| runs[slot] = run);
            }
        }
        let mut merged: Vec<(Labels, Vec<SeriesData>)> = Vec::with_capacity(batch.len());
        for (series, run) in self.series[batch].iter().zip(runs) {
            match merged.last_mut() {
                Some((labels, runs)) if *labels == series.labels => runs.push(run),
                _ => merged.push((series.labels.clone(), vec![run])),
            }
        }
        Ok(merged.into_iter().map(|(labels, runs)| (labels, SeriesData::merge(runs))).collect())
    }
}
