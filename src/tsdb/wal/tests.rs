mod framing;
mod golden;
mod records;

use super::*;

/// Start, end and bytes of a record.
type Placed = (u64, u64, Vec<u8>);

/// Reads a segment to its end and returns its records and what comes after them.
fn read_all(bytes: &[u8], start_offset: u64) -> (Vec<Placed>, Step<()>) {
    let mut reader = SegmentReader::new(bytes, start_offset);
    let mut records = Vec::new();
    loop {
        match reader.next_record() {
            Step::Record(record) => records.push((record.start, record.end, record.data.into_owned())),
            Step::End { offset } => return (records, Step::End { offset }),
            Step::Incomplete { offset } => return (records, Step::Incomplete { offset }),
            Step::Damaged(damage) => return (records, Step::Damaged(damage)),
        }
    }
}
