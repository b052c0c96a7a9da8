//! The figures of `docs/benchmarks.md`: ingest, bytes kept, StoreAPI, archive, restore and capacity, with the peers in
//! the same run.
//!
//! `make bench` runs all; `cargo bench --bench engine -- ingest` runs one of `ingest`, `bytes`, `histograms`, `store`, `latency`,
//! `archiver`, `rolled-up`, `restore`, `memory`, `replay`, `one-series`, `far-away`, `many-blocks`. Servers are
//! processes of their own and are charged with the CPU time that the kernel counts for them; this process only sends
//! bodies that it prepared before, and reads.

#![allow(clippy::disallowed_methods, reason = "figures are taken from real processes in real time")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench fails by panicking and prints its table"
)]

mod bucket;
mod capacity;
mod floor;
mod histograms;
mod ingest;
mod kept;
mod load;
mod object_server;
mod reads;
mod restorable;
mod restored;
mod servers;
mod store;
#[allow(dead_code, unused_imports, reason = "shared with the integration tests, which use all of it")]
#[path = "../../tests/it/support/mod.rs"]
mod support;
mod table;

use table::Table;

#[tokio::main]
async fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|c| c == name);
    let mut table = Table::default();
    if wanted("ingest") {
        ingest::measure(&mut table).await;
    }
    if wanted("bytes") {
        kept::measure(&mut table).await;
    }
    if wanted("histograms") {
        histograms::measure(&mut table);
    }
    if wanted("store") {
        store::measure(&mut table).await;
    }
    if wanted("latency") {
        restorable::latency(&mut table).await;
    }
    if wanted("archiver") {
        restorable::cost(&mut table).await;
    }
    if wanted("rolled-up") {
        restorable::kept(&mut table).await;
    }
    if wanted("restore") {
        restored::measure(&mut table).await;
    }
    if wanted("memory") {
        capacity::memory(&mut table).await;
    }
    if wanted("replay") {
        capacity::replay(&mut table).await;
    }
    if wanted("one-series") {
        reads::one_series(&mut table).await;
    }
    if wanted("far-away") {
        reads::far_away(&mut table).await;
    }
    if wanted("many-blocks") {
        reads::start(&mut table).await;
    }
    println!("\n{table}");
}
