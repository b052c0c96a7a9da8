//! A Prometheus data directory out of a tenant's blocks.
//!
//! **Vocabulary**: a *slot* is the aligned time of one block that is made; a *span* is a run of slots that are
//! written in one pass, because our blocks hold a series in rows of eight hours; an *order* has the series of a span,
//! sorted; a *batch* is what is read of it at once.
//!
//! **Flow**
//! 1. The time asked for is divided into spans where the tenant has blocks.
//! 2. Per span: find the series of all selectors, sort them as a Prometheus block wants them, read them batch by
//!    batch; each batch goes into the blocks of its slots while the next one is read.
//! 3. The blocks are made durable, and the directory moves to its place by one rename.
//!
//! **Invariants**
//! - Samples go through `select`: what is exported is what a query reads, floats and native histograms with every bit, one
//!   value per time.
//! - Memory holds the label sets of one span, two batches, and what the open blocks gather for their indexes.
//! - A slot without samples makes no block; no block is empty.
//! - The directory is never seen half written, and one that holds anything is never touched.
//!
//! **Crash consistency** A crash leaves `<directory>.partial`, which the next run with the same target empties; a lock
//! on it keeps two runs apart.
//!
//! What it does not do: head and log. What receivers hold in memory is not in the bucket before their next cut.

mod error;
mod order;
mod slots;
mod spans;
mod target;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

pub use error::ExportError;
pub use slots::ExportedBlock;

use self::order::{SeriesOrder, Wanted};
use self::slots::SlotWriter;
use self::spans::{Span, plan_spans};
use self::target::Target;
use crate::model::{Matcher, TenantId, TimeRange};
use crate::runtime::{Clock, Random};
use crate::select::Selector;

/// What is to be exported, and where to.
#[derive(Debug, Clone)]
pub struct ExportRequest {
    /// Whose samples.
    pub tenant: TenantId,
    /// Selectors of which a series must satisfy one; none for all series.
    pub selectors: Vec<Vec<Matcher>>,
    /// The time of the samples.
    pub range: TimeRange,
    /// How much time a block covers at most, aligned to the epoch.
    pub block_ms: i64,
    /// Whether series get the labels of their producer, which no stored series carries itself.
    pub external_labels: bool,
    /// The directory to make.
    pub to: PathBuf,
}

/// How far an export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExportProgress {
    /// Work done, in thousandths of a span.
    pub done: u64,
    /// All work, in thousandths of a span.
    pub total: u64,
    /// Samples written.
    pub samples: u64,
}

/// What was exported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportReport {
    /// The blocks, oldest first.
    pub blocks: Vec<ExportedBlock>,
}

impl ExportReport {
    /// Returns the number of samples in all blocks.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.blocks.iter().map(|block| block.samples).sum()
    }

    /// Returns the size of all blocks.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.blocks.iter().map(|block| block.size_bytes).sum()
    }
}

/// Told of progress after every batch.
pub type ProgressCall<'a> = &'a (dyn Fn(ExportProgress) + Send + Sync);

/// Builds data directories out of what a selector finds.
#[derive(Debug, Clone)]
pub struct Exporter {
    selector: Selector,
    clock: Arc<dyn Clock>,
    random: Random,
}

impl Exporter {
    /// Prepares exports of what the selector finds in blocks.
    #[must_use]
    pub fn new(selector: Selector, clock: Arc<dyn Clock>, random: Random) -> Self {
        Self { selector, clock, random }
    }

    /// Exports; the directory is there only if this succeeds.
    ///
    /// # Errors
    /// A target that is in use, no samples at all, blocks that cannot be read, files that cannot be written.
    pub async fn run(
        &self,
        request: &ExportRequest,
        progress: ProgressCall<'_>,
    ) -> Result<ExportReport, ExportError> {
        let place = request.to.clone();
        let target = self.selector.cpu().run(move || Target::create(&place)).await??;
        let data = self.selector.raw_ranges(&request.tenant).await?;
        let spans = plan_spans(request.range, request.block_ms.max(1), &data);
        let mut now = ExportProgress { total: spans.len() as u64 * 1_000, ..ExportProgress::default() };
        let mut report = ExportReport::default();
        let wanted = Wanted {
            tenant: request.tenant.clone(),
            selectors: request.selectors.clone(),
            external_labels: request.external_labels,
        };
        for (number, span) in (0u64..).zip(spans) {
            now.done = number * 1_000;
            progress(now);
            let order = SeriesOrder::find(&self.selector, &wanted, span.range).await?;
            report.blocks.extend(self.write_span(span, order, target.folder(), (&mut now, progress)).await?);
        }
        if report.blocks.is_empty() {
            return Err(ExportError::Nothing(request.tenant.clone()));
        }
        let finish = move || {
            // `promtool tsdb dump` refuses a directory without a log.
            let log = target.folder().join("wal");
            std::fs::create_dir(&log).map_err(|e| ExportError::io(&log, e))?;
            target.finish()
        };
        self.selector.cpu().run(finish).await??;
        progress(ExportProgress { done: now.total, ..now });
        Ok(report)
    }

    /// Writes the blocks of a span. While a batch is encoded and written, the next one is read.
    async fn write_span(
        &self,
        span: Span,
        order: SeriesOrder,
        folder: &std::path::Path,
        (now, progress): (&mut ExportProgress, ProgressCall<'_>),
    ) -> Result<Vec<ExportedBlock>, ExportError> {
        let now_ms = self.clock.now_ms();
        let slots = span.slots.into_iter().map(|slot| (slot, self.random.ulid(now_ms)));
        let mut writer = SlotWriter::new(folder, slots);
        let read = |start: usize| {
            let (order, range) = (&order, order.batch_from(start));
            async move {
                let batch = if range.is_empty() { None } else { Some(order.read(range.clone()).await?) };
                Ok::<(Option<order::Batch>, Range<usize>), ExportError>((batch, range))
            }
        };
        let done_before = now.done;
        let (mut batch, mut range) = read(0).await?;
        while let Some(current) = batch {
            let writing = self.selector.cpu().run(move || {
                let written = writer.append(&current);
                (writer, written)
            });
            let (written, next) = tokio::join!(writing, read(range.end));
            let samples;
            (writer, samples) = written?;
            now.samples += samples?;
            now.done = done_before + 1_000 * range.end as u64 / order.len().max(1) as u64;
            progress(*now);
            (batch, range) = next?;
        }
        self.selector.cpu().run(move || writer.finish()).await?
    }
}
