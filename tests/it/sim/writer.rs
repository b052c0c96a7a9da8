//! Writers: what a Prometheus does, with late, repeated and contradicting samples.

use std::sync::Arc;

use tokio::time::sleep;

use super::cluster::Cluster;
use super::histogram;
use crate::every_kind::wire::{self, FullSeries};
use perennial::model::{Labels, STALE_MARKER_BITS, Sample, TenantId};
use perennial::runtime::Shutdown;
use perennial::wire::remote_write::Protocol;
use perennial::wire::snappy;

/// How often a request is sent at most.
const ATTEMPTS_MAX: u32 = 5;

/// One sender of samples.
#[derive(Debug)]
pub(super) struct Writer {
    number: u64,
    tenant: TenantId,
    /// The receiver that it mostly writes to.
    home: usize,
}

impl Writer {
    pub(super) fn new(number: u64, tenant: TenantId, home: usize) -> Self {
        Self { number, tenant, home }
    }

    /// Writes until it is told to stop.
    pub(super) async fn run(self, cluster: Arc<Cluster>, stop: Shutdown) {
        while !stop.started() {
            sleep(cluster.world.millis(500, 20_000)).await;
            let protocol = if cluster.world.chance(50) { Protocol::V1 } else { Protocol::V2 };
            let batch = self.batch(&cluster, protocol);
            for attempt in 1..=ATTEMPTS_MAX {
                let here = cluster.world.chance(80);
                let to = if here { self.home } else { cluster.any_receiver() };
                if self.send(&cluster, to, protocol, &batch).await || stop.started() {
                    break;
                }
                sleep(cluster.world.millis(100, 3_000) * attempt).await;
            }
        }
    }

    /// Sends a batch; returns whether the sender is done with it.
    async fn send(
        &self,
        cluster: &Cluster,
        to: usize,
        protocol: Protocol,
        batch: &[(Labels, Vec<Sample>)],
    ) -> bool {
        let (world, receiver) = (&cluster.world, &cluster.receivers[to]);
        sleep(world.millis(1, 30)).await;
        let request: Vec<FullSeries> =
            batch.iter().map(|(labels, samples)| to_send(labels, samples)).collect();
        let (body, content_type) = wire::encode(&request, protocol == Protocol::V2);
        let body = snappy::encode(&body).unwrap();
        let Some(serving) = receiver.serving() else { return false };
        cluster.model().send(&self.tenant, serving.bit, batch);
        let mut status = receiver.write(&serving, &self.tenant, content_type, body).await;
        if world.chance(2) {
            // The receiver has answered; nobody hears it.
            status = None;
        }
        let who = format!("writer {}", self.number);
        world.note(&who, format_args!("{} series to {}: {status:?}", batch.len(), receiver.name));
        match status {
            Some(204) => {
                cluster.model().acknowledge(&self.tenant, serving.bit, batch);
                true
            }
            Some(400) => {
                world.violate(format_args!("{} refuses a good request", receiver.name));
                true
            }
            _ => false,
        }
    }

    fn batch(&self, cluster: &Cluster, protocol: Protocol) -> Vec<(Labels, Vec<Sample>)> {
        let world = &cluster.world;
        let mut batch: Vec<(Labels, Vec<Sample>)> = Vec::new();
        for _ in 0..=world.below(3) {
            let labels = self.labels(world.below(8));
            if batch.iter().any(|(known, _)| *known == labels) {
                continue;
            }
            let histograms = histogram::is_of_histograms(&labels);
            let samples = (0..=world.below(4)).map(|_| self.sample(cluster, protocol, histograms)).collect();
            batch.push((labels, samples));
        }
        batch
    }

    /// Some series are shared by the writers of a tenant, the others are its own.
    fn labels(&self, series: u64) -> Labels {
        let number = series.to_string();
        let job = if series < 3 { "shared".to_owned() } else { format!("writer-{}", self.number) };
        let name = ["a", "b", histogram::METRIC][usize::try_from(series % 3).unwrap()];
        let pairs = [("__name__", name), ("job", job.as_str())];
        Labels::from_pairs(pairs.into_iter().chain([("series", number.as_str())])).unwrap()
    }

    fn sample(&self, cluster: &Cluster, protocol: Protocol, histogram: bool) -> Sample {
        let world = &cluster.world;
        let now_ms = world.true_ms() / 1_000 * 1_000;
        let age_ms = match world.below(20) {
            0 => world.below(10 * 3_600),
            1..6 => world.below(60),
            _ => world.below(5),
        };
        let ts_ms = now_ms - i64::try_from(age_ms).unwrap() * 1_000;
        let value = match world.below(10) {
            _ if histogram => (1 + world.below(histogram::NUMBER_MAX)) as f64,
            0 => f64::from_bits(STALE_MARKER_BITS),
            1 => f64::from_bits(0x7ff8_0000_0000_0000 | world.below(1 << 20)),
            2 => -0.0,
            3 | 4 => f64::from_bits(world.next_u64()),
            _ => world.below(1_000) as f64 / 8.0,
        };
        let started = protocol == Protocol::V2 && world.chance(50);
        let start_ms = if started { ts_ms - i64::try_from(world.below(100_000)).unwrap() - 1 } else { 0 };
        Sample { ts_ms, value, start_ms }
    }
}

fn to_send(labels: &Labels, samples: &[Sample]) -> FullSeries {
    let labels_sent = labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let float = |s: &Sample| wire::Sample { bits: s.value.to_bits(), ts_ms: s.ts_ms, start_ms: s.start_ms };
    let (samples, histograms) = if histogram::is_of_histograms(labels) {
        (Vec::new(), samples.iter().map(histogram::to_send).collect())
    } else {
        (samples.iter().map(float).collect(), Vec::new())
    };
    FullSeries { labels: labels_sent, samples, histograms, ..FullSeries::default() }
}
