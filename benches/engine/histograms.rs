//! Bytes that native histograms take: our blocks and Prometheus' chunks of the same samples.
//!
//! A latency of log-normal distribution in 40 buckets of schema 3, scraped every 15 s. How often something is observed
//! differs between series by the same distribution; increments are therefore Poisson. Buckets have grown for eight
//! hours before the first sample, so that all 40 are there.

use perennial::block::{BlockSpec, HistogramRun, write_histograms};
use perennial::model::{
    Histogram, HistogramSample, Labels, NativeHistogram, Resolution, Span, TenantId, TimeRange, Ulid,
};
use perennial::tsdb::chunk::SampleChunks;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::table::{Table, verdict};

const SERIES: usize = 100;
const BUCKETS: usize = 40;
const SCRAPE_MS: i64 = 15_000;
const WINDOW_SAMPLES: usize = 1_920;
/// A cut every 30 minutes.
const CUT_SAMPLES: usize = 120;
const START_MS: i64 = 1_700_006_400_000;
const BAR: f64 = 17.0;

pub(crate) fn measure(table: &mut Table) {
    for per_scrape in [4.0, 20.0, 75.0] {
        let runs = generate(per_scrape);
        let figure = format!("native histogram, 40 buckets, {per_scrape} observations a scrape, B/sample");
        let barred = |kept: f64| if per_scrape < 5.0 { verdict(kept <= BAR, "17") } else { String::new() };
        let window = block_bytes(&runs, WINDOW_SAMPLES);
        table.add(&figure, "Perennial, one window of 8 h", format!("{window:.2}"), barred(window));
        let cuts = block_bytes(&runs, CUT_SAMPLES);
        table.add(&figure, "Perennial, a block every 30 m", format!("{cuts:.2}"), barred(cuts));
        table.add(&figure, "Prometheus' chunks", format!("{:.2}", chunk_bytes(&runs)), String::new());
    }
}

/// Returns two independent normal values.
fn normal(random: &mut StdRng) -> (f64, f64) {
    let (u, v): (f64, f64) = (1.0 - random.random::<f64>(), random.random());
    let radius = (-2.0 * u.ln()).sqrt();
    (radius * (std::f64::consts::TAU * v).cos(), radius * (std::f64::consts::TAU * v).sin())
}

fn poisson(mean: f64, random: &mut StdRng) -> u64 {
    let (limit, mut product, mut count) = ((-mean).exp(), random.random::<f64>(), 0);
    while product > limit {
        product *= random.random::<f64>();
        count += 1;
    }
    count
}

/// Returns an observed latency and its bucket.
fn observation(median: f64, random: &mut StdRng) -> (f64, usize) {
    let spread = 0.6 * normal(random).0;
    let bucket = (spread / std::f64::consts::LN_2 * 8.0).ceil() + BUCKETS as f64 / 2.0;
    (median * spread.exp(), bucket.clamp(0.0, BUCKETS as f64 - 1.0) as usize)
}

fn generate(per_scrape: f64) -> Vec<HistogramRun> {
    let mut random = StdRng::seed_from_u64(40);
    (0..SERIES).map(|series| series_of(series, per_scrape, &mut random)).collect()
}

fn series_of(series: usize, per_scrape: f64, random: &mut StdRng) -> HistogramRun {
    let rate = per_scrape * (0.5 * normal(random).0).exp();
    let median = 0.05 * (1.0 + random.random::<f64>());
    let (mut counts, mut sum) = ([1u64; BUCKETS], 0.0);
    for _ in 0..(rate * WINDOW_SAMPLES as f64) as usize {
        let (value, bucket) = observation(median, random);
        (counts[bucket], sum) = (counts[bucket] + 1, sum + value);
    }
    // Series of one target share the times of their scrapes.
    let mut ts_ms = START_MS + (series / 50) as i64 * 37;
    let mut histograms = Vec::with_capacity(WINDOW_SAMPLES);
    for _ in 0..WINDOW_SAMPLES {
        for _ in 0..poisson(rate, random) {
            let (value, bucket) = observation(median, random);
            (counts[bucket], sum) = (counts[bucket] + 1, sum + value);
        }
        let mut before = 0;
        let positive_buckets = counts.map(|count| {
            let difference = count as i64 - before;
            before = count as i64;
            difference
        });
        let histogram = Histogram {
            schema: 3,
            zero_threshold: 2.938_735_877_055_719e-39,
            count: counts.iter().sum(),
            sum,
            positive_spans: vec![Span { offset: -48, length: BUCKETS as u32 }],
            positive_buckets: positive_buckets.to_vec(),
            ..Histogram::default()
        };
        let histogram = NativeHistogram::Int(Box::new(histogram));
        histograms.push(HistogramSample { ts_ms, start_ms: 0, histogram });
        ts_ms += SCRAPE_MS;
    }
    let labels = [
        ("__name__", "http_request_duration_seconds".to_owned()),
        ("instance", format!("10.0.{}.1:8080", series / 50)),
        ("job", "api".to_owned()),
        ("route", format!("/route/{:02}", series % 50)),
    ];
    HistogramRun { labels: Labels::from_pairs(labels).expect("valid labels"), histograms }
}

/// Returns the bytes of blocks with so many samples of each series, per sample.
fn block_bytes(runs: &[HistogramRun], samples: usize) -> f64 {
    let label_columns = ["__name__", "instance", "job", "route"].map(ToOwned::to_owned).to_vec();
    let spec = BlockSpec {
        id: Ulid::from_parts(1, 2),
        tenant: TenantId::new("bench").expect("a valid name"),
        resolution: Resolution::Raw,
        range: TimeRange::ALL,
        external_labels: Labels::empty(),
        label_columns,
        positions: Vec::new(),
        sources: Vec::new(),
        zstd_level: 3,
    };
    let mut bytes = 0;
    for start in (0..WINDOW_SAMPLES).step_by(samples) {
        let part = runs.iter().map(|run| HistogramRun {
            labels: run.labels.clone(),
            histograms: run.histograms[start..start + samples].to_vec(),
        });
        let mut file = Vec::new();
        write_histograms(&mut file, &spec, part).expect("sorted runs");
        bytes += file.len();
    }
    bytes as f64 / (SERIES * WINDOW_SAMPLES) as f64
}

fn chunk_bytes(runs: &[HistogramRun]) -> f64 {
    let mut bytes = 0;
    for run in runs {
        let mut chunks = SampleChunks::new();
        for sample in &run.histograms {
            chunks.push_native(sample.ts_ms, &sample.histogram).expect("whole histograms");
        }
        chunks.finish();
        bytes += chunks.iter().map(|chunk| chunk.data.len()).sum::<usize>();
    }
    bytes as f64 / (SERIES * WINDOW_SAMPLES) as f64
}
