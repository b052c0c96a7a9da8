//! Series of many hosts, their labels and values.

use std::ops::Range;

use crate::model::{Labels, Sample};
use crate::wire::remote_write::{Protocol, SeriesToSend, encode_request};

/// So many series come from one host.
const SERIES_A_HOST: usize = 500;

// Names, whether they count up, and the label that tells a host's series of one name apart.
const FAMILIES: [(&str, bool, &str); 20] = [
    ("node_cpu_seconds_total", true, "cpu"),
    ("node_cpu_guest_seconds_total", true, "cpu"),
    ("node_disk_io_time_seconds_total", true, "device"),
    ("node_disk_read_bytes_total", true, "device"),
    ("node_disk_written_bytes_total", true, "device"),
    ("node_filesystem_avail_bytes", false, "mountpoint"),
    ("node_filesystem_files_free", false, "mountpoint"),
    ("node_filesystem_size_bytes", false, "mountpoint"),
    ("node_interrupts_total", true, "type"),
    ("node_memory_Active_bytes", false, "zone"),
    ("node_memory_Cached_bytes", false, "zone"),
    ("node_netstat_Tcp_InSegs", true, "device"),
    ("node_network_receive_bytes_total", true, "device"),
    ("node_network_receive_packets_total", true, "device"),
    ("node_network_transmit_bytes_total", true, "device"),
    ("node_schedstat_running_seconds_total", true, "cpu"),
    ("node_scrape_collector_duration_seconds", false, "collector"),
    ("node_softnet_processed_total", true, "cpu"),
    ("node_systemd_unit_state", false, "name"),
    ("node_vmstat_pgfault", true, "type"),
];

/// What a load looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadSettings {
    /// Active series.
    pub series: usize,
    /// After so many steps a series is replaced by a new one, a few series at every step; 0 for never.
    pub churn_steps: u64,
    /// Makes another fleet with other values.
    pub seed: u64,
}

/// A load; see the module.
#[derive(Debug)]
pub struct Load {
    settings: LoadSettings,
    /// The labels of series that are never replaced.
    labels: Vec<Labels>,
}

/// A small generator of its own, so that a load never depends on a library's version.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Load {
    /// Prepares a load.
    #[must_use]
    pub fn new(settings: LoadSettings) -> Self {
        let mut load = Self { settings, labels: Vec::new() };
        if settings.churn_steps == 0 {
            load.labels = (0..settings.series).map(|number| load.make_labels(number, 0)).collect();
        }
        load
    }

    /// Returns how many series are active at a time.
    #[must_use]
    pub fn series(&self) -> usize {
        self.settings.series
    }

    /// Returns the labels of a series at a step.
    #[must_use]
    pub fn labels(&self, number: usize, step: u64) -> Labels {
        match self.labels.get(number) {
            Some(labels) => labels.clone(),
            None => self.make_labels(number, self.generation(number, step)),
        }
    }

    /// Returns how often a series was replaced before a step; not all series at the same step.
    fn generation(&self, number: usize, step: u64) -> u64 {
        match self.settings.churn_steps {
            0 => 0,
            steps => (step + mix(number as u64) % steps) / steps,
        }
    }

    fn make_labels(&self, number: usize, generation: u64) -> Labels {
        let (host, own) = (number / SERIES_A_HOST, number % SERIES_A_HOST);
        let (name, _, kind) = FAMILIES[own % FAMILIES.len()];
        let item = own / FAMILIES.len();
        let host_hash = mix(host as u64 ^ self.settings.seed.rotate_left(32));
        let pod = mix(host_hash ^ generation) & 0xf_ffff;
        let pairs = [
            ("__name__", name.to_owned()),
            ("cluster", "production-eu-west-1".to_owned()),
            ("container", "node-exporter".to_owned()),
            ("endpoint", "https-metrics".to_owned()),
            ("instance", format!("10.{}.{}.{}:9100", 12 + host / 64 % 200, host % 64, host_hash % 250)),
            ("job", "node-exporter".to_owned()),
            ("namespace", "monitoring".to_owned()),
            ("pod", format!("prometheus-node-exporter-{host:x}-{pod:05x}")),
            ("region", "eu-west-1".to_owned()),
            (kind, format!("{kind}{item}")),
            ("service", "prometheus-node-exporter".to_owned()),
        ];
        Labels::from_pairs(pairs).expect("label names are fixed and differ, values are plain text")
    }

    /// Returns the value of a series at a step: counters that advance by whole numbers or hundredths, noisy gauges.
    #[must_use]
    pub fn value(&self, number: usize, step: u64) -> f64 {
        let seed = self.settings.seed;
        let noise = mix((number as u64).wrapping_mul(1_000_003).wrapping_add(step) ^ seed);
        let (_, counts, _) = FAMILIES[number % SERIES_A_HOST % FAMILIES.len()];
        let base = (mix(number as u64 ^ seed) % 1_000_000) as f64;
        match (counts, number % 3) {
            (true, 0) => base + (step as f64) * 37.0 + (noise % 32) as f64,
            (true, _) => (base * 100.0 + (step as f64) * 1_411.0 + (noise % 900) as f64).round() / 100.0,
            (false, 0) => base,
            (false, _) => base + (noise % 4_096) as f64,
        }
    }

    /// Encodes the samples of some series at one step, not compressed.
    pub(super) fn encode(&self, protocol: Protocol, series: Range<usize>, step: u64, ts_ms: i64) -> Vec<u8> {
        let labels: Vec<Labels> = series.clone().map(|number| self.labels(number, step)).collect();
        let samples: Vec<[Sample; 1]> =
            series.map(|number| [Sample::new(ts_ms, self.value(number, step))]).collect();
        let send: Vec<SeriesToSend<'_>> =
            labels.iter().zip(&samples).map(|(labels, samples)| SeriesToSend { labels, samples }).collect();
        encode_request(protocol, &send)
    }
}
