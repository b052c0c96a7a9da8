//! The remote-write load: node_exporter-like series of many hosts, encoded before anything is measured.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use perennial::model::{Labels, Sample};
use perennial::wire::remote_write::{Protocol, SeriesToSend, encode_request};

pub(crate) const SERIES: usize = 50_000;
pub(crate) const STEPS: usize = 40;
const SERIES_A_REQUEST: usize = 2_000;
const STEP_MS: i64 = 15_000;
pub(crate) const CONNECTIONS: usize = 4;
const SERIES_A_HOST: usize = 500;

/// The bodies of one pass: per connection in the order they are sent.
pub(crate) type Pass = Vec<Vec<bytes::Bytes>>;

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

/// A small generator of its own, so that a load never depends on a crate's version.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn labels(number: usize) -> Labels {
    let (host, own) = (number / SERIES_A_HOST, number % SERIES_A_HOST);
    let (name, _, kind) = FAMILIES[own % FAMILIES.len()];
    let item = own / FAMILIES.len();
    let pairs = [
        ("__name__", name.to_owned()),
        ("cluster", "production-eu-west-1".to_owned()),
        ("container", "node-exporter".to_owned()),
        ("endpoint", "https-metrics".to_owned()),
        ("instance", format!("10.{}.{}.{}:9100", 12 + host / 64, host % 64, mix(host as u64) % 250)),
        ("job", "node-exporter".to_owned()),
        ("namespace", "monitoring".to_owned()),
        ("pod", format!("prometheus-node-exporter-{:05x}", mix(host as u64) & 0xf_ffff)),
        ("region", "eu-west-1".to_owned()),
        (kind, format!("{kind}{item}")),
        ("service", "prometheus-node-exporter".to_owned()),
    ];
    Labels::from_pairs(pairs).expect("the labels are valid")
}

/// Returns the value of a series at a step: counters that advance by whole numbers or hundredths, noisy gauges.
fn value(number: usize, step: usize) -> f64 {
    let noise = mix((number * 1_000_003 + step) as u64);
    let (_, counts, _) = FAMILIES[number % SERIES_A_HOST % FAMILIES.len()];
    let base = (mix(number as u64) % 1_000_000) as f64;
    match (counts, number % 3) {
        (true, 0) => base + (step as f64) * 37.0 + (noise % 32) as f64,
        (true, _) => (base * 100.0 + (step as f64) * 1_411.0 + (noise % 900) as f64).round() / 100.0,
        (false, 0) => base,
        (false, _) => base + (noise % 4_096) as f64,
    }
}

/// Returns passes over the same series, each with later times, that end about now.
pub(crate) fn passes(count: usize) -> Vec<Arc<Pass>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let steps = i64::try_from(STEPS * count).unwrap();
    let first = i64::try_from(now.as_millis()).unwrap() / STEP_MS * STEP_MS - (steps + 1) * STEP_MS;
    let series: Vec<Labels> = (0..SERIES).map(labels).collect();
    let bytes = series.iter().map(|l| l.as_bytes().len()).sum::<usize>() / SERIES;
    println!(
        "load: {SERIES} series of {bytes} label bytes, {STEPS} steps a pass, {SERIES_A_REQUEST} a request"
    );
    (0..count).map(|pass| Arc::new(one_pass(&series, pass, first))).collect()
}

fn one_pass(series: &[Labels], pass: usize, first_ms: i64) -> Pass {
    let mut connections: Pass = vec![Vec::new(); CONNECTIONS];
    for step in (pass * STEPS)..((pass + 1) * STEPS) {
        let ts_ms = first_ms + i64::try_from(step).unwrap() * STEP_MS;
        for (request, chunk) in series.chunks(SERIES_A_REQUEST).enumerate() {
            let number = request * SERIES_A_REQUEST;
            let samples: Vec<[Sample; 1]> =
                (0..chunk.len()).map(|i| [Sample::new(ts_ms, value(number + i, step))]).collect();
            let send: Vec<SeriesToSend<'_>> = chunk
                .iter()
                .zip(&samples)
                .map(|(labels, samples)| SeriesToSend { labels, samples })
                .collect();
            let body = encode_request(Protocol::V1, &send);
            let body = snap::raw::Encoder::new().compress_vec(&body).unwrap();
            // A series stays with its connection, as with Prometheus' shards.
            connections[request % CONNECTIONS].push(body.into());
        }
    }
    connections
}
