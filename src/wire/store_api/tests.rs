use prost::Message as _;

use super::*;
use crate::model::ErrorKind;
use crate::wire::ChunkKind;

fn labels() -> Labels {
    Labels::from_pairs([("__name__", "up"), ("job", "node"), ("pod", "a-1")]).unwrap()
}

#[test]
fn an_encoded_series_decodes_to_its_parts() {
    let long = vec![7u8; 300];
    let chunk = |kind, min_time_ms, max_time_ms, data| WireChunk { kind, min_time_ms, max_time_ms, data };
    let chunks = [
        chunk(ChunkKind::Xor, i64::MIN, -1, &[1u8, 2, 3][..]),
        chunk(ChunkKind::Histogram, 0, 0, &[][..]),
        chunk(ChunkKind::FloatHistogram, 5, i64::MAX, &long),
    ];
    let response = SeriesResponse::batch(vec![
        EncodedSeries::encode(&labels(), chunks.into_iter()),
        EncodedSeries::encode(&Labels::empty(), std::iter::empty()),
    ]);
    let read = SeriesResponse::decode(response.encode_to_vec().as_slice()).unwrap();
    assert_eq!(read, response);
    let Some(series_response::Result::Batch(batch)) = read.result else { panic!("not a batch") };
    assert_eq!(batch.series[1].decode().unwrap(), Series::default());
    let series = batch.series[0].decode().unwrap();
    let pairs: Vec<_> = series.labels.iter().map(|l| (l.name.as_str(), l.value.as_str())).collect();
    assert_eq!(pairs, labels().iter().collect::<Vec<_>>());
    assert_eq!(series.chunks.len(), chunks.len());
    let encodings = [chunk::Encoding::Xor, chunk::Encoding::Histogram, chunk::Encoding::FloatHistogram];
    for ((read, sent), encoding) in series.chunks.iter().zip(chunks).zip(encodings) {
        let raw = read.raw.as_ref().unwrap();
        let times = (sent.min_time_ms, sent.max_time_ms);
        assert_eq!((read.min_time, read.max_time, &raw.data[..]), (times.0, times.1, sent.data));
        assert_eq!(raw.r#type(), encoding);
        assert_eq!(raw.hash, xxhash_rust::xxh64::xxh64(sent.data, 0));
        assert!(read.count.is_none() && read.counter.is_none());
    }
}

#[test]
fn encoding_keeps_within_what_it_reserves() {
    let data = vec![0xFFu8; 1 << 20];
    let kind = ChunkKind::FloatHistogram;
    let chunk = WireChunk { kind, min_time_ms: i64::MIN, max_time_ms: i64::MIN, data: &data };
    let encoded = EncodedSeries::encode(&labels(), [chunk].into_iter());
    assert!(encoded.byte_len() <= labels().as_bytes().len() + data.len() + CHUNK_OVERHEAD);
}

#[test]
fn a_series_alone_and_a_warning_are_their_own_messages() {
    let series = SeriesResponse::series(EncodedSeries::encode(&labels(), std::iter::empty()));
    assert_eq!(series.encode_to_vec()[0], 0x0A);
    assert_eq!(SeriesResponse::warning("w".to_owned()).encode_to_vec(), [0x12, 1, b'w']);
}

#[test]
fn shards_are_disjoint_and_complete() {
    for (by, names) in [(true, vec!["job", "pod"]), (false, vec!["pod"]), (false, vec![]), (true, vec![])] {
        for pod in 0..50 {
            let labels = Labels::from_pairs([("job", "j".to_owned()), ("pod", pod.to_string())]).unwrap();
            let selected = (0..4).filter(|index| {
                let labels_hashed = names.iter().map(|n| (*n).to_owned()).collect();
                ShardInfo { shard_index: *index, total_shards: 4, by, labels: labels_hashed }.selects(&labels)
            });
            assert_eq!(selected.count(), 1);
        }
    }
}

#[test]
fn the_shard_hash_runs_over_the_chosen_labels_only() {
    let hashed = xxhash_rust::xxh64::xxh64(b"job\xFFnode\xFF", 0);
    let shard = |by, names: &[&str]| ShardInfo {
        shard_index: (hashed % 1_000) as i64,
        total_shards: 1_000,
        by,
        labels: names.iter().map(|n| (*n).to_owned()).collect(),
    };
    assert!(shard(true, &["job"]).selects(&labels()));
    assert!(shard(false, &["__name__", "pod"]).selects(&labels()));
    assert!(!shard(false, &["pod"]).selects(&labels()));
    assert!(ShardInfo { total_shards: 0, ..shard(true, &[]) }.selects(&labels()));
    assert!(!ShardInfo { shard_index: -1, ..shard(true, &[]) }.selects(&labels()));
}

#[test]
fn matchers_outside_the_bounds_are_refused() {
    let matcher =
        |kind, value: &str| LabelMatcher { r#type: kind, name: "a".to_owned(), value: value.to_owned() };
    let kinds = decode_matchers(&[0, 1, 2, 3].map(|k| matcher(k, "x"))).unwrap();
    assert_eq!(kinds.iter().map(|m| m.matches("x")).collect::<Vec<_>>(), [true, false, true, false]);
    for bad in [vec![matcher(4, "x")], vec![matcher(-1, "x")], vec![matcher(2, "(")]] {
        assert_eq!(decode_matchers(&bad).unwrap_err().kind(), ErrorKind::Invalid);
    }
    let many = vec![matcher(0, "x"); MATCHERS_MAX + 1];
    assert_eq!(decode_matchers(&many).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn the_services_have_the_names_that_queriers_call() {
    assert_eq!(store_server::SERVICE_NAME, "thanos.Store");
    assert_eq!(info::info_server::SERVICE_NAME, "thanos.info.Info");
    assert_eq!(exemplars_server::SERVICE_NAME, "thanos.Exemplars");
    assert_eq!(metadata_server::SERVICE_NAME, "thanos.Metadata");
}
