//! Samples per CPU-second of the server, for series it has not seen and for series it knows.

use std::sync::Arc;
use std::time::Duration;

use super::floor;
use super::load::{CONNECTIONS, Pass, SERIES, STEPS, passes};
use super::servers::{VictoriaMetrics, receiving_prometheus};
use super::support::{Process, Setup, client};
use super::table::{Table, rate, verdict};

// Work that a server put off until after its answer belongs to the pass.
const SETTLE: Duration = Duration::from_secs(2);

const PERENNIAL_OVER_VICTORIA: [f64; 2] = [4.0, 3.0];
const PERENNIAL_OVER_PROMETHEUS: f64 = 15.0;
const PERENNIAL_OVER_FLOOR: f64 = 0.30;

pub(crate) async fn measure(table: &mut Table) {
    let passes = passes(2);
    let floor = floor::samples_per_cpu_second(&passes);

    let setup = Setup::standalone();
    let perennial = setup.start().await;
    let own = both(&passes, &setup.write_url(), &perennial.process).await;
    perennial.stop();

    let mut victoria = None;
    if let Some(server) = VictoriaMetrics::start().await {
        victoria = Some(both(&passes, &server.url("/api/v1/write"), &server.process).await);
    }
    let mut prometheus = None;
    if let Some(server) = receiving_prometheus().await {
        prometheus = Some(both(&passes, &server.url("/api/v1/write"), &server.process).await);
    }

    for (number, pass) in ["first pass (series new)", "second pass (series known)"].iter().enumerate() {
        let figure = format!("remote write, {pass}");
        let mut bars = Vec::new();
        let over_floor = own[number] / floor;
        bars.push(verdict(
            over_floor >= PERENNIAL_OVER_FLOOR,
            &format!("{:.0} % of the floor (30)", over_floor * 100.0),
        ));
        if let Some(victoria) = victoria {
            let (ratio, bar) = (own[number] / victoria[number], PERENNIAL_OVER_VICTORIA[number]);
            bars.push(verdict(ratio >= bar, &format!("{ratio:.1} x VictoriaMetrics ({bar})")));
        }
        if let Some(prometheus) = prometheus {
            let (ratio, bar) = (own[number] / prometheus[number], PERENNIAL_OVER_PROMETHEUS);
            bars.push(verdict(ratio >= bar, &format!("{ratio:.1} x Prometheus ({bar})")));
        }
        table.add(&figure, "Perennial", rate(own[number]), bars.join(", "));
        table.add(
            &figure,
            "VictoriaMetrics",
            victoria.map_or("not installed".to_owned(), |r| rate(r[number])),
            String::new(),
        );
        table.add(
            &figure,
            "Prometheus",
            prometheus.map_or("not installed".to_owned(), |r| rate(r[number])),
            String::new(),
        );
    }
    table.add("floor: snappy, protobuf, label hash, look-up", "in process", rate(floor), String::new());
}

/// Sends two passes and returns the samples per CPU-second of each.
async fn both(passes: &[Arc<Pass>], url: &str, server: &Process) -> [f64; 2] {
    let mut rates = [0.0; 2];
    for (rate, pass) in rates.iter_mut().zip(passes) {
        let before = server.cpu_seconds();
        send(pass, url).await;
        tokio::time::sleep(SETTLE).await;
        *rate = (SERIES * STEPS) as f64 / (server.cpu_seconds() - before);
    }
    rates
}

/// Sends a pass over its connections.
pub(crate) async fn send(pass: &Arc<Pass>, url: &str) {
    let connections = (0..CONNECTIONS).map(|connection| {
        let (pass, url) = (Arc::clone(pass), url.to_owned());
        tokio::spawn(async move {
            let client = client();
            for body in &pass[connection] {
                let request = client
                    .post(&url)
                    .header("Content-Type", "application/x-protobuf")
                    .header("Content-Encoding", "snappy")
                    .header("X-Prometheus-Remote-Write-Version", "0.1.0")
                    .body(body.clone());
                let answer = request.send().await.unwrap();
                assert!(
                    answer.status().is_success(),
                    "{}: {}",
                    answer.status(),
                    answer.text().await.unwrap()
                );
            }
        })
    });
    for connection in connections.collect::<Vec<_>>() {
        connection.await.unwrap();
    }
}
