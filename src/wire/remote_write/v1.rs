//! `prometheus.WriteRequest`: labels stand in every series, as the bytes that the model keeps.

use super::metadata::MetadataReader;
use super::parts::Scratch;
use super::{Limits, Part, Protocol, SentLabels, Totals, WrittenSeries, skip_request_field};
use crate::wire::error::WireError;
use crate::wire::protobuf::Cursor;

pub(super) fn walk<F>(body: &[u8], limits: &Limits, mut visit: F) -> Result<Totals, WireError>
where
    F: FnMut(Part<'_>),
{
    let mut totals = Totals::default();
    let mut scratch = Scratch::new();
    let mut metadata = MetadataReader::new();
    let mut gathered = Vec::new();
    let mut at = Cursor::new(body);
    while !at.is_done() {
        match at.tag()? {
            0x0A => {
                let labels = read_series(at.message()?, limits, &mut scratch, &mut gathered)?;
                totals.count(&scratch);
                visit(Part::Series(WrittenSeries::of(SentLabels::Encoded(labels), &scratch, None)));
            }
            0x1A => {
                totals.metadata += 1;
                visit(Part::Metadata(metadata.read(at.message()?)?));
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
    limits: &Limits,
    scratch: &mut Scratch,
    gathered: &'a mut Vec<u8>,
) -> Result<&'a [u8], WireError> {
    scratch.clear();
    gathered.clear();
    let (mut start, mut end) = (at.position(), at.position());
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
            0x12 => scratch.read_sample(at.message()?, Protocol::V1)?,
            0x1A => scratch.read_exemplar(at.message()?, limits)?,
            0x22 => scratch.read_histogram(at.message()?, Protocol::V1)?,
            tag => at.skip_unknown(tag, 4)?,
        }
    }
    let run = at.between(start, end);
    if gathered.is_empty() {
        return Ok(run);
    }
    gathered.extend_from_slice(run);
    Ok(gathered)
}
