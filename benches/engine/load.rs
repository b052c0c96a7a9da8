//! The remote-write load of `perennial bench`, encoded before anything is measured.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use perennial::load::{Load, LoadSettings};
use perennial::wire::remote_write::Protocol;

pub(crate) const SERIES: usize = 50_000;
pub(crate) const STEPS: usize = 40;
const SERIES_A_REQUEST: usize = 2_000;
const STEP_MS: i64 = 15_000;
pub(crate) const CONNECTIONS: usize = 4;

/// The bodies of one pass: per connection in the order they are sent.
pub(crate) type Pass = Vec<Vec<bytes::Bytes>>;

/// Returns passes over the same series, each with later times, that end about now.
pub(crate) fn passes(count: usize) -> Vec<Arc<Pass>> {
    passes_of(Protocol::V1, SERIES, STEPS, count)
}

/// Returns passes of so many steps over so many series in one version of remote write.
pub(crate) fn passes_of(protocol: Protocol, series: usize, steps: usize, count: usize) -> Vec<Arc<Pass>> {
    let load = Load::new(LoadSettings { series, churn_steps: 0, seed: 1 });
    let bytes = (0..series).map(|number| load.labels(number, 0).as_bytes().len()).sum::<usize>() / series;
    println!(
        "load: {series} series of {bytes} label bytes, {steps} steps a pass, {SERIES_A_REQUEST} a request"
    );
    let first_ms = first_ms(steps * count);
    (0..count)
        .map(|pass| Arc::new(one_pass(&load, protocol, pass * steps..(pass + 1) * steps, first_ms)))
        .collect()
}

/// Returns the time of the first of so many steps, the last of which is about now.
fn first_ms(steps: usize) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let steps = i64::try_from(steps).unwrap();
    i64::try_from(now.as_millis()).unwrap() / STEP_MS * STEP_MS - (steps + 1) * STEP_MS
}

fn one_pass(load: &Load, protocol: Protocol, steps: std::ops::Range<usize>, first_ms: i64) -> Pass {
    let mut connections: Pass = vec![Vec::new(); CONNECTIONS];
    for step in steps {
        let ts_ms = first_ms + i64::try_from(step).unwrap() * STEP_MS;
        for (request, first) in (0..load.series()).step_by(SERIES_A_REQUEST).enumerate() {
            let series = first..load.series().min(first + SERIES_A_REQUEST);
            let body = load.request(protocol, series, (step as u64, ts_ms)).unwrap().body;
            // A series stays with its connection, as with Prometheus' shards.
            connections[request % CONNECTIONS].push(body);
        }
    }
    connections
}
