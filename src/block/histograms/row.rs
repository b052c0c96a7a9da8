//! How a run of histograms is cut into rows.

use super::layout::{Layout, Shape, is_bare};
use crate::block::row::ROW_SAMPLES_MAX;
use crate::model::{HistogramSample, Labels, NativeHistogram, TimeRange};

/// The most bucket counts in one row, NULLs included.
const ROW_BUCKETS_MAX: usize = 1 << 18;
/// A row may hold this many NULLs however few buckets its samples have.
const ROW_NULLS_FREE: usize = 4_096;

/// One series with its histograms, sorted by time, one per timestamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramRun {
    /// The series' labels.
    pub labels: Labels,
    /// Its samples that are histograms.
    pub histograms: Vec<HistogramSample>,
}

/// Samples that become one row.
#[derive(Debug)]
pub(super) struct HistogramRow<'a> {
    pub(super) layout: Layout,
    pub(super) samples: &'a [HistogramSample],
}

/// Cuts a run into rows: at aligned 8 h windows, after [`ROW_SAMPLES_MAX`] samples, and where samples do not fit into
/// one layout.
pub(super) fn split_rows(mut samples: &[HistogramSample]) -> impl Iterator<Item = HistogramRow<'_>> {
    std::iter::from_fn(move || {
        let window = TimeRange::raw_window(samples.first()?.ts_ms);
        // The window at the end of time is cut short by saturation and holds what is left.
        let inside = samples.partition_point(|s| s.ts_ms < window.end_ms || window.end_ms == i64::MAX);
        let (layout, len) = first_row(&samples[..inside.min(ROW_SAMPLES_MAX)]);
        let (row, rest) = samples.split_at(len);
        samples = rest;
        Some(HistogramRow { layout, samples: row })
    })
}

/// Returns how many samples the first row takes, at least one, and their layout.
fn first_row(samples: &[HistogramSample]) -> (Layout, usize) {
    let float = samples.first().is_some_and(|s| matches!(s.histogram, NativeHistogram::Float(_)));
    let mut layout: Option<Layout> = None;
    let mut held = 0;
    let mut len = 0;
    for sample in samples {
        let Some(wider) = wider_layout(layout.as_ref(), sample, float) else { break };
        let shape = Shape::of(&sample.histogram);
        let buckets = wider.as_ref().or(layout.as_ref()).map_or(0, Layout::buckets);
        let (space, filled) = (buckets.saturating_mul(len + 1), held + shape.buckets());
        let fits = space <= ROW_BUCKETS_MAX && space <= filled.saturating_mul(2) + ROW_NULLS_FREE;
        if !fits && len > 0 {
            break;
        }
        layout = wider.or(layout);
        (held, len) = (filled, len + 1);
    }
    (layout.unwrap_or_else(|| Layout { float, ..Layout::default() }), len)
}

/// Returns the layout that a row needs to take a sample in, `Some(None)` where it has that already, and `None` where
/// no layout holds both.
fn wider_layout(layout: Option<&Layout>, sample: &HistogramSample, float: bool) -> Option<Option<Layout>> {
    let shape = Shape::of(&sample.histogram);
    match layout {
        _ if shape.float != float => None,
        _ if is_bare(sample) => Some(None),
        None => Some(Some(Layout::new(&shape))),
        Some(known) if known.is(&shape) => Some(None),
        Some(known) => known.union(&shape).map(Some),
    }
}
