//! A sender that knows what was acknowledged.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::{Ack, Answer, RemoteWrite, SampleSet, Series, Setup, label_pairs, now_ms};

const WHOLE: (i64, i64) = (0, i64::MAX / 2);

/// Samples that were acknowledged, and samples of which that is not known.
#[derive(Debug)]
pub(super) struct Book {
    remote: RemoteWrite,
    metric: &'static str,
    next_ms: i64,
    series: u32,
    acknowledged: BTreeMap<(u32, i64), u64>,
    unclear: BTreeMap<(u32, i64), u64>,
}

/// A value that does not compress, and is never a NaN.
fn value_bits(series: u32, ts_ms: i64) -> u64 {
    let mixed = (ts_ms.cast_unsigned() ^ (u64::from(series) << 44)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) & !(1 << 62)
}

impl Book {
    /// A sender of so many series to this process.
    pub(super) fn new(setup: &Setup, series: u32) -> Self {
        Self::of("fault_total", setup, series)
    }

    /// The same with a metric of its own.
    pub(super) fn of(metric: &'static str, setup: &Setup, series: u32) -> Self {
        Self {
            remote: setup.remote_write(),
            metric,
            next_ms: now_ms() - 3_600_000,
            series,
            acknowledged: BTreeMap::new(),
            unclear: BTreeMap::new(),
        }
    }

    /// Sends `samples` new samples of every series in one request; nothing where the connection broke.
    pub(super) async fn send(&mut self, samples: i64) -> Option<Ack> {
        let times: Vec<i64> = (0..samples).map(|i| self.next_ms + i).collect();
        self.next_ms += samples;
        let metric = self.metric;
        let request: Vec<Series> = (0..self.series)
            .map(|number| Series {
                labels: label_pairs(&[("__name__", metric), ("number", &number.to_string())]),
                samples: times.iter().map(|ts| (*ts, value_bits(number, *ts))).collect(),
            })
            .collect();
        let sent = self.remote.send(&request).await;
        let taken = sent.as_ref().is_ok_and(|ack| ack.status < 300);
        let book = if taken { &mut self.acknowledged } else { &mut self.unclear };
        let keys = (0..self.series).flat_map(|number| times.iter().map(move |ts| (number, *ts)));
        book.extend(keys.map(|key| (key, value_bits(key.0, key.1))));
        sent.ok()
    }

    /// Sends one request that must be taken.
    pub(super) async fn send_well(&mut self, samples: i64) {
        let ack = self.send(samples).await.expect("the connection holds");
        assert_eq!(ack.status, 204, "{}", ack.body);
    }

    /// Sends until a request is answered with `status`, and returns that answer.
    pub(super) async fn send_until(&mut self, status: u16, samples: i64, limit: Duration) -> Ack {
        let started = Instant::now();
        loop {
            let ack = self.send(samples).await.expect("the connection holds");
            if ack.status == status {
                return ack;
            }
            assert!(ack.status < 300 || [429, 503].contains(&ack.status), "{} {}", ack.status, ack.body);
            assert!(started.elapsed() < limit, "no {status} within {limit:?}, the last was {}", ack.status);
        }
    }

    /// Checks that all that was acknowledged is there, once, and nothing else but what was sent.
    pub(super) async fn check(&self, setup: &Setup, when: &str) {
        let matchers = [(0, "__name__", self.metric)];
        let found = setup.remote_read().matching(&matchers, WHOLE.0, WHOLE.1, Answer::Streamed).await;
        self.check_found(&found, when);
    }

    fn check_found(&self, found: &SampleSet, when: &str) {
        let mut held = BTreeMap::new();
        for (labels, samples) in &found.series {
            let number = &labels.iter().find(|(name, _)| name == "number").unwrap().1;
            for (ts, bits) in samples {
                let twice = held.insert((number.parse::<u32>().unwrap(), *ts), *bits);
                assert!(twice.is_none(), "{when}: {number} at {ts} twice");
            }
        }
        let lost: Vec<_> =
            self.acknowledged.iter().filter(|(key, bits)| held.get(key) != Some(bits)).collect();
        let (first, all) = (lost.first(), self.acknowledged.len());
        assert!(
            lost.is_empty(),
            "{when}: {} of {all} acknowledged samples are not there: {first:?}",
            lost.len()
        );
        for (key, bits) in &held {
            let sent = self.acknowledged.get(key).or_else(|| self.unclear.get(key));
            assert_eq!(sent, Some(bits), "{when}: {key:?} was never sent so");
        }
    }

    /// Returns how many samples were acknowledged.
    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }
}
