//! Start timestamps inside of a chunk: nothing while they are unknown or do not change.
//!
//! The header byte says with bit 7 that sample 0 has one, and with bits 0 to 6 from which sample on every sample
//! has a difference: the time of the sample before, less the start, as a delta to the difference before.

use super::varbit;
use crate::tsdb::bits::BitReader;

/// Follows the start timestamps of one chunk.
#[derive(Debug, Clone, Default)]
pub(super) struct StartReader {
    first_known: bool,
    changes_at: u16,
    start_ms: i64,
    difference_ms: i64,
}

impl StartReader {
    pub(super) fn new(header: u8) -> Self {
        Self { first_known: header & 0x80 != 0, changes_at: u16::from(header & 0x7F), ..Self::default() }
    }

    /// Takes what follows the value of sample `index`.
    pub(super) fn take(
        &mut self,
        bits: &mut BitReader<'_>,
        index: u16,
        t_ms: i64,
        previous_ms: i64,
    ) -> Option<()> {
        if index == 0 {
            if self.first_known {
                self.start_ms = t_ms.wrapping_sub(varbit::take_varint(bits)?);
            }
            return Some(());
        }
        if self.changes_at > 0 && index >= self.changes_at {
            let number = varbit::take_int(bits)?;
            let first = index == self.changes_at;
            self.difference_ms = if first { number } else { self.difference_ms.wrapping_add(number) };
            self.start_ms = previous_ms.wrapping_sub(self.difference_ms);
        }
        Some(())
    }

    /// Returns the start timestamp of the last sample; Prometheus writes 0 for "unknown".
    pub(super) fn start_ms(&self) -> Option<i64> {
        (self.start_ms != 0).then_some(self.start_ms)
    }
}
