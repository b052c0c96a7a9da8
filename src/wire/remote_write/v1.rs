//! `prometheus.WriteRequest`: labels stand in every series, as the bytes that the model keeps.

use super::{Protocol, RefusedSeries, SampleScratch, Totals, WrittenSeries, skip_request_field};
use crate::wire::error::WireError;
use crate::wire::protobuf::Cursor;

pub(super) fn walk<F>(body: &[u8], mut visit: F) -> Result<Totals, WireError>
where
    F: FnMut(Result<WrittenSeries<'_>, RefusedSeries<'_>>),
{
    let mut totals = Totals::default();
    let mut samples = SampleScratch::new();
    let mut gathered = Vec::new();
    let mut at = Cursor::new(body);
    while !at.is_done() {
        match at.tag()? {
            0x0A => {
                let series = read_series(at.message()?, &mut samples, &mut gathered)?;
                totals.series += 1;
                totals.samples += series.samples.len() as u64;
                totals.histograms += series.histograms;
                totals.exemplars += series.exemplars;
                visit(Ok(series));
            }
            0x1A => {
                at.step_over()?;
                totals.metadata += 1;
            }
            // Symbols and series of 2.0.
            tag => match tag >> 3 {
                1 | 3 => at.skip_unknown(tag, 3)?,
                _ => skip_request_field(&mut at, tag, &[4, 5])?,
            },
        }
    }
    Ok(totals)
}

/// Reads one series. Its label fields are borrowed where they lie side by side, and copied to `gathered` where
/// other fields part them.
#[inline]
fn read_series<'a>(
    mut at: Cursor<'a>,
    samples: &'a mut SampleScratch,
    gathered: &'a mut Vec<u8>,
) -> Result<WrittenSeries<'a>, WireError> {
    samples.samples.clear();
    gathered.clear();
    let (mut start, mut end) = (at.position(), at.position());
    let (mut histograms, mut exemplars) = (0, 0);
    while !at.is_done() {
        let field = at.position();
        match at.tag()? {
            0x0A => {
                at.step_over()?;
                at.step_over_run(0x0A);
                if field != end {
                    gathered.extend_from_slice(at.between(start, end));
                    start = field;
                }
                end = at.position();
            }
            0x12 => samples.read(at.message()?, Protocol::V1)?,
            0x1A => {
                at.step_over()?;
                exemplars += 1;
            }
            0x22 => {
                at.step_over()?;
                histograms += 1;
            }
            tag => at.skip_unknown(tag, 4)?,
        }
    }
    let run = at.between(start, end);
    let labels = if gathered.is_empty() {
        run
    } else {
        gathered.extend_from_slice(run);
        gathered.as_slice()
    };
    Ok(WrittenSeries { labels, samples: &samples.samples, histograms, exemplars, metadata: 0 })
}
