//! Buckets made for one measurement: blocks written as a cut or a compaction would, and catalogs that name them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use perennial::block::{BlockSpec, HashingWriter, SeriesRun, block_order, write_block};
use perennial::bucket::{Bucket, BucketConfig, ObjectKey};
use perennial::catalog::{BlockEntry, CatalogSettings, Catalogs, Change};
use perennial::model::{BlockKind, Labels, Resolution, Sample, TenantId, TimeRange, Ulid};
use perennial::runtime::{Clock, Metrics, Random, SystemClock, random_from_seed};

/// The tenant of all measurements.
pub(crate) const TENANT: &str = "default-tenant";

/// A bucket in a local folder.
pub(crate) struct Buckets {
    bucket: Bucket,
    catalogs: Catalogs,
    random: Random,
    tenant: TenantId,
}

impl Buckets {
    pub(crate) fn open(folder: &Path) -> Self {
        let config = BucketConfig::filesystem(folder);
        let bucket = Bucket::open(&config, &Metrics::new()).unwrap();
        let (clock, random): (Arc<dyn Clock>, Random) = (SystemClock::new(), random_from_seed(4));
        let catalogs = Catalogs::new(bucket.clone(), clock, random.clone(), CatalogSettings::default());
        Self { bucket, catalogs, random, tenant: TenantId::new(TENANT).unwrap() }
    }

    /// Writes a block of a range, stores it and returns what the catalog says of it.
    pub(crate) async fn store_block(
        &self,
        range: TimeRange,
        label_columns: &[String],
        series: impl Iterator<Item = SeriesRun>,
    ) -> BlockEntry {
        let spec = BlockSpec {
            id: self.random.ulid(range.end_ms),
            tenant: self.tenant.clone(),
            resolution: Resolution::Raw,
            range,
            external_labels: Labels::from_pairs([("cluster", "bench")]).unwrap(),
            label_columns: label_columns.to_vec(),
            positions: Vec::new(),
            sources: Vec::new(),
            zstd_level: 3,
        };
        let mut out = HashingWriter::new(Vec::new());
        let stats = write_block(&mut out, &spec, series).unwrap();
        let (file, size_bytes, sha256) = out.finish();
        self.bucket.put(&ObjectKey::block(&self.tenant, spec.id), file.into()).await.unwrap();
        BlockEntry::of_file((spec, BlockKind::Samples), stats, (size_bytes, sha256), range.end_ms)
    }

    /// Returns an entry of a block that nobody will read, as large ones look.
    pub(crate) fn entry(&self, number: u64, label_columns: &[String]) -> BlockEntry {
        let start_ms = i64::try_from(number).unwrap() * 86_400_000;
        BlockEntry {
            id: Ulid::from_parts(number, u128::from(self.random.next_u64())),
            kind: BlockKind::Samples,
            resolution: Resolution::Raw,
            min_time_ms: start_ms,
            max_time_ms: start_ms + 86_400_000,
            size_bytes: 100 << 20,
            rows: 150_000,
            series: 50_000,
            samples: 288_000_000,
            sha256: "0123456789abcdef".repeat(4),
            metric_min: "go_gc_duration_seconds".to_owned(),
            metric_max: "up".to_owned(),
            label_columns: label_columns.to_vec(),
            external_labels: Labels::from_pairs([("cluster", "bench"), ("replica", "a")]).unwrap(),
            created_ms: start_ms + 86_400_000,
            unknown: BTreeMap::new(),
        }
    }

    /// Names blocks in the catalog.
    pub(crate) async fn commit(&self, label_columns: &[String], entries: Vec<BlockEntry>) {
        let catalog = self.catalogs.of(&self.tenant);
        let mut change: Change = catalog.new_change();
        change.label_columns = label_columns.to_vec();
        change.add = entries;
        catalog.commit(&change).await.unwrap();
    }
}

/// Series as a cluster of services has them, made one by one: they do not fit in memory together.
pub(crate) struct Services {
    metrics: usize,
    targets: usize,
    /// Series of each metric on each target.
    devices: usize,
}

/// The label columns of [`Services`].
pub(crate) fn label_columns() -> Vec<String> {
    let names = ["__name__", "container", "device", "instance", "job", "namespace", "node", "pod", "service"];
    names.map(str::to_owned).to_vec()
}

impl Services {
    pub(crate) fn new(metrics: usize, targets: usize, devices: usize) -> Self {
        Self { metrics, targets, devices }
    }

    pub(crate) fn len(&self) -> usize {
        self.metrics * self.targets * self.devices
    }

    fn labels(&self, number: usize) -> Labels {
        let (metric, rest) = (number / (self.targets * self.devices), number % (self.targets * self.devices));
        let (target, device) = (rest / self.devices, rest % self.devices);
        let hash = (target as u32).wrapping_mul(0x9e37_79b9);
        Labels::from_pairs([
            ("__name__", format!("service_subsystem_{metric:03}_total")),
            ("container", ["app", "proxy", "sidecar"][target % 3].to_owned()),
            ("device", format!("dev{device}")),
            ("instance", format!("10.{}.{}.{}:8080", target % 7, target / 16 % 16, target % 251)),
            ("job", format!("team-{:02}/service-{:02}", target % 11, target % 23)),
            ("namespace", format!("team-{:02}", target % 11)),
            ("node", format!("node-{:03}.zone-{}.example", target % 97, target % 3)),
            ("pod", format!("service-{:02}-{hash:08x}-{:05x}", target % 23, hash.rotate_left(7) & 0xf_ffff)),
            ("service", format!("service-{:02}", target % 23)),
        ])
        .unwrap()
    }

    /// Returns one series by its metric, target and device, as matchers.
    pub(crate) fn matchers(metric: usize, target: usize, device: usize) -> [(i32, &'static str, String); 3] {
        let instance = format!("10.{}.{}.{}:8080", target % 7, target / 16 % 16, target % 251);
        [
            (0, "__name__", format!("service_subsystem_{metric:03}_total")),
            (0, "instance", instance),
            (0, "device", format!("dev{device}")),
        ]
    }

    /// Returns all series in block order with samples of a range: six in ten are counters, three are decimals and one
    /// has doubles; the samples of one target have the same times.
    pub(crate) fn runs(&self, range: TimeRange, step_ms: i64) -> impl Iterator<Item = SeriesRun> + '_ {
        let mut order: Vec<(Labels, usize)> =
            (0..self.len()).map(|number| (self.labels(number), number)).collect();
        order.sort_by(|a, b| block_order(&a.0, &b.0));
        let times: Vec<Vec<i64>> = (0..self.targets).map(|target| times(range, step_ms, target)).collect();
        order.into_iter().map(move |(labels, number)| {
            let metric = number / (self.targets * self.devices);
            let target = number % (self.targets * self.devices) / self.devices;
            let mut values = Values { state: number as u64 * 2 + 1, sum: 0, kind: metric % 10 };
            let samples = times[target].iter().map(|ts| Sample::new(*ts, values.next())).collect();
            SeriesRun { labels, samples }
        })
    }
}

fn times(range: TimeRange, step_ms: i64, target: usize) -> Vec<i64> {
    let offset = target as i64 * 7_919 % step_ms;
    let mut state = target as u64 + 1;
    let starts = (range.start_ms + offset..range.end_ms - 1).step_by(usize::try_from(step_ms).unwrap());
    starts.map(|ts| ts + i64::from(next(&mut state).is_multiple_of(50))).collect()
}

/// The values of one series.
struct Values {
    state: u64,
    sum: u64,
    kind: usize,
}

impl Values {
    fn next(&mut self) -> f64 {
        let random = next(&mut self.state);
        self.sum += random % 40;
        match self.kind {
            0..6 => self.sum as f64,
            6..9 => (50_000 + random % 2_000) as f64 / 100.0,
            _ => (random >> 11) as f64 / 1e12,
        }
    }
}

fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
