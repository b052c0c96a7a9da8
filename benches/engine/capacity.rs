//! What a receiver needs: memory for its series, and time to come back after a kill.

use std::time::{Duration, Instant};

use perennial::wire::remote_write::Protocol;

use super::ingest::send;
use super::load::passes_of;
use super::support::{Setup, TsdbOptions, TsdbServer, client, program};
use super::table::{Table, verdict};

const MANY_SERIES: usize = 1_000_000;
const SAMPLES_EACH: usize = 10;
const BYTES_A_SERIES_MAX: f64 = 900.0;

const REPLAYED_SERIES: usize = 20_000;
const REPLAYED_STEPS: usize = 720;
const PASSES: usize = 6;
const ROUNDS: usize = 3;
const AGAINST_PROMETHEUS_MAX: f64 = 0.1;

/// Nothing is cut while the figures are taken.
const NO_CUT: &str = "--head.cut-interval=6h";

/// Resident memory of the whole process with many active series.
pub(crate) async fn memory(table: &mut Table) {
    let setup = Setup::standalone().flags(&[NO_CUT]);
    let perennial = setup.start().await;
    let empty_bytes = perennial.process.memory_bytes("VmRSS");
    // Step by step, so that not all bodies are in memory at once.
    let passes = passes_of(Protocol::V1, MANY_SERIES, 1, SAMPLES_EACH);
    for pass in &passes {
        send(pass, &setup.write_url()).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let bytes = perennial.process.memory_bytes("VmRSS");
    let per_series = bytes as f64 / MANY_SERIES as f64;
    table.add(
        &format!("{} M active series, {SAMPLES_EACH} samples each", MANY_SERIES / 1_000_000),
        "Perennial",
        format!("{} MiB resident ({} MiB before)", bytes >> 20, empty_bytes >> 20),
        verdict(per_series <= BYTES_A_SERIES_MAX, &format!("{per_series:.0} B a series (900)")),
    );
    perennial.stop();
}

/// From the start of the process after a kill to its readiness, with the same data in both logs.
pub(crate) async fn replay(table: &mut Table) {
    let steps = REPLAYED_STEPS / PASSES;
    let passes = passes_of(Protocol::V1, REPLAYED_SERIES, steps, PASSES);
    let samples = REPLAYED_SERIES * REPLAYED_STEPS;
    let setup = Setup::standalone().flags(&[NO_CUT]);
    let mut perennial = setup.start().await;
    for pass in &passes {
        send(pass, &setup.write_url()).await;
    }
    let mut own = f64::MAX;
    for _ in 0..ROUNDS {
        perennial.kill();
        let start = Instant::now();
        perennial = setup.start().await;
        own = own.min(start.elapsed().as_secs_f64());
    }
    assert_eq!(counted(&setup).await, REPLAYED_SERIES, "all series are back");
    perennial.stop();
    let mut theirs = None;
    if program("prometheus").is_some() {
        // With blocks of two hours it would have written most of the data as blocks, and would not replay it.
        let mut server =
            TsdbServer::new(TsdbOptions { block_seconds: Some(6 * 3_600), ..TsdbOptions::default() });
        server.start().await;
        for pass in &passes {
            send(pass, &server.url("/api/v1/write")).await;
        }
        let mut least = f64::MAX;
        for _ in 0..ROUNDS {
            server.kill();
            let start = Instant::now();
            server.start().await;
            least = least.min(start.elapsed().as_secs_f64());
        }
        theirs = Some(least);
    }
    let figure = format!("kill -9 and restart with {:.1} M samples in the log", samples as f64 / 1e6);
    let bar = theirs.map_or("Prometheus is not installed".to_owned(), |theirs| {
        let ratio = own / theirs;
        verdict(ratio <= AGAINST_PROMETHEUS_MAX, &format!("{ratio:.3} x Prometheus (0.1)"))
    });
    table.add(&figure, "Perennial", format!("{own:.2} s"), bar);
    if let Some(theirs) = theirs {
        table.add(&figure, "Prometheus", format!("{theirs:.2} s"), String::new());
    }
}

/// Returns how many series can be found.
async fn counted(setup: &Setup) -> usize {
    let url = setup.url("/api/v1/series?match[]=%7B__name__%3D~%22.%2B%22%7D");
    let answer: serde_json::Value = client().get(url).send().await.unwrap().json().await.unwrap();
    answer["data"].as_array().map_or(0, Vec::len)
}
