//! The drill: restores a random moment, starts the real Prometheus on it, and compares what it answers with what was
//! recorded while it was archived.
//!
//! Nothing that made the restore takes part in the proof: the numbers were added up when the records were first read
//! ([`crate::archive::DigestBuilder`]), and what is compared comes out of Prometheus' own storage over remote read.
//!
//! Flow
//! 1. A seed chooses a time of the window that can be restored without a hole, if possible one with digests before it.
//! 2. It is restored into a temporary directory, as `restore run --as-of` would.
//! 3. Prometheus is started there, on a port of its own, without scraping and without retention.
//! 4. Each range that has a whole digest at or before the restored position is read and compared, series by series.
//! 5. The server is stopped and the directory removed, whatever came out, also where the drill is given up.
//!
//! **Invariants**
//! - A sample that was archived before the position and is not answered, or answered with another value, is a
//!   difference; so is a log that the server had to repair.
//! - Only what is known to have been deleted before that time, or lost with its block, explains missing samples, and
//!   only in the times it covered. Only late samples explain further ones. Both are counted apart.
//! - A drill that found no series equal has proven nothing: it is no success.
//!
//! **Crash consistency** A drill that is killed leaves its directory, whose name begins with `perennial-drill-`.
//!
//! What it does not do: compare histograms, exemplars or metadata, of which there are no digests; tell whether a delete
//! was carried out, as digests count what was written.

mod compare;
mod ranges;
mod read;
mod server;
mod taken;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::Serialize;

use super::context::RestoreContext;
use super::error::RestoreError;
use super::plan::plan;
use super::progress::Phase;
use super::request::RestoreRequest;
use super::run::run;
use super::scratch::Scratch;
use crate::archive::{ArchiveError, ArchiveView, Resolved, Target};
use crate::model::{ErrorKind, SourceName, format_time_ms};
use crate::runtime::random_from_seed;

use compare::Tally;
use ranges::{Recorded, comparable};
use server::DrillServer;

pub use compare::SeriesDifference;

/// How often a time is drawn before the drill gives up.
const DRAWS_MAX: usize = 32;

/// What a drill is asked for.
#[derive(Debug, Clone)]
pub struct DrillSettings {
    /// The program to start.
    pub prometheus: PathBuf,
    /// Where the temporary directory is made.
    pub to: PathBuf,
    /// What decides the time.
    pub seed: u64,
    /// This time, in place of a random one.
    pub as_of_ms: Option<i64>,
}

/// What a drill came to.
#[derive(Debug, Clone, Serialize)]
pub struct DrillReport {
    /// The source.
    pub source: SourceName,
    /// What decided the time: the same seed and archive give the same drill.
    pub seed: u64,
    /// The time that was restored.
    pub as_of_ms: i64,
    /// When the last record in it was written.
    pub written_ms: i64,
    /// How long the restore took.
    pub restore_seconds: f64,
    /// How long Prometheus took until it was ready.
    pub ready_seconds: f64,
    /// Ranges that were compared.
    pub ranges: u64,
    /// Series in them, each counted once a range, that are exactly as recorded.
    pub equal_series: u64,
    /// Their samples.
    pub equal_samples: u64,
    /// Series of which samples are missing that were deleted, or whose block had gone, before that time.
    pub deleted_series: u64,
    /// Series with samples that came after their range was recorded, or twice: compared by count as far as that goes.
    pub late_series: u64,
    /// What differs; nothing for a drill that succeeded.
    pub differences: Vec<SeriesDifference>,
    /// How many more differ than `differences` lists.
    pub omitted_differences: u64,
    /// Lines of the server's log that tell of a repair or damage.
    pub repairs: Vec<String>,
}

impl DrillReport {
    /// Returns whether what was restored is proven to be what was archived.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.proves_something() && !self.is_damaged()
    }

    /// Returns whether something was restored that is not as it was archived.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        !self.differences.is_empty() || !self.repairs.is_empty()
    }

    /// Returns whether there was something to compare.
    #[must_use]
    pub fn proves_something(&self) -> bool {
        self.equal_series > 0
    }
}

/// Runs a drill.
///
/// # Errors
/// No time that can be restored, a restore that fails, or a server that does not start or answer. A difference is no
/// error.
pub async fn drill(
    context: &RestoreContext,
    view: &ArchiveView,
    settings: &DrillSettings,
) -> Result<DrillReport, RestoreError> {
    let (as_of_ms, resolved) = choose(context, view, settings).await?;
    tracing::info!(
        source = %view.source,
        seed = settings.seed,
        as_of = format_time_ms(as_of_ms),
        "a drill restores a moment"
    );
    let folder = Scratch::create(&settings.to, "perennial-drill-")?;
    let data_dir = folder.path().join("data");
    let plan = plan(context, view, &RestoreRequest::new(Target::AsOf(as_of_ms), &data_dir)).await?;
    let restored = run(context, view, plan).await?;
    let server = DrillServer::start(&settings.prometheus, folder.path(), context).await?;
    let mut tally = Tally::default();
    let ranges = comparable(view, &resolved);
    let series = ranges.values().map(ranges::RangeDigests::series).sum();
    context.progress.begin(Phase::Compare, series);
    let taken = taken::taken(context, view, &resolved, as_of_ms).await?;
    let recorded = Recorded { context, view, found: &resolved, taken };
    for range in ranges.into_values() {
        range.compare(&recorded, &server, &mut tally).await?;
    }
    context.progress.end();
    let (ready_seconds, repairs) = (server.ready_seconds(), server.repairs());
    drop(server);
    let Tally { ranges, equal_series, equal_samples, deleted_series, late_series, .. } = tally;
    Ok(DrillReport {
        source: view.source.clone(),
        seed: settings.seed,
        as_of_ms,
        written_ms: restored.written_ms,
        restore_seconds: restored.seconds,
        ready_seconds,
        ranges,
        equal_series,
        equal_samples,
        deleted_series,
        late_series,
        differences: tally.differences,
        omitted_differences: tally.omitted,
        repairs,
    })
}

/// Draws a time.
async fn choose(
    context: &RestoreContext,
    view: &ArchiveView,
    settings: &DrillSettings,
) -> Result<(i64, Resolved), RestoreError> {
    if let Some(as_of_ms) = settings.as_of_ms {
        return Ok((as_of_ms, context.archive.resolve(view, Target::AsOf(as_of_ms), None).await?));
    }
    let window = view.window_ms().ok_or_else(|| ArchiveError::Empty(view.source.clone()))?;
    let span_ms = u64::try_from(window.1.saturating_sub(window.0)).unwrap_or(0).saturating_add(1);
    let random = random_from_seed(settings.seed);
    let mut restorable = None;
    for _ in 0..DRAWS_MAX {
        let as_of_ms = window.0.saturating_add((random.next_u64() % span_ms) as i64);
        match context.archive.resolve(view, Target::AsOf(as_of_ms), None).await {
            Ok(found) if found.missing.is_empty() => {
                if !comparable(view, &found).is_empty() {
                    return Ok((as_of_ms, found));
                }
                restorable.get_or_insert((as_of_ms, found));
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::OutOfRange => {}
            Err(error) => return Err(error.into()),
        }
    }
    restorable.ok_or_else(|| {
        RestoreError::Archive(ArchiveError::OutsideWindow {
            reason: format!("none of {DRAWS_MAX} random times can be restored without a hole"),
            nearest: format_time_ms(window.1),
        })
    })
}
