//! Samples per CPU-second of the server, for series it has not seen and for series it knows.

use std::sync::Arc;
use std::time::Duration;

use perennial::wire::remote_write::Protocol;

use super::floor;
use super::load::{CONNECTIONS, Pass, SERIES, STEPS, passes, passes_of};
use super::servers::{VictoriaMetrics, receiving_prometheus};
use super::support::{Process, Setup, client};
use super::table::{Table, rate, verdict};

// Work that a server put off until after its answer belongs to the pass.
const SETTLE: Duration = Duration::from_secs(2);

const PERENNIAL_OVER_VICTORIA: [f64; 2] = [4.0, 3.0];
const PERENNIAL_OVER_PROMETHEUS: f64 = 15.0;
const PERENNIAL_OVER_FLOOR: f64 = 0.30;
const V2_OVER_V1: f64 = 1.3;

pub(crate) async fn measure(table: &mut Table) {
    let passes = passes(2);
    let floor = floor::samples_per_cpu_second(&passes);

    let setup = Setup::standalone();
    let perennial = setup.start().await;
    let own = both(Protocol::V1, &passes, &setup.write_url(), &perennial.process).await;
    perennial.stop();
    versions(table, &passes).await;

    let mut victoria = None;
    if let Some(server) = VictoriaMetrics::start().await {
        victoria = Some(both(Protocol::V1, &passes, &server.url("/api/v1/write"), &server.process).await);
    }
    let mut prometheus = None;
    if let Some(server) = receiving_prometheus().await {
        prometheus = Some(both(Protocol::V1, &passes, &server.url("/api/v1/write"), &server.process).await);
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

/// Remote write 2.0 against 1.0 with the same samples, in turns: the best of three runs of each counts.
async fn versions(table: &mut Table, v1: &[Arc<Pass>]) {
    let v2 = passes_of(Protocol::V2, SERIES, STEPS, v1.len());
    let mut best = [[0.0f64; 2]; 2];
    for _ in 0..3 {
        for (best, (protocol, passes)) in best.iter_mut().zip([(Protocol::V1, v1), (Protocol::V2, &v2)]) {
            let setup = Setup::standalone();
            let perennial = setup.start().await;
            let rates = both(protocol, passes, &setup.write_url(), &perennial.process).await;
            perennial.stop();
            best.iter_mut().zip(rates).for_each(|(best, rate)| *best = best.max(rate));
        }
    }
    for (number, pass) in ["first pass (series new)", "second pass (series known)"].iter().enumerate() {
        let (v1, v2) = (best[0][number], best[1][number]);
        let figure = format!("remote write 2.0, {pass}");
        let bar = format!("{:.2} x 1.0 at {} ({V2_OVER_V1})", v2 / v1, rate(v1));
        table.add(&figure, "Perennial", rate(v2), verdict(v2 / v1 >= V2_OVER_V1, &bar));
    }
}

/// Sends two passes and returns the samples per CPU-second of each.
async fn both(protocol: Protocol, passes: &[Arc<Pass>], url: &str, server: &Process) -> [f64; 2] {
    let mut rates = [0.0; 2];
    for (rate, pass) in rates.iter_mut().zip(passes) {
        let before = server.cpu_seconds();
        send_as(protocol, pass, url).await;
        tokio::time::sleep(SETTLE).await;
        *rate = (SERIES * STEPS) as f64 / (server.cpu_seconds() - before);
    }
    rates
}

/// Sends a pass of 1.0 over its connections.
pub(crate) async fn send(pass: &Arc<Pass>, url: &str) {
    send_as(Protocol::V1, pass, url).await;
}

/// Sends a pass over its connections.
async fn send_as(protocol: Protocol, pass: &Arc<Pass>, url: &str) {
    // Prometheus' own servers of before 2.0 know the short type only.
    let (content_type, version) = match protocol {
        Protocol::V1 => ("application/x-protobuf", "0.1.0"),
        Protocol::V2 => (protocol.content_type(), "2.0.0"),
    };
    let connections = (0..CONNECTIONS).map(|connection| {
        let (pass, url) = (Arc::clone(pass), url.to_owned());
        tokio::spawn(async move {
            let client = client();
            for body in &pass[connection] {
                let request = client
                    .post(&url)
                    .header("Content-Type", content_type)
                    .header("Content-Encoding", "snappy")
                    .header("X-Prometheus-Remote-Write-Version", version)
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
