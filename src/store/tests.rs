use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::model::*;
use crate::runtime::*;

mod contract;
mod fixture;
mod hiding;
mod info;
mod kinds;
mod limits;
mod metadata;
mod remote_read;
mod stops;
mod store_api;
mod transcoding;
mod unreadable;

use fixture::{Fixture, Place, Producer, ms, team};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

/// Samples by series, as compared: every bit counts.
type Answer = Vec<(Labels, Vec<(i64, u64)>)>;

fn bits(samples: &[Sample]) -> Vec<(i64, u64)> {
    samples.iter().map(|s| (s.ts_ms, s.value.to_bits())).collect()
}
