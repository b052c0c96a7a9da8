//! Every decoder against a seeded mutator: no input may panic, hang or break what a `fuzz_*` function asserts.
//! `make fuzz` runs the same functions under cargo-fuzz.

use std::path::Path;

use perennial::model::{
    CUSTOM_BUCKETS_SCHEMA, Exemplar, FloatHistogram, Histogram, HistogramSample, Labels, Metadata,
    MetadataEntry, MetricType, NativeHistogram, Sample, Span,
};
use perennial::tsdb::XorChunks;
use perennial::tsdb::wal::{SegmentReader, Step};
use perennial::wire::remote_write::{FullSeriesToSend, Protocol, SeriesToSend, encode_full_request};
use prost::Message;
use rand::Rng;
use rand::rngs::StdRng;

use crate::support::{RemoteWrite, Series, label_pairs, read_message, seeded};

const INPUT_BYTES_MAX: usize = 1 << 16;
// Numbers at which decoders tend to break: lengths, counts, varints.
const EDGES: [u8; 8] = [0x00, 0x01, 0x7f, 0x80, 0xff, 0x0a, 0x22, 0x28];

/// How many inputs each decoder gets: `PERENNIAL_FUZZ_ROUNDS`.
fn rounds() -> usize {
    std::env::var("PERENNIAL_FUZZ_ROUNDS").map_or(20_000, |n| n.parse().unwrap())
}

/// Returns an input with a few random changes, sometimes joined with a part of another one.
fn mutate(corpus: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let mut input = corpus[random.random_range(0..corpus.len())].clone();
    for _ in 0..random.random_range(1..=6) {
        if input.is_empty() {
            input.push(random.random());
        }
        let at = random.random_range(0..input.len());
        let end = (at + random.random_range(1..=16)).min(input.len());
        match random.random_range(0..8) {
            0 => input[at] ^= 1 << random.random_range(0..8),
            1 => input[at] = random.random(),
            2 => input[at] = EDGES[random.random_range(0..EDGES.len())],
            3 => input.truncate(at),
            4 => drop(input.drain(at..end)),
            5 => input.splice(at..at, (0..end - at).map(|_| random.random())).for_each(drop),
            6 => {
                let again = input[at..end].to_vec();
                input.splice(at..at, again).for_each(drop);
            }
            _ => {
                let other = &corpus[random.random_range(0..corpus.len())];
                let from = random.random_range(0..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

/// Runs a decoder over the corpus as it is and over mutations of it; `wrap` makes the bytes it really gets.
fn drive(name: &str, corpus: &[Vec<u8>], wrap: impl Fn(Vec<u8>) -> Vec<u8>, decode: fn(&[u8])) {
    let mut random = seeded(name);
    for input in corpus {
        decode(&wrap(input.clone()));
    }
    decode(&[]);
    for _ in 0..rounds() {
        decode(&wrap(mutate(corpus, &mut random)));
    }
}

fn series() -> Vec<Series> {
    let bits = |value: f64| value.to_bits();
    vec![
        Series {
            labels: label_pairs(&[("__name__", "up"), ("instance", "127.0.0.1:9100"), ("job", "node")]),
            samples: vec![(1_700_000_000_000, bits(1.0)), (1_700_000_015_000, crate::support::STALE_BITS)],
        },
        Series {
            labels: label_pairs(&[("__name__", "température"), ("ünit", "°C")]),
            samples: vec![(0, bits(-0.0)), (-5, bits(f64::INFINITY)), (i64::MAX, bits(f64::NAN))],
        },
    ]
}

/// Returns the files below a folder of fixtures whose names end so.
fn fixtures(folder: &str, ending: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = entries.map(|e| e.unwrap().path()).filter(|p| p.to_string_lossy().ends_with(ending));
    let files: Vec<_> = paths.map(|p| std::fs::read(p).unwrap()).collect();
    assert!(!files.is_empty(), "{} holds files named *{ending}", folder.display());
    files
}

/// A body with histograms of both kinds, an exemplar and metadata.
fn all_kinds(protocol: Protocol) -> Vec<u8> {
    let labels = |name: &str| Labels::from_pairs([("__name__", name), ("job", "node")]).unwrap();
    let whole = Histogram {
        count: 5,
        zero_count: 1,
        positive_spans: vec![Span { offset: -1, length: 2 }, Span { offset: 3, length: 1 }],
        positive_buckets: vec![1, 1, -1],
        ..Histogram::default()
    };
    let fractional = FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: 1.5,
        positive_spans: vec![Span { offset: 0, length: 1 }],
        positive_buckets: vec![1.5],
        custom_values: vec![0.25, 0.5],
        ..FloatHistogram::default()
    };
    let at = |ts_ms, histogram| HistogramSample { ts_ms, start_ms: 3, histogram };
    let histograms = [
        at(1_700_000_000_000, NativeHistogram::Int(Box::new(whole))),
        at(1_700_000_001_000, NativeHistogram::Float(Box::new(fractional))),
    ];
    let exemplars = [Exemplar { labels: labels("trace"), value: 0.5, ts_ms: 1_700_000_000_000 }];
    let metadata =
        Metadata { kind: MetricType::Histogram, help: "Calls.".to_owned(), unit: "seconds".to_owned() };
    let family = MetadataEntry { family: "rpc".to_owned(), since_ms: 0, metadata: metadata.clone() };
    let samples = [Sample::new(1_700_000_000_000, 1.0)];
    let series = labels("rpc");
    let series = FullSeriesToSend {
        floats: SeriesToSend { labels: &series, samples: &samples },
        histograms: &histograms,
        exemplars: &exemplars,
        metadata: Some(&metadata),
    };
    encode_full_request(protocol, &[series], &[family])
}

#[test]
fn remote_write_decoders_stand_any_bytes() {
    let corpus = [
        RemoteWrite::message(&series()),
        RemoteWrite::message_v2(&series()),
        all_kinds(Protocol::V1),
        all_kinds(Protocol::V2),
    ];
    drive("fuzz_remote_write", &corpus, |bytes| bytes, perennial::wire::fuzz::fuzz_remote_write);
}

#[test]
fn the_snappy_decoder_stands_any_bytes() {
    let corpus = [RemoteWrite::encode(&series()), RemoteWrite::encode_v2(&series())];
    drive("fuzz_snappy", &corpus, |bytes| bytes, perennial::wire::fuzz::fuzz_snappy);
}

#[test]
fn the_decoder_of_snappy_streams_stands_any_bytes() {
    let streams = [&b"abc"[..], &[0; 70_000], &RemoteWrite::encode(&series())];
    let corpus = streams.map(|bytes| perennial::wire::snappy_stream::encode(bytes).unwrap());
    drive("fuzz_snappy_stream", &corpus, |bytes| bytes, perennial::wire::fuzz::fuzz_snappy_stream);
}

#[test]
fn the_reader_of_expressions_stands_any_text() {
    let corpus = [
        "sum by (le) (rate(h_bucket{x=~\"a|b\",y!='\\n'}[5m:1m] offset -1h @ end())) / on(x) group_left b",
        "label_replace({\"dotted.name\"}, `a`, \"$1\", 'b', \"(.*)\") > bool 1e-5 or Inf # end",
    ];
    let corpus = corpus.map(|text| text.as_bytes().to_vec());
    drive("fuzz_query_selectors", &corpus, |bytes| bytes, perennial::store::fuzz_query_selectors);
}

#[test]
fn the_remote_read_decoder_stands_any_bytes() {
    let matchers = [(0, "job", "node"), (1, "job", ""), (2, "__name__", "node_.+"), (3, "mode", "idle|user")];
    let corpus = [read_message(&matchers, 0, 1_700_000_000_000, true).encode_to_vec()];
    drive("fuzz_remote_read", &corpus, |bytes| bytes, perennial::wire::fuzz_read::fuzz_remote_read);
}

#[test]
fn the_chunk_decoder_stands_any_bytes() {
    let mut chunks = XorChunks::with_chunk_samples(120);
    for number in 0..360 {
        let value = if number % 7 == 0 { f64::from(number) } else { f64::from(number).sqrt() };
        chunks.push(1_700_000_000_000 + i64::from(number) * 15_000 + i64::from(number % 3), value);
    }
    chunks.finish();
    let corpus: Vec<Vec<u8>> = chunks.iter().map(|c| c.data.to_vec()).collect();
    drive("fuzz_xor_chunk", &corpus, |bytes| bytes, perennial::tsdb::fuzz_xor_chunk);
}

#[test]
fn the_decoder_of_dictionaries_stands_any_bytes() {
    let values = ["", "node", "10.0.0.1:9100", "\u{f6}"];
    let mut corpus = vec![4u8];
    for value in values {
        corpus.extend((value.len() as u32).to_le_bytes());
        corpus.extend(value.as_bytes());
    }
    drive("fuzz_dictionary", &[corpus], |bytes| bytes, perennial::block::fuzz_dictionary);
}

#[test]
fn the_log_decoder_stands_any_bytes() {
    let corpus = fixtures("log", ".log");
    drive("fuzz_log", &corpus, |bytes| bytes, perennial::log::fuzz_log);
    let objects = fixtures("log", "object-v1");
    drive("fuzz_log_object", &objects, |bytes| bytes, perennial::log::object::fuzz_log_object);
}

#[test]
fn the_decoders_of_prometheus_log_stand_any_bytes() {
    let mut segments = fixtures("prometheus/wal/wbl", "");
    segments.extend(fixtures("prometheus/wal/wal", "4"));
    drive("fuzz_wal_segment", &segments, |bytes| bytes, perennial::tsdb::wal::fuzz_wal_segment);
    let mut records = Vec::new();
    for segment in &segments {
        let mut reader = SegmentReader::new(segment, 0);
        while let Step::Record(record) = reader.next_record() {
            records.push(record.data.into_owned());
        }
    }
    drive("fuzz_wal_record", &records, |bytes| bytes, perennial::tsdb::wal::fuzz_wal_record);
}

#[test]
fn the_decoders_of_blocks_stand_any_bytes() {
    let block = |name: &str| fixtures("prometheus/block/v2.42", name);
    drive("fuzz_block_meta", &block("meta.json"), |bytes| bytes, perennial::tsdb::block::fuzz_block_meta);
    drive(
        "fuzz_tombstones",
        &block("tombstones"),
        with_tombstones_checksum,
        perennial::tsdb::block::fuzz_tombstones,
    );
    drive("fuzz_index", &block("index"), with_section_checksums, perennial::tsdb::block::fuzz_index);
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/prometheus/block/chunks.v3.14.txt"),
    );
    let hex = |line: &str| {
        let digits = line.rsplit(' ').next().unwrap().to_owned();
        (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
    };
    let mut chunks: Vec<Vec<u8>> =
        text.unwrap().lines().filter(|line| !line.starts_with(' ')).map(hex).collect();
    chunks.extend(fixtures("prometheus/block/v2.42/chunks", "1"));
    drive("fuzz_block_chunks", &chunks, |bytes| bytes, perennial::tsdb::block::fuzz_block_chunks);
}

/// Makes the checksum at the end right, so that damage before it gets past.
fn with_tombstones_checksum(mut file: Vec<u8>) -> Vec<u8> {
    if let Some(end) = file.len().checked_sub(4).filter(|end| *end >= 5) {
        let crc = crc32c::crc32c(&file[5..end]);
        file[end..].copy_from_slice(&crc.to_be_bytes());
    }
    file
}

/// Makes the checksums of the table of contents and of the sections that it names right.
fn with_section_checksums(mut index: Vec<u8>) -> Vec<u8> {
    let Some(toc) = index.len().checked_sub(52) else { return index };
    let crc = crc32c::crc32c(&index[toc..toc + 48]);
    index[toc + 48..].copy_from_slice(&crc.to_be_bytes());
    for field in 0..6 {
        let at = u64::from_be_bytes(*index[toc + field * 8..].first_chunk().unwrap()) as usize;
        let length = index.get(at..).and_then(|rest| rest.first_chunk::<4>());
        let Some(length) = length.map(|length| u32::from_be_bytes(*length) as usize) else { continue };
        if let Some(content) = index.get(at + 4..at + 4 + length) {
            let crc = crc32c::crc32c(content).to_be_bytes();
            if let Some(stored) = index.get_mut(at + 4 + length..at + 8 + length) {
                stored.copy_from_slice(&crc);
            }
        }
    }
    index
}

#[test]
fn the_catalog_decoder_stands_any_bytes() {
    let compressed = fixtures("catalog", ".zst");
    drive("fuzz_catalog", &compressed, |bytes| bytes, perennial::catalog::fuzz_catalog);
    // Damage to compressed bytes seldom gets past zstd, so the JSON inside is damaged as well.
    let plain: Vec<_> = compressed.iter().map(|c| zstd::decode_all(c.as_slice()).unwrap()).collect();
    let compress = |bytes: Vec<u8>| zstd::encode_all(bytes.as_slice(), 1).unwrap();
    drive("fuzz_catalog, inside", &plain, compress, perennial::catalog::fuzz_catalog);
}

#[test]
fn rows_of_histograms_stand_any_lists() {
    let corpus: Vec<Vec<u8>> =
        (0..8u8).map(|seed| (0..=255u8).map(|i| i.wrapping_mul(seed * 2 + 1)).collect()).collect();
    drive("fuzz_histogram_rows", &corpus, |bytes| bytes, perennial::block::fuzz_histogram_rows);
}

#[test]
fn the_archive_decoders_stand_any_bytes() {
    let compress = |bytes: Vec<u8>| zstd::encode_all(bytes.as_slice(), 1).unwrap();
    let unpack = |objects: &[Vec<u8>]| -> Vec<Vec<u8>> {
        objects.iter().map(|object| zstd::decode_all(object.as_slice()).unwrap()).collect()
    };
    let mut documents = fixtures("archive", "entry.v1.zst");
    documents.extend(fixtures("archive", "chapter.v1.zst"));
    drive("fuzz_archive_catalog", &documents, |bytes| bytes, perennial::archive::fuzz_archive_catalog);
    let inside = unpack(&documents);
    drive("fuzz_archive_catalog, inside", &inside, compress, perennial::archive::fuzz_archive_catalog);
    let pieces = fixtures("archive", "piece.v1.zst");
    drive("fuzz_piece", &pieces, |bytes| bytes, perennial::archive::fuzz_piece);
    drive("fuzz_piece, inside", &unpack(&pieces), |bytes| bytes, perennial::archive::fuzz_piece);
    let digests = fixtures("archive", "digest.v1.zst");
    drive("fuzz_digest", &digests, |bytes| bytes, perennial::archive::fuzz_digest);
    drive("fuzz_digest, inside", &unpack(&digests), |bytes| bytes, perennial::archive::fuzz_digest);
}

#[test]
fn the_walk_over_head_chunks_stands_any_bytes() {
    let mut file = vec![0x01, 0x30, 0xBC, 0x91, 1, 0, 0, 0];
    for series in 1..4_u64 {
        let start = file.len();
        file.extend(series.to_be_bytes());
        file.extend([1_000_i64, 2_000].into_iter().flat_map(i64::to_be_bytes));
        file.extend([1, 3, 7, 7, 7]);
        file.extend(crc32c::crc32c(&file[start..]).to_be_bytes());
    }
    drive("fuzz_chunks_head", &[file], |bytes| bytes, perennial::restore::fuzz_chunks_head);
}

#[test]
fn the_envelope_decoder_stands_any_bytes() {
    let corpus = fixtures("envelope", ".penv");
    drive("fuzz_envelope", &corpus, |bytes| bytes, perennial::envelope::fuzz_envelope);
    // Damage to a header seldom gets past its checksum, so the parts inside are damaged under a new one.
    let headers: Vec<_> = corpus.iter().map(|object| object[9..header_end(object)].to_vec()).collect();
    drive("fuzz_envelope, inside", &headers, sealed_around, perennial::envelope::fuzz_envelope);
}

/// Returns where the header of a sealed object ends, without its checksum.
fn header_end(object: &[u8]) -> usize {
    9 + u32::from_le_bytes(object[5..9].try_into().unwrap()) as usize
}

/// Puts a sealed object around the body of a header.
fn sealed_around(body: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_le_bytes();
    let mut object = [b"PENV\x01", &length[..], &body].concat();
    object.extend_from_slice(&crc32c::crc32c(&object).to_le_bytes());
    object.extend_from_slice(&[0; 40]);
    object
}

#[test]
fn the_job_file_decoder_stands_any_bytes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs");
    let files = std::fs::read_dir(folder).unwrap().map(|e| std::fs::read(e.unwrap().path()).unwrap());
    drive("fuzz_job", &files.collect::<Vec<_>>(), |bytes| bytes, perennial::jobs::fuzz_job);
}
