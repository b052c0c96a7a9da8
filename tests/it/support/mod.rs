//! What the integration tests stand on: the program under test as a process, its real peers, and clients that share
//! no code with it.
//!
//! Everything that is started belongs to one test: own folder, own ports, ended when the handle is dropped. A peer
//! that is not installed makes a test say loudly what it skipped; with `PERENNIAL_REQUIRE_PEERS=1` (set by
//! `make test`) that is a failure.

mod archiver;
mod catalog;
mod chunk;
mod crash_points;
mod dump;
mod exporters;
mod exposition;
mod fake_store;
mod fault_proxy;
mod http;
mod load;
mod perennial;
mod ports;
mod process;
mod prometheus;
mod python;
pub(crate) mod recording;
mod remote_read;
mod remote_write;
mod s3;
mod samples;
mod seed;
mod small_disk;
mod store_api;
mod strace;
mod tsdb_server;

#[allow(unused_imports, reason = "the bench uses all of it")]
pub(crate) use archiver::{
    Archiver, ArchiverSetup, LocalBucket, RestoreCommand, SOURCE, assert_code, local_bucket_config,
    path_text, time_text,
};
pub(crate) use catalog::{CatalogFiles, archive_folder, files_below, tree};
pub(crate) use crash_points::crash_points;
pub(crate) use dump::{Dump, copy_folder};
pub(crate) use exporters::{NodeExporter, Postgres, PostgresExporter, Redis, RedisExporter};
pub(crate) use exposition::{LATENCY_METRIC, PROBE_HELP, Probe, SCRAPES_METRIC};
pub(crate) use fake_store::{FakeStore, Protocol};
pub(crate) use fault_proxy::{Fault, FaultProxy};
pub(crate) use http::{client, get_json, get_text};
pub(crate) use load::{Book, LATE_METRIC, LOAD_METRIC, Load, now_ms};
pub(crate) use perennial::{Perennial, Setup};
pub(crate) use ports::free_port;
pub(crate) use process::{Process, program};
pub(crate) use prometheus::{Prometheus, PrometheusConfig};
pub(crate) use python::Python;
pub(crate) use recording::recording;
pub(crate) use remote_read::{Answer, RawChunk, RemoteRead, read_message};
pub(crate) use remote_write::{Ack, RemoteWrite, Series, compress};
pub(crate) use s3::S3Server;
pub(crate) use samples::{LabelMessage, LabelPairs, SampleSet, label_messages, label_pairs, pairs_of};
pub(crate) use seed::seeded;
pub(crate) use small_disk::SmallDisk;
pub(crate) use store_api::StoreApi;
pub(crate) use strace::Strace;
pub(crate) use tsdb_server::{TsdbOptions, TsdbServer};

use std::io::Write;

/// The bits of Prometheus' stale marker.
pub(crate) const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Says loudly that a test did not run, or fails where peers are required.
pub(crate) fn skip(test: &str, missing: &str) {
    assert!(
        std::env::var_os("PERENNIAL_REQUIRE_PEERS").is_none_or(|v| v != "1"),
        "{test} needs {missing}: run `make test-tools`, or unset PERENNIAL_REQUIRE_PEERS to skip it"
    );
    say_skipped(test, missing);
}

/// Says loudly that a test did not run.
pub(crate) fn say_skipped(test: &str, missing: &str) {
    // Written past the test harness' capture, which would hide it.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: no {missing}");
}

/// Returns whether all programs are installed; else says what is skipped.
pub(crate) fn installed(test: &str, programs: &[&str]) -> bool {
    let missing = programs.iter().find(|name| program(name).is_none());
    if let Some(missing) = missing {
        skip(test, missing);
    }
    missing.is_none()
}
