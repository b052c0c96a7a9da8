//! StoreAPI over blocks: samples per CPU-second of the server.

use super::kept::send;
use super::support::{Setup, recording};
use super::table::{Table, rate, verdict};

const ROUNDS: u32 = 5;
const SAMPLES_A_CPU_SECOND: f64 = 8e6;

pub(crate) async fn measure(table: &mut Table) {
    let Some(held) = recording("StoreAPI") else { return };
    let setup = Setup::standalone().flags(&["--ingest.max-age=100y"]);
    let perennial = setup.start().await;
    send(&held, i64::MIN, i64::MAX, &setup.remote_write()).await;
    perennial.flush().await;
    perennial.stop();
    // A new process answers from blocks alone.
    let perennial = setup.start().await;
    let client = setup.store_api().await;
    let last = held.series.values().flatten().map(|s| s.0).max().unwrap();
    let (start, end) = (last - 3_600_000, last);
    let expected = held.within(start, end).samples();
    let (mut samples, before) = (0usize, perennial.process.cpu_seconds());
    for _ in 0..ROUNDS {
        let came = client.count(start, end).await;
        assert!(came >= expected, "{came} samples came, {expected} lie in the range");
        samples += expected;
    }
    let per_second = samples as f64 / (perennial.process.cpu_seconds() - before);
    perennial.stop();
    let bar = verdict(per_second >= SAMPLES_A_CPU_SECOND, "8 M");
    table.add("StoreAPI Series over recording-1, 1 h, all series", "Perennial", rate(per_second), bar);
}
