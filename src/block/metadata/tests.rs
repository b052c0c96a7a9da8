use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::block::tests::{block_on, cpu, spec};
use crate::model::normalize_metadata;
use crate::runtime::random_from_seed;

pub(in crate::block) fn write(entries: &[MetadataEntry]) -> (Bytes, BlockStats) {
    let mut out = Vec::new();
    let stats = write_metadata(&mut out, &spec(&[]), entries).unwrap();
    (out.into(), stats)
}

pub(in crate::block) async fn read(file: &Bytes) -> Result<Vec<MetadataEntry>, BlockError> {
    MetadataReader::open(Arc::new(file.clone()), cpu(), file.len() as u64).await?.entries().await
}

pub(in crate::block) fn entry(family: &str, since_ms: i64, kind: MetricType, help: &str) -> MetadataEntry {
    let metadata = Metadata { kind, help: help.to_owned(), unit: "seconds".to_owned() };
    MetadataEntry { family: family.to_owned(), since_ms, metadata }
}

/// Each special case of the format once.
pub(in crate::block) fn special_cases() -> Vec<MetadataEntry> {
    vec![
        entry("a", 1_000, MetricType::Counter, "It counts.\nIn lines."),
        entry("a", 2_000, MetricType::GaugeHistogram, ""),
        entry("utf8.name/ö", -5, MetricType::Unknown, "\0"),
    ]
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(entries in prop::collection::vec(("[a-b]{0,2}", any::<i64>(), 0i64..9, "\\PC{0,4}"), 0..20)) {
        let mut entries: Vec<MetadataEntry> = entries
            .into_iter()
            .map(|(family, since_ms, kind, help)| entry(&family, since_ms, MetricType::from_number(kind), &help))
            .collect();
        normalize_metadata(&mut entries);
        let (file, stats) = write(&entries);
        prop_assert_eq!(stats.rows as usize, entries.len());
        prop_assert_eq!(block_on(read(&file)).unwrap(), entries);
    }
}

#[test]
fn families_and_entries_are_counted() {
    let (file, stats) = write(&special_cases());
    assert_eq!((stats.series, stats.samples), (2, 3));
    assert_eq!((stats.min_time_ms, stats.max_time_ms), (-5, 2_001));
    assert_eq!((stats.metric_min.as_str(), stats.metric_max.as_str()), ("a", "utf8.name/ö"));
    assert_eq!(block_on(read(&file)).unwrap(), special_cases());
}

#[test]
fn entries_out_of_order_are_refused() {
    let mut entries = special_cases();
    entries.reverse();
    let error = write_metadata(Vec::new(), &spec(&[]), &entries).unwrap_err();
    assert!(matches!(error, BlockError::SeriesOrder { .. }));
}

#[test]
fn damage_is_an_error_and_never_wrong_memory() {
    let (file, _) = write(&special_cases());
    let random = random_from_seed(13);
    for _ in 0..200 {
        let mut bytes = file.to_vec();
        let at = random.next_u64() as usize % bytes.len();
        bytes[at] ^= 1 << (random.next_u64() % 8);
        let _ = block_on(read(&bytes.into()));
    }
}
