//! A remote-write load: series as a fleet of node_exporters sends them, made from numbers alone.
//!
//! Owns the series, their labels and their values. `perennial bench` sends the load to any remote-write endpoint,
//! and the figures of `docs/benchmarks.md` are measured with it, so that users can repeat both.
//!
//! **Vocabulary**: a *pass* is one sample of every series at one timestamp, as one round of scrapes brings it; a
//! *step* is the number of a pass. *Churn* replaces a series by one with another `pod`.
//!
//! **Invariants**
//! - Labels and values depend on the series' number, the step and the seed only: two runs send equal samples, and a
//!   sample that is sent again is the same sample.
//! - It does no I/O and reads no clock.

mod series;

#[cfg(test)]
mod tests;

pub use series::{Load, LoadSettings};

use crate::wire::remote_write::Protocol;
use crate::wire::{WireError, snappy};

/// One request, ready to be sent.
#[derive(Debug, Clone)]
pub struct LoadRequest {
    /// The compressed body.
    pub body: bytes::Bytes,
    /// How many samples are in it.
    pub samples: u64,
}

impl Load {
    /// Encodes the samples of some series at one step as a request.
    ///
    /// # Errors
    /// A body beyond what snappy's block format can hold: 4 GiB.
    pub fn request(
        &self,
        protocol: Protocol,
        series: std::ops::Range<usize>,
        (step, ts_ms): (u64, i64),
    ) -> Result<LoadRequest, WireError> {
        let samples = series.len() as u64;
        let body = self.encode(protocol, series, step, ts_ms);
        Ok(LoadRequest { body: snappy::encode(&body)?.into(), samples })
    }
}
