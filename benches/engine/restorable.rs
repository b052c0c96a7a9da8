//! What archiving costs: from a sample to a restorable one, CPU and memory of the archiver, bytes kept.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use perennial::archive::{Archive, Piece, RollUp, RollUpSettings};
use perennial::bucket::{Bucket, BucketConfig};
use perennial::envelope::Envelope;
use perennial::model::SourceName;
use perennial::runtime::{Cpu, Metrics, Random};
use perennial::tsdb::wal::{RecordKind, summarize};

use super::ingest::send;
use super::kept::send_every;
use super::load::{SERIES, STEPS, passes};
use super::servers::{bytes_below, receiving_prometheus};
use super::support::{
    ArchiverSetup, CatalogFiles, Load, LocalBucket, SOURCE, TsdbOptions, TsdbServer, archive_folder, now_ms,
    recording,
};
use super::table::{Table, verdict};

const LATENCY_RUN: Duration = Duration::from_secs(60);
const P50_MAX_MS: i64 = 1_200;
const P99_MAX_MS: i64 = 2_500;
const SAMPLES_A_SECOND: usize = 100_000;
const PACE: Duration = Duration::from_millis(100);
const CPU_MAX: f64 = 0.10;
const RSS_MAX_BYTES: u64 = 150 << 20;
const BYTES_A_SAMPLE_MAX: f64 = 0.75;

/// A sample is restorable once the entry that names its piece is stored.
pub(crate) async fn latency(table: &mut Table) {
    let bucket = LocalBucket::new();
    let mut server = TsdbServer::new(TsdbOptions { scrape_itself: true, ..TsdbOptions::default() });
    server.start().await;
    let archiver = ArchiverSetup::new(&server, &bucket.config()).start().await;
    let load = Load::start_in_order(server.remote_write(), 200, Duration::from_millis(50));
    archiver.catch_up().await;
    tokio::time::sleep(LATENCY_RUN).await;
    load.stop().await;
    archiver.catch_up().await;
    archiver.stop();
    let mut latencies = latencies_ms(bucket.path());
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    let (p50, p99) = (at(0.5), at(0.99));
    table.add(
        "sample scraped to restorable, flush 1 s, local store",
        "Perennial",
        format!("p50 {p50} ms, p99 {p99} ms of {} records", latencies.len()),
        verdict(p50 <= P50_MAX_MS && p99 <= P99_MAX_MS, "p50 1,200 ms, p99 2,500 ms"),
    );
}

/// Returns for each record of samples the time from its newest sample to its entry, past the first entry, which takes
/// what was there before.
fn latencies_ms(bucket: &Path) -> Vec<i64> {
    let catalog = CatalogFiles::read(bucket);
    let mut latencies = Vec::new();
    for (path, entry) in catalog.entries.iter().skip(5) {
        let stored = path.metadata().unwrap().modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
        let stored_ms = i64::try_from(stored.as_millis()).unwrap();
        for piece in entry["pieces"].as_array().into_iter().flatten().filter(|p| p["log"] == "wal") {
            let bytes = std::fs::read(piece_path(bucket, piece)).unwrap();
            let piece = Piece::decompress(&bytes, piece["plain_bytes"].as_u64().unwrap()).unwrap();
            for record in piece.records() {
                let summary = summarize(record.data).unwrap();
                if let (RecordKind::Samples, Some((_, newest_ms))) = (summary.kind, summary.times_ms) {
                    latencies.push(stored_ms - newest_ms);
                }
            }
        }
    }
    latencies
}

fn piece_path(bucket: &Path, piece: &serde_json::Value) -> PathBuf {
    let number = |key: &str| piece[key].as_u64().unwrap();
    let name = format!("{:012}-{:012}-{}", number("start"), number("end"), piece["id"].as_str().unwrap());
    let folder = format!("timelines/{:08}/wal/{:08}", number("timeline"), number("segment"));
    archive_folder(bucket).join(folder).join(name)
}

/// A WAL that Prometheus wrote is grown again at 100,000 samples a second, so that the server's own work does not
/// count.
pub(crate) async fn cost(table: &mut Table) {
    let Some(mut source) = receiving_prometheus().await else { return };
    let passes = passes(2);
    for pass in &passes {
        send(pass, &source.url("/api/v1/write")).await;
    }
    source.process.kill();
    let bucket = LocalBucket::new();
    let fake = TsdbServer::new(TsdbOptions::default());
    std::fs::create_dir_all(fake.data_dir().join("wal")).unwrap();
    std::fs::create_dir_all(fake.data_dir().join("chunks_head")).unwrap();
    File::create(fake.data_dir().join("wal/00000000")).unwrap();
    let archiver = ArchiverSetup::new(&fake, &bucket.config()).start().await;
    let (cpu, start) = (archiver.process.cpu_seconds(), Instant::now());
    let samples = (SERIES * STEPS * passes.len()) as f64;
    let took = Duration::from_secs_f64(samples / SAMPLES_A_SECOND as f64);
    grow(&source.data_dir().join("wal"), &fake.data_dir().join("wal"), took).await;
    archiver.catch_up().await;
    let used = archiver.process.cpu_seconds() - cpu;
    let share = used / (samples / SAMPLES_A_SECOND as f64);
    let rss = archiver.process.memory_bytes("VmHWM");
    println!("cost: {samples} samples in {:.1} s, {used:.2} CPU-s", start.elapsed().as_secs_f64());
    archiver.stop();
    table.add(
        "archiver at 100 k samples/s",
        "Perennial",
        format!("{:.1} % of a core, {} MiB", share * 100.0, rss >> 20),
        verdict(share <= CPU_MAX && rss <= RSS_MAX_BYTES, "10 %, 150 MiB"),
    );
}

/// Appends the segments of one log to another, evenly over a time.
async fn grow(from: &Path, to: &Path, took: Duration) {
    let mut segments: Vec<PathBuf> = std::fs::read_dir(from).unwrap().map(|e| e.unwrap().path()).collect();
    segments.retain(|path| path.is_file());
    segments.sort();
    let total: u64 = segments.iter().map(|path| path.metadata().unwrap().len()).sum();
    let step = (total as f64 * PACE.as_secs_f64() / took.as_secs_f64()) as usize;
    let mut ticks = tokio::time::interval(PACE);
    for segment in segments {
        let mut source = File::open(&segment).unwrap();
        let mut target =
            File::options().create(true).append(true).open(to.join(segment.file_name().unwrap())).unwrap();
        let mut buffer = vec![0; step];
        loop {
            let read = source.read(&mut buffer).unwrap();
            if read == 0 {
                break;
            }
            ticks.tick().await;
            target.write_all(&buffer[..read]).unwrap();
        }
    }
}

/// Bytes of the archived WAL after roll-up, of an hour of real exporters.
pub(crate) async fn kept(table: &mut Table) {
    let Some(held) = recording("bytes of the WAL archive") else { return };
    let bucket = LocalBucket::new();
    let mut server = TsdbServer::new(TsdbOptions::default());
    server.start().await;
    let archiver = ArchiverSetup::new(&server, &bucket.config()).start().await;
    send_every(&held, 1_000, &server.remote_write()).await;
    archiver.catch_up().await;
    archiver.stop();
    server.stop();
    let wal = bytes_below(&server.data_dir().join("wal"));
    let before = bytes_below(&archive_folder(bucket.path()).join("timelines"));
    let after = rolled_up_bytes(bucket.path()).await;
    let samples = held.samples() as f64;
    let figure = "WAL of recording-1, B/sample";
    table.add(figure, "Prometheus", format!("{:.2}", wal as f64 / samples), String::new());
    table.add(figure, "Perennial, as flushed", format!("{:.3}", before as f64 / samples), String::new());
    let each = after as f64 / samples;
    table.add(
        figure,
        "Perennial, rolled up",
        format!("{each:.3}"),
        verdict(each <= BYTES_A_SAMPLE_MAX, "0.75"),
    );
}

/// Rolls an archive up as if everything had settled, and returns the size of the pieces of the WAL that it then names.
async fn rolled_up_bytes(bucket: &Path) -> u64 {
    let opened = Bucket::open(&BucketConfig::filesystem(bucket), &Metrics::new()).unwrap();
    let archive = Archive::new(opened, Envelope::none(), SourceName::new(SOURCE).unwrap());
    let (cpu, random) = (Cpu::start(2).unwrap(), Random::from_os());
    let roll_up = RollUp { archive: &archive, cpu: &cpu, random: &random, now_ms: now_ms() + 86_400_000 };
    roll_up.run(RollUpSettings::default()).await.unwrap();
    let view = archive.load().await.unwrap();
    view.timelines.values().flat_map(|timeline| &timeline.wal).map(|piece| piece.stored_bytes).sum()
}
