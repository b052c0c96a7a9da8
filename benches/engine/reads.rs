//! Reads of a large bucket: what one series costs, ten thousand series from afar, and the start on many blocks.

use std::path::Path;
use std::time::{Duration, Instant};

use perennial::model::TimeRange;

use super::bucket::{Buckets, Services, label_columns};
use super::object_server::ObjectServer;
use super::support::{Perennial, Setup, StoreApi};
use super::table::{Table, verdict};

const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;
/// 2026-01-01.
const FIRST_DAY_MS: i64 = 1_767_225_600_000;

const DAYS: i64 = 30;
const STEP_MS: i64 = 15_000;
/// The day that is read, and its neighbours, have a sample every 15 s; the others every 5 min, so that the bucket is
/// made in minutes.
const READ_DAY: i64 = 17;
const THIN_STEP_MS: i64 = 300_000;

const REQUESTS_MAX: (u64, u64) = (5, 2);
const BYTES_MAX: u64 = 1 << 20;

const PAUSE: Duration = Duration::from_millis(20);
const ROUNDS: usize = 3;
const FAR_MAX: f64 = 2.0;

const MANY_BLOCKS: u64 = 10_000;
const START_MAX: Duration = Duration::from_secs(5);
const START_BYTES_MAX: u64 = 200 << 20;

fn day(number: i64) -> TimeRange {
    let start_ms = FIRST_DAY_MS + number * DAY_MS;
    TimeRange { start_ms, end_ms: start_ms + DAY_MS }
}

/// Requests and bytes of one series of one day, by a process that has just started and by one that has read it.
pub(crate) async fn one_series(table: &mut Table) {
    let (folder, services) = (tempfile::tempdir().unwrap(), Services::new(100, 100, 5));
    let (buckets, columns) = (Buckets::open(folder.path()), label_columns());
    let mut entries = Vec::new();
    for number in 0..DAYS {
        let step_ms = if (number - READ_DAY).abs() <= 1 { STEP_MS } else { THIN_STEP_MS };
        entries.push(buckets.store_block(day(number), &columns, services.runs(day(number), step_ms)).await);
    }
    let read = &entries[usize::try_from(READ_DAY).unwrap()];
    let block = format!("{} M samples, {} MiB", read.samples / 1_000_000, read.size_bytes >> 20);
    buckets.commit(&columns, entries).await;
    let server = ObjectServer::start(folder.path(), Duration::ZERO).await;
    let (mut cold, mut warm, mut other) = ((0, 0), (0, 0), (0, 0));
    for (metric, target) in [(3, 17), (49, 0), (57, 63), (88, 99), (99, 42)] {
        let setup = Setup::role("store").bucket(&server.objstore_config());
        let perennial = setup.start().await;
        let client = setup.store_api().await;
        server.take();
        for (most, device) in [(&mut cold, 2), (&mut warm, 2), (&mut other, 4)] {
            let samples = one(&client, (metric, target, device)).await;
            assert!(samples.abs_diff((DAY_MS / STEP_MS) as usize) <= 1, "{samples} samples");
            let (requests, bytes) = server.take();
            *most = (requests.max(most.0), bytes.max(most.1));
        }
        perennial.stop();
    }
    let met = cold.0 <= REQUESTS_MAX.0 && warm.0 <= REQUESTS_MAX.1 && cold.1 <= BYTES_MAX;
    let bar = format!("{} / {}, {} KiB", REQUESTS_MAX.0, REQUESTS_MAX.1, BYTES_MAX >> 10);
    let value = format!(
        "{} requests cold, {} warm, {} for its neighbour; {} KiB cold, {} KiB warm ({block} a day)",
        cold.0,
        warm.0,
        other.0,
        cold.1 >> 10,
        warm.1 >> 10
    );
    let figure = "one series, one day, of 30 one-day blocks x 50 k series (worst of 5)";
    table.add(figure, "Perennial", value, verdict(met, &bar));
}

async fn one(client: &StoreApi, (metric, target, device): (usize, usize, usize)) -> usize {
    let matchers = Services::matchers(metric, target, device);
    let matchers: Vec<(i32, &str, &str)> = matchers.iter().map(|(k, n, v)| (*k, *n, v.as_str())).collect();
    let TimeRange { start_ms, end_ms } = day(READ_DAY);
    client.matching(&matchers, start_ms, end_ms - 1, &[]).await.samples()
}

/// Ten thousand series of six hours, in the blocks of half an hour that a receiver makes, by processes that have just
/// started: from the local folder, and from a store that answers 20 ms late.
pub(crate) async fn far_away(table: &mut Table) {
    let setup = Setup::role("store");
    let (folder, services) = (setup.bucket_dir(), Services::new(100, 100, 1));
    write_half_hours(&folder, &services).await;
    let server = ObjectServer::start(&folder, PAUSE).await;
    let far_setup = Setup::role("store").bucket(&server.objstore_config());
    let (mut near, mut far) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        near.push(timed(&setup, &services).await);
        let _ = std::fs::remove_dir_all(far_setup.data_dir().join("read-cache"));
        far.push(timed(&far_setup, &services).await);
    }
    let (requests, bytes) = server.take();
    let [near, far] = [&mut near, &mut far].map(|rounds| {
        rounds.sort_by(f64::total_cmp);
        rounds[ROUNDS / 2]
    });
    let value = format!(
        "{far:.2} s, {near:.2} s from the local folder ({} requests, {} MiB)",
        requests / ROUNDS as u64,
        (bytes / ROUNDS as u64) >> 20
    );
    let bar = verdict(far <= near * FAR_MAX, &format!("{:.2} x (2)", far / near));
    table.add(
        "10,000 series x 6 h over StoreAPI, 20 ms added to each request, cold",
        "Perennial",
        value,
        bar,
    );
}

async fn write_half_hours(folder: &Path, services: &Services) {
    let (buckets, columns) = (Buckets::open(folder), label_columns());
    let mut entries = Vec::new();
    for start_ms in (FIRST_DAY_MS..FIRST_DAY_MS + 6 * HOUR_MS).step_by((HOUR_MS / 2) as usize) {
        let range = TimeRange { start_ms, end_ms: start_ms + HOUR_MS / 2 };
        entries.push(buckets.store_block(range, &columns, services.runs(range, STEP_MS)).await);
    }
    buckets.commit(&columns, entries).await;
}

/// Returns the seconds that a new process takes for all samples.
async fn timed(setup: &Setup, services: &Services) -> f64 {
    let perennial: Perennial = setup.start().await;
    let client = setup.store_api().await;
    let started = Instant::now();
    let samples = client.count(FIRST_DAY_MS, FIRST_DAY_MS + 6 * HOUR_MS - 1).await;
    let seconds = started.elapsed().as_secs_f64();
    let expected = services.len() * (6 * HOUR_MS / STEP_MS) as usize;
    assert!(samples.abs_diff(expected) <= services.len() * 12, "{samples} of {expected} samples");
    perennial.stop();
    seconds
}

/// Time until a process is ready and has told its label sets, and its memory then.
pub(crate) async fn start(table: &mut Table) {
    let setup = Setup::role("store");
    let buckets = Buckets::open(&setup.bucket_dir());
    let mut columns = label_columns();
    columns.extend((0..20).map(|number| format!("label_of_some_team_{number:02}")));
    for first in (0..MANY_BLOCKS).step_by(250) {
        let entries = (first..first + 250).map(|number| buckets.entry(number, &columns));
        buckets.commit(&columns, entries.collect()).await;
    }
    let started = Instant::now();
    let perennial = setup.start().await;
    let sets = setup.store_api().await.label_sets().await;
    let took = started.elapsed();
    assert_eq!(sets, 1, "all blocks have the same external labels");
    let bytes = perennial.process.memory_bytes("VmHWM");
    let met = took <= START_MAX && bytes <= START_BYTES_MAX;
    let value = format!("{:.2} s, {} MiB", took.as_secs_f64(), bytes >> 20);
    table.add("store start on 10,000 blocks", "Perennial", value, verdict(met, "5 s, 200 MiB"));
    perennial.stop();
}
