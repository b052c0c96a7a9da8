//! A log that we write is read by the real Prometheus.

use std::collections::BTreeSet;
use std::process::Command;

use perennial::model::Labels;
use perennial::tsdb::wal::{Compression, FloatSample, Record, SegmentWriter, SeriesRecord};

use crate::support::{installed, program};

const SERIES: u64 = 900;
const STEPS: i64 = 5;
const START_MS: i64 = 1_700_000_000_000;

fn id(reference: u64) -> String {
    format!(
        "{reference:05}-{:032x}",
        u128::from(reference).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    )
}

/// A log whose records need several fragments: all series in one, all samples of a time in another.
fn log_segment(compression: Compression) -> Vec<u8> {
    let series = (1..=SERIES).map(|reference| {
        let id = id(reference);
        let labels = Labels::from_pairs([("__name__", "written"), ("id", id.as_str())]).unwrap();
        SeriesRecord::new(reference, &labels)
    });
    let mut records = vec![Record::Series(series.collect())];
    for step in 0..STEPS {
        let sample = |reference| FloatSample {
            reference,
            ts_ms: START_MS + step * 1_000,
            value_bits: value(reference, step).to_bits(),
            start_ms: START_MS,
        };
        let samples = Record::SamplesV2((1..=SERIES).rev().map(sample).collect());
        records.extend(samples.without_start_times());
    }
    let mut writer = SegmentWriter::new(compression);
    for record in records {
        let mut data = Vec::new();
        record.encode(&mut data);
        writer.append(&data);
    }
    writer.finish()
}

fn value(reference: u64, step: i64) -> f64 {
    if reference == 7 { -0.0 } else { (reference as f64).sqrt() * step as f64 }
}

#[test]
fn promtool_reads_the_log_that_we_write() {
    if !installed("promtool_reads_the_log_that_we_write", &["promtool"]) {
        return;
    }
    let mut expected = BTreeSet::new();
    for (reference, step) in (1..=SERIES).flat_map(|r| (0..STEPS).map(move |s| (r, s))) {
        let labels = format!("{{__name__=\"written\", id=\"{}\"}}", id(reference));
        expected.insert((labels, value(reference, step).to_bits(), START_MS + step * 1_000));
    }
    for compression in [Compression::None, Compression::Snappy] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("wal")).unwrap();
        std::fs::write(folder.path().join("wal/00000000"), log_segment(compression)).unwrap();
        let promtool = program("promtool").unwrap();
        let dump = Command::new(promtool).args(["tsdb", "dump"]).arg(folder.path()).output().unwrap();
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        let text = String::from_utf8(dump.stdout).unwrap();
        let dumped: BTreeSet<_> = text
            .lines()
            .map(|line| {
                let (rest, ts_ms) = line.rsplit_once(' ').unwrap();
                let (labels, value) = rest.rsplit_once(' ').unwrap();
                (labels.to_owned(), value.parse::<f64>().unwrap().to_bits(), ts_ms.parse::<i64>().unwrap())
            })
            .collect();
        assert!(dumped == expected, "{compression:?}: {} of {} samples", dumped.len(), expected.len());
    }
}
