use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use ulid::Ulid;

use super::*;
use crate::model::{ErrorKind, Labels, MatchKind, Matcher, STALE_MARKER_BITS, TimeRange, match_labels};
use crate::model::{FloatHistogram, Histogram, Span};
use crate::tsdb::chunk::{SampleValue, decode_chunk};

type Samples = Vec<(i64, SampleValue)>;

/// The files of a block, in memory.
#[derive(Debug, Clone, Default)]
struct Memory(BTreeMap<BlockFile, Vec<u8>>);

impl BlockFiles for Memory {
    type File = Vec<u8>;

    fn create(&mut self, _: BlockFile) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn close(&mut self, file: BlockFile, written: Vec<u8>) -> io::Result<()> {
        self.0.insert(file, written);
        Ok(())
    }
}

impl Memory {
    fn index(&self) -> IndexReader<&Vec<u8>> {
        IndexReader::open(&self.0[&BlockFile::Index]).unwrap()
    }

    fn chunk_files(&self) -> Vec<&Vec<u8>> {
        self.0
            .iter()
            .filter(|(name, _)| matches!(name, BlockFile::Chunks(_)))
            .map(|(_, bytes)| bytes)
            .collect()
    }

    fn check(&self) -> CheckReport {
        let void = Vec::new();
        let index = self.0.get(&BlockFile::Index).unwrap_or(&void);
        let parts = BlockParts {
            ulid: Some(ULID),
            meta: self.0.get(&BlockFile::Meta).map_or(&[], Vec::as_slice),
            tombstones: self.0.get(&BlockFile::Tombstones).map(Vec::as_slice),
            index: &index,
            chunks: &self.chunk_files(),
        };
        check_block(&parts)
    }

    fn read(&self) -> Vec<(Labels, Samples)> {
        let files = self.chunk_files();
        let mut chunks = BlockChunks::open(&files).unwrap();
        let mut series = Vec::new();
        for entry in self.index().series() {
            let entry = entry.unwrap();
            let mut samples = Vec::new();
            for meta in &entry.chunks {
                let chunk = chunks.read(meta.reference).unwrap();
                let decoded = decode_chunk(chunk.encoding, chunk.data).map(Result::unwrap);
                samples.extend(decoded.map(|sample| (sample.t_ms, sample.value)));
            }
            series.push((entry.labels, samples));
        }
        series
    }

    fn write_to(&self, folder: &Path) {
        std::fs::create_dir_all(folder.join("chunks")).unwrap();
        for (name, bytes) in &self.0 {
            std::fs::write(folder.join(name.to_string()), bytes).unwrap();
        }
    }
}

const ULID: Ulid = Ulid(0x0196_0000_0000_0000_0000_0000_0000_0042);

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

fn push(chunks: &mut SeriesChunks, t_ms: i64, value: &SampleValue) {
    match value {
        SampleValue::Float(bits) => chunks.push_float(t_ms, *bits),
        SampleValue::Histogram(value) => chunks.push_histogram(t_ms, value).unwrap(),
        SampleValue::FloatHistogram(value) => chunks.push_float_histogram(t_ms, value).unwrap(),
    }
}

fn build(series: &[(Labels, Samples)], file_bytes_max: u64) -> (Memory, BlockMeta) {
    let builder = BlockBuilder::new(Memory::default(), BlockOptions::level_one(ULID));
    let mut builder = builder.with_file_bytes_max(file_bytes_max);
    let mut chunks = SeriesChunks::new();
    for (labels, samples) in series {
        chunks.clear();
        for (t_ms, value) in samples {
            push(&mut chunks, *t_ms, value);
        }
        builder.add(labels, &mut chunks).unwrap();
    }
    builder.finish().unwrap()
}

fn floats(values: impl IntoIterator<Item = (i64, f64)>) -> Samples {
    values.into_iter().map(|(t_ms, value)| (t_ms, SampleValue::Float(value.to_bits()))).collect()
}

/// A histogram that counts up with `n`.
fn histogram(n: u64, hint: u8) -> Histogram {
    Histogram {
        counter_reset_hint: hint,
        schema: 2,
        zero_threshold: 0.001,
        zero_count: n,
        count: 4 * n,
        sum: n as f64 * 0.3,
        positive_spans: vec![Span { offset: -1, length: 2 }],
        positive_buckets: vec![n as i64, 0],
        negative_spans: vec![Span { offset: 3, length: 1 }],
        negative_buckets: vec![n as i64],
        custom_values: Vec::new(),
    }
}

fn whole(value: Histogram) -> SampleValue {
    SampleValue::Histogram(Box::new(value))
}

/// Three series, one of each kind, and a bit of everything else.
fn small() -> Vec<(Labels, Samples)> {
    let mut mixed: Samples = (0..5).map(|n| (n * 10, whole(histogram(n as u64, 0)))).collect();
    mixed.push((60, whole(Histogram { sum: f64::from_bits(STALE_MARKER_BITS), ..Histogram::default() })));
    mixed.extend(floats([(70, 1.5), (80, -0.0)]));
    let fractional = FloatHistogram {
        sum: 0.25,
        count: 0.5,
        positive_spans: vec![Span { offset: 0, length: 1 }],
        positive_buckets: vec![0.5],
        ..FloatHistogram::default()
    };
    vec![
        (labels(&[("__name__", "a"), ("job", "x")]), floats((0..130).map(|n| (n * 15, n as f64)))),
        (labels(&[("__name__", "b"), ("job", "x"), ("ünit", "°C")]), mixed),
        (labels(&[("__name__", "c")]), vec![(7, SampleValue::FloatHistogram(Box::new(fractional)))]),
    ]
}

/// Hints differ by where chunks begin; everything else has to be the same.
fn without_hints(series: Vec<(Labels, Samples)>) -> Vec<(Labels, Samples)> {
    let clear = |value| match value {
        SampleValue::Histogram(mut value) => {
            value.counter_reset_hint &= if value.counter_reset_hint == 3 { 3 } else { 0 };
            SampleValue::Histogram(value)
        }
        SampleValue::FloatHistogram(mut value) => {
            value.counter_reset_hint &= if value.counter_reset_hint == 3 { 3 } else { 0 };
            SampleValue::FloatHistogram(value)
        }
        float => float,
    };
    let clear_all =
        |samples: Samples| samples.into_iter().map(|(t_ms, value)| (t_ms, clear(value))).collect();
    series.into_iter().map(|(labels, samples)| (labels, clear_all(samples))).collect()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/prometheus/block")
}

/// A block that Prometheus 2.42 wrote for samples that it got by remote write.
fn real_block() -> Memory {
    read_block("v2.42")
}

fn read_block(folder: &str) -> Memory {
    let folder = fixtures().join(folder);
    let names = [BlockFile::Meta, BlockFile::Index, BlockFile::Tombstones, BlockFile::Chunks(0)];
    let read = |name: BlockFile| (name, std::fs::read(folder.join(name.to_string())).unwrap());
    Memory(names.into_iter().map(read).collect())
}

/// What `promtool tsdb dump` says, which leaves histograms out: per label set, time and value.
fn real_dump() -> BTreeMap<String, Vec<(i64, f64)>> {
    let packed = std::fs::read(fixtures().join("dump.txt.zst")).unwrap();
    parse_dump(std::str::from_utf8(&zstd::decode_all(packed.as_slice()).unwrap()).unwrap())
}

fn parse_dump(text: &str) -> BTreeMap<String, Vec<(i64, f64)>> {
    let mut series: BTreeMap<String, Vec<(i64, f64)>> = BTreeMap::new();
    for line in text.lines() {
        let (rest, time) = line.rsplit_once(' ').unwrap();
        let (labels, value) = rest.rsplit_once(' ').unwrap();
        series.entry(labels.to_owned()).or_default().push((time.parse().unwrap(), value.parse().unwrap()));
    }
    series.values_mut().for_each(|samples| samples.sort_by_key(|(t_ms, _)| *t_ms));
    series
}

/// The floats of a block as `promtool tsdb dump` shows them: NaNs look all the same there.
fn shown(series: &[(Labels, Samples)]) -> BTreeMap<String, Vec<(i64, u64)>> {
    let float = |(t_ms, value): &(i64, SampleValue)| match value {
        SampleValue::Float(bits) => Some((*t_ms, shown_bits(f64::from_bits(*bits)))),
        _ => None,
    };
    let shown = |(labels, samples): &(Labels, Samples)| {
        let floats: Vec<_> = samples.iter().filter_map(float).collect();
        (!floats.is_empty()).then(|| (labels.to_string(), floats))
    };
    series.iter().filter_map(shown).collect()
}

fn shown_bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}

fn dump_bits(dump: BTreeMap<String, Vec<(i64, f64)>>) -> BTreeMap<String, Vec<(i64, u64)>> {
    let bits =
        |samples: Vec<(i64, f64)>| samples.into_iter().map(|(t_ms, v)| (t_ms, shown_bits(v))).collect();
    dump.into_iter().map(|(labels, samples)| (labels, bits(samples))).collect()
}

#[test]
fn a_real_block_holds_what_promtool_dumps() {
    let block = real_block();
    let series = block.read();
    assert_eq!(shown(&series), dump_bits(real_dump()));
    let meta = BlockMeta::decode(&block.0[&BlockFile::Meta]).unwrap();
    assert_eq!(series.len() as u64, meta.stats.num_series);
    assert_eq!(series.iter().map(|(_, samples)| samples.len() as u64).sum::<u64>(), meta.stats.num_samples);
    assert_eq!(meta.encode(), block.0[&BlockFile::Meta]);
    let stale = series.iter().filter(|(labels, _)| labels.metric_name() == "edge").flat_map(|(_, s)| s);
    assert_eq!(stale.filter(|(_, v)| *v == SampleValue::Float(STALE_MARKER_BITS)).count(), 6);
}

/// The absolute counts of the buckets that counted something, by their index.
fn counted(spans: &[Span], counts: impl Iterator<Item = f64>) -> BTreeMap<i64, f64> {
    let mut next = 0i64;
    let mut indexes = Vec::new();
    for span in spans {
        next += i64::from(span.offset);
        for _ in 0..span.length {
            indexes.push(next);
            next += 1;
        }
    }
    indexes.into_iter().zip(counts).filter(|(_, count)| *count != 0.0).collect()
}

fn absolute(deltas: &[i64]) -> impl Iterator<Item = f64> {
    deltas.iter().scan(0, |count, delta| {
        *count += delta;
        Some(*count as f64)
    })
}

#[test]
fn a_real_block_holds_the_histograms_that_were_sent() {
    let series = real_block().read();
    let named = |name: &str, job: &str| {
        let found = series.iter().find(|(l, _)| l.metric_name() == name && l.get("job") == Some(job));
        &found.unwrap().1
    };
    let gauges = named("queue_seconds", "api");
    let fractional = named("latency_seconds", "rule");
    assert_eq!((gauges.len(), fractional.len()), (300, 300));
    for i in 0..300usize {
        let n = (i % 200 + 1) as f64;
        let mut count = 6.0 * n;
        let mut negative = BTreeMap::new();
        if i >= 80 {
            count += 2.0 * n + 1.0;
            negative = BTreeMap::from([(-1, n), (0, n + 1.0)]);
        }
        let positive = BTreeMap::from([(0, n), (1, n), (2, n), (5, 2.0 * n)]);
        let t_ms = 1_700_000_000_000 + i as i64 * 15_000 + i as i64 % 4;
        let SampleValue::Histogram(gauge) = &gauges[i].1 else { panic!("sample {i} is no histogram") };
        assert_eq!(gauges[i].0, t_ms);
        // 2.42 forgets the hint in chunks that it cuts later on.
        assert!(gauge.counter_reset_hint == 3 || i >= 100, "sample {i}");
        assert_eq!((gauge.count as f64, gauge.zero_count as f64, gauge.sum), (count, n, n * 1.1));
        assert_eq!(counted(&gauge.positive_spans, absolute(&gauge.positive_buckets)), positive);
        assert_eq!(counted(&gauge.negative_spans, absolute(&gauge.negative_buckets)), negative);
        let SampleValue::FloatHistogram(half) = &fractional[i].1 else {
            panic!("sample {i} is no histogram")
        };
        assert_eq!((half.count, half.zero_count, half.sum), (count / 2.0, n / 2.0, n * 1.1 * 0.5));
        let halved = |counts: BTreeMap<i64, f64>| counts.into_iter().map(|(i, c)| (i, c / 2.0)).collect();
        let buckets: BTreeMap<i64, f64> = halved(positive);
        assert_eq!(counted(&half.positive_spans, half.positive_buckets.iter().copied()), buckets);
    }
}

#[test]
fn a_block_with_start_timestamps_and_joint_codes_is_read_and_becomes_one_for_older_versions() {
    // Written by Prometheus 3.14 with all that it can write.
    let block = read_block("v3.14");
    let mut report = block.check();
    report.findings.retain(|finding| finding.file != BlockFile::Meta);
    assert_eq!(report.findings, []);
    let files = block.chunk_files();
    let mut chunks = BlockChunks::open(&files).unwrap();
    let mut encodings = std::collections::BTreeSet::new();
    for entry in block.index().series().map(Result::unwrap) {
        let mut i = 0i64;
        for meta in &entry.chunks {
            let chunk = chunks.read(meta.reference).unwrap();
            encodings.insert(chunk.encoding.to_byte());
            for sample in decode_chunk(chunk.encoding, chunk.data).map(Result::unwrap) {
                assert_eq!(sample.t_ms, 1_700_000_000_000 + i * 15_000 + i % 4);
                let started_ms = if i < 100 { 1_699_999_995_000 } else { 1_700_001_485_007 };
                let has_start = !["gauge", "edge"].contains(&entry.labels.metric_name());
                assert_eq!(sample.start_ms, has_start.then_some(started_ms));
                if entry.labels.metric_name() == "requests_3" {
                    assert_eq!(sample.value, SampleValue::Float(((i * 3) as f64).to_bits()));
                }
                if entry.labels.metric_name() == "custom" {
                    let SampleValue::Histogram(value) = sample.value else { panic!("no histogram") };
                    assert_eq!((value.count as i64, value.custom_values.len()), (3 * (i % 200 + 1), 3));
                }
                i += 1;
            }
        }
        assert_eq!(i, 300);
    }
    assert_eq!(encodings.into_iter().collect::<Vec<_>>(), [4, 5, 6]);
    let (older, meta) = build(&block.read(), u64::MAX);
    assert_eq!(without_hints(older.read()), without_hints(block.read()));
    assert_eq!(older.check().findings, []);
    assert_eq!((meta.stats.num_float_samples, meta.stats.num_histogram_samples), (2_100, 900));
}

#[test]
fn a_real_block_is_sound_and_any_hundredth_flipped_bit_is_found() {
    let block = real_block();
    let mut report = Memory(block.0.clone()).check();
    // The folder's name is not the one that the tests use.
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
    report.findings.clear();
    assert_eq!((report.series, report.chunks, report.samples), (12, 38, 3_546));
    for name in [BlockFile::Index, BlockFile::Chunks(0)] {
        for bit in (0..block.0[&name].len() * 8).step_by(101) {
            let mut damaged = block.clone();
            damaged.0.get_mut(&name).unwrap()[bit / 8] ^= 1 << (bit % 8);
            assert!(damaged.check().findings.len() > 1, "bit {bit} of {name}");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_small_block_is_found() {
    let (block, _) = build(&small(), 300);
    assert_eq!(block.check().findings, []);
    assert_eq!(block.chunk_files().len(), 2);
    let meta = BlockMeta::decode(&block.0[&BlockFile::Meta]).unwrap();
    for (name, bytes) in &block.0 {
        for bit in 0..bytes.len() * 8 {
            let mut damaged = block.clone();
            let bytes = damaged.0.get_mut(name).unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // White space may become other white space, a range wider; a source's id is said nowhere else.
            let says_the_same = *name == BlockFile::Meta
                && BlockMeta::decode(bytes).is_ok_and(|mut changed| {
                    changed.compaction.sources.clone_from(&meta.compaction.sources);
                    changed.min_time_ms = changed.min_time_ms.max(meta.min_time_ms);
                    changed.max_time_ms = changed.max_time_ms.min(meta.max_time_ms);
                    changed == meta
                });
            if !says_the_same {
                assert!(!damaged.check().is_sound(), "bit {bit} of {name}");
            }
        }
    }
}

#[test]
fn every_truncation_of_a_small_block_is_found() {
    let (block, _) = build(&small(), 300);
    for (name, bytes) in &block.0 {
        for len in 0..bytes.len() {
            let mut damaged = block.clone();
            damaged.0.get_mut(name).unwrap().truncate(len);
            assert!(!damaged.check().is_sound(), "{name} cut at {len}");
        }
        let mut longer = block.clone();
        longer.0.get_mut(name).unwrap().push(0);
        assert!(!longer.check().is_sound(), "{name} with a byte more");
        let mut without = block.clone();
        without.0.remove(name);
        assert!(!without.check().is_sound(), "without {name}");
    }
}

#[test]
fn the_check_goes_on_after_the_first_damage() {
    let (mut block, _) = build(&small(), 300);
    for name in [BlockFile::Chunks(0), BlockFile::Chunks(1)] {
        let bytes = block.0.get_mut(&name).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    }
    let series_at = block.index().toc().series as usize;
    block.0.get_mut(&BlockFile::Index).unwrap()[series_at] ^= 0x80;
    let report = block.check();
    for name in [BlockFile::Index, BlockFile::Chunks(0), BlockFile::Chunks(1)] {
        assert!(report.findings.iter().any(|finding| finding.file == name), "{report:?}");
    }
    assert_eq!(report.series, 2);
}

#[test]
fn what_is_written_reads_back() {
    let (block, meta) = build(&small(), u64::MAX);
    assert_eq!(without_hints(block.read()), without_hints(small()));
    assert_eq!((meta.min_time_ms, meta.max_time_ms), (0, 1_936));
    assert_eq!((meta.stats.num_series, meta.stats.num_chunks, meta.stats.num_samples), (3, 5, 139));
    assert_eq!((meta.stats.num_float_samples, meta.stats.num_histogram_samples), (132, 7));
    assert_eq!(meta.compaction.sources, [ULID]);
    assert_eq!(BlockMeta::decode(&block.0[&BlockFile::Meta]).unwrap(), meta);
    assert_eq!(block.0[&BlockFile::Tombstones], encode_tombstones(&[]));
}

#[test]
fn chunks_end_at_120_samples_at_resets_and_at_other_layouts() {
    let mut chunks = SeriesChunks::new();
    let mut ends = |values: Vec<Histogram>| {
        chunks.clear();
        for (t_ms, value) in values.iter().enumerate() {
            chunks.push_histogram(t_ms as i64, value).unwrap();
        }
        chunks.finish();
        let counts: Vec<u16> = chunks.entries().iter().map(|entry| entry.samples).collect();
        let mut at = 0;
        let mut headers = Vec::new();
        for entry in chunks.entries() {
            // Length of one or two bytes, encoding, count.
            let start = at + if chunks.bytes()[at] < 0x80 { 1 } else { 2 };
            headers.push(chunks.bytes()[start + 1 + 2] >> 6);
            at = entry.end;
        }
        (counts, headers)
    };
    let counting: Vec<_> = (0..130).map(|n| histogram(n, 0)).collect();
    assert_eq!(ends(counting), (vec![120, 10], vec![0b00, 0b01]));
    let reset = vec![histogram(1, 0), histogram(2, 0), histogram(1, 0), histogram(2, 0)];
    assert_eq!(ends(reset), (vec![2, 2], vec![0b00, 0b10]));
    let told = vec![histogram(1, 0), histogram(2, 1), histogram(3, 2)];
    assert_eq!(ends(told), (vec![1, 2], vec![0b00, 0b10]));
    let gauges = vec![histogram(5, 3), histogram(2, 3), histogram(9, 0)];
    assert_eq!(ends(gauges), (vec![2, 1], vec![0b11, 0b00]));
    let mut wider = histogram(3, 0);
    wider.positive_spans[0].length = 3;
    wider.positive_buckets.push(1);
    assert_eq!(ends(vec![histogram(2, 0), wider.clone()]), (vec![1, 1], vec![0b00, 0b01]));
    assert_eq!(ends(vec![wider, histogram(4, 0)]), (vec![1, 1], vec![0b00, 0b10]));
    let finer = Histogram { schema: 3, ..histogram(3, 0) };
    assert_eq!(ends(vec![histogram(2, 0), finer]), (vec![1, 1], vec![0b00, 0b00]));
}

#[test]
fn chunk_files_are_cut_before_they_grow_too_large() {
    let series: Vec<_> = (0..20)
        .map(|n| {
            let name = format!("m{n:02}");
            (labels(&[("__name__", &name)]), floats((0..500).map(|i| (i, (i * n) as f64 * 0.1))))
        })
        .collect();
    let (block, meta) = build(&series, 4_000);
    assert!(block.chunk_files().len() > 5);
    assert!(block.chunk_files().iter().all(|file| file.len() <= 4_000));
    assert_eq!(block.read(), series);
    assert_eq!(block.check().findings, []);
    assert_eq!(meta.stats.num_samples, 10_000);
}

#[test]
fn series_and_samples_out_of_order_are_refused() {
    let mut builder = BlockBuilder::new(Memory::default(), BlockOptions::level_one(ULID));
    let mut chunks = SeriesChunks::new();
    chunks.push_float(1, 0);
    builder.add(&labels(&[("b", "1")]), &mut chunks).unwrap();
    for earlier in [labels(&[("b", "1")]), labels(&[("a", "1")])] {
        let error = builder.add(&earlier, &mut chunks).unwrap_err();
        assert!(matches!(error, BlockError::SeriesOrder { .. }), "{error}");
    }
    chunks.push_float(1, 0);
    let error = builder.add(&labels(&[("c", "1")]), &mut chunks).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let text = "series {c=\"1\"} goes from 1 ms to 1 ms: give its samples in order, each time once";
    assert_eq!(error.to_string(), text);
}

#[test]
fn encoded_chunks_are_taken_over_as_they_are() {
    let (block, _) = build(&small(), u64::MAX);
    let files = block.chunk_files();
    let mut source = BlockChunks::open(&files).unwrap();
    let options = BlockOptions {
        hints: vec![HINT_FROM_OUT_OF_ORDER.to_owned()],
        time_range: Some(TimeRange { start_ms: -5, end_ms: 7_200_000 }),
        ..BlockOptions::level_one(ULID)
    };
    let mut builder = BlockBuilder::new(Memory::default(), options);
    let mut chunks = SeriesChunks::new();
    for entry in block.index().series() {
        let entry = entry.unwrap();
        chunks.clear();
        for meta in &entry.chunks {
            let chunk = source.read(meta.reference).unwrap();
            chunks.push_encoded(chunk.encoding, meta.min_time_ms, meta.max_time_ms, chunk.data);
        }
        builder.add(&entry.labels, &mut chunks).unwrap();
    }
    let (copy, meta) = builder.finish().unwrap();
    for name in [BlockFile::Index, BlockFile::Chunks(0)] {
        assert!(copy.0[&name] == block.0[&name], "{name}");
    }
    assert!(meta.is_out_of_order());
    assert_eq!((meta.min_time_ms, meta.max_time_ms), (-5, 7_200_000));
}

#[test]
fn unknown_keys_of_a_meta_stay() {
    let text = r#"{"ulid":"01M84591Y6DP5V8W9ZF1251WFH","minTime":1,"maxTime":2,"stats":{"numSamples":3,"numNew":4},
        "compaction":{"level":2,"sources":null,"parents":[{"ulid":"01M84591Y6DP5V8W9ZF1251WFH","minTime":1,"maxTime":2}],
        "hints":["from-out-of-order"],"later":{"x":1}},"version":1,"thanos":{"version":1,"labels":{"replica":"a"},
        "downsample":{"resolution":300000},"source":"sidecar","files":[{"rel_path":"index","size_bytes":7}]},"own":[1]}"#;
    let meta = BlockMeta::decode(text.as_bytes()).unwrap();
    assert!(meta.is_out_of_order());
    let thanos = meta.thanos.as_ref().unwrap();
    assert_eq!((thanos.downsample.resolution_ms, thanos.source.as_str()), (300_000, "sidecar"));
    assert_eq!(meta.compaction.parents[0].max_time_ms, 2);
    let mut expected: serde_json::Value = serde_json::from_str(text).unwrap();
    expected["compaction"].as_object_mut().unwrap().remove("sources");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&meta.encode()).unwrap(), expected);
    let later = text.replace(r#""version":1,"thanos""#, r#""version":2,"thanos""#);
    let error = BlockMeta::decode(later.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "meta.json begins with version 2: expected is version 1");
}

#[test]
fn tombstones_come_back_and_damage_is_refused() {
    assert_eq!(encode_tombstones(&[]), [0x01, 0x30, 0xBA, 0x30, 1, 0, 0, 0, 0]);
    let tombstones: Vec<_> = [(1, 0, 5), (1, 10, i64::MAX), (300, i64::MIN, i64::MAX)]
        .into_iter()
        .map(|(reference, min_time_ms, max_time_ms)| Tombstone { reference, min_time_ms, max_time_ms })
        .collect();
    let bytes = encode_tombstones(&tombstones);
    assert_eq!(decode_tombstones(&bytes).unwrap(), tombstones);
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_tombstones(&damaged).is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(decode_tombstones(&bytes[..len]).is_err());
    }
}

#[test]
fn an_index_of_version_1_is_read() {
    let index = version_1();
    let index = IndexReader::open(&index).unwrap();
    let entries: Vec<_> = index.series().map(Result::unwrap).collect();
    let chunk = ChunkMeta { min_time_ms: 1, max_time_ms: 3, reference: 8 };
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0].labels, labels(&[("a", "x")]));
    assert_eq!(entries[1].labels, labels(&[("a", "y")]));
    assert_eq!(entries[1].chunks, [chunk]);
    assert_eq!(index.postings("a", "y").unwrap(), [entries[1].reference]);
    assert_eq!(index.series_at(entries[1].reference).unwrap(), entries[1]);
    assert_eq!(index.label_values("a").collect::<Vec<_>>(), ["x", "y"]);
}

/// Version 1: symbols by offset, series anywhere, references are offsets, the table in any order.
fn version_1() -> Vec<u8> {
    let section = |out: &mut Vec<u8>, content: &[u8]| {
        out.extend_from_slice(&(content.len() as u32).to_be_bytes());
        out.extend_from_slice(content);
        out.extend_from_slice(&crc32c::crc32c(content).to_be_bytes());
    };
    let mut out = vec![0xBA, 0xAA, 0xD7, 0x00, 1];
    let mut toc = vec![out.len() as u64];
    section(&mut out, b"\x00\x00\x00\x03\x01a\x01x\x01y");
    toc.push(out.len() as u64);
    let mut references = Vec::new();
    for symbol in [15u8, 17] {
        references.push(out.len() as u32);
        let content = [1, 13, symbol, 1, 2, 2, 8];
        out.push(content.len() as u8);
        out.extend_from_slice(&content);
        out.extend_from_slice(&crc32c::crc32c(&content).to_be_bytes());
    }
    toc.extend([out.len() as u64; 2]);
    toc.push(out.len() as u64);
    let mut table = vec![0, 0, 0, 3];
    for (name, value, list) in
        [("a", "y", &references[1..]), ("a", "x", &references[..1]), ("", "", &references)]
    {
        table.push(2);
        for text in [name, value] {
            table.push(text.len() as u8);
            table.extend_from_slice(text.as_bytes());
        }
        cursor::put_uvarint(&mut table, out.len() as u64);
        let mut content = (list.len() as u32).to_be_bytes().to_vec();
        list.iter().for_each(|reference| content.extend_from_slice(&reference.to_be_bytes()));
        section(&mut out, &content);
    }
    toc.push(out.len() as u64);
    section(&mut out, &table);
    let toc: Vec<u8> = toc.iter().flat_map(|at| at.to_be_bytes()).collect();
    out.extend_from_slice(&toc);
    out.extend_from_slice(&crc32c::crc32c(&toc).to_be_bytes());
    out
}

fn any_label_sets() -> impl Strategy<Value = Vec<Labels>> {
    let name = prop_oneof![Just("a"), Just("b"), Just("__name__"), Just("ö"), Just("long_label_name")];
    let value = prop_oneof![3 => "[a-c]{1,2}", 1 => ".{1,40}", 1 => Just("x".repeat(300))];
    let set = prop::collection::btree_map(name, value, 1..5);
    prop::collection::btree_set(set.prop_map(|pairs| Labels::from_pairs(pairs).unwrap()), 1..40)
        .prop_map(|sets| sets.into_iter().collect())
}

fn matchers() -> Vec<Matcher> {
    let matcher = |kind, name: &str, value: &str| Matcher::new(kind, name, value).unwrap();
    vec![
        matcher(MatchKind::Equal, "a", "a"),
        matcher(MatchKind::Equal, "b", ""),
        matcher(MatchKind::NotEqual, "a", "b"),
        matcher(MatchKind::NotEqual, "ö", ""),
        matcher(MatchKind::Regex, "a", "a|b.*"),
        matcher(MatchKind::Regex, "b", ".*"),
        matcher(MatchKind::NotRegex, "__name__", "a.?"),
        matcher(MatchKind::NotRegex, "b", ".+"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_label_sets_come_back_and_match_as_plain_labels_do(sets in any_label_sets(), picks in any::<[bool; 8]>()) {
        let mut writer = IndexWriter::new();
        let mut expected = Vec::new();
        for (n, set) in sets.iter().enumerate() {
            let chunks: Vec<_> = (0..n as i64 % 4)
                .map(|c| ChunkMeta {
                    min_time_ms: c * 100 - 150,
                    max_time_ms: c * 100 - 150 + n as i64 % 100,
                    reference: (c as u64 / 2) << 32 | (n as u64 * 1_000 + c as u64),
                })
                .collect();
            // References ascend over the whole file, so only the last series may go on to another file.
            let chunks = if n + 1 == sets.len() { chunks } else { chunks.into_iter().take(2).collect() };
            writer.add(set, &chunks).unwrap();
            expected.push((set.clone(), chunks));
        }
        let mut bytes = Vec::new();
        writer.finish(&mut bytes).unwrap();
        let index = IndexReader::open(&bytes).unwrap();
        let entries: Vec<_> = index.series().map(Result::unwrap).collect();
        let read: Vec<_> = entries.iter().map(|e| (e.labels.clone(), e.chunks.clone())).collect();
        prop_assert_eq!(read, expected);
        let picked: Vec<_> = matchers().into_iter().zip(picks).filter(|(_, pick)| *pick).map(|(m, _)| m).collect();
        let matching: Vec<u32> =
            entries.iter().filter(|e| match_labels(&picked, &e.labels)).map(|e| e.reference).collect();
        prop_assert_eq!(index.series_matching(&picked).unwrap(), matching);
        for name in index.label_names() {
            for value in index.label_values(name) {
                let having = entries.iter().filter(|e| e.labels.get(name) == Some(value));
                let having: Vec<u32> = having.map(|e| e.reference).collect();
                prop_assert!(!having.is_empty());
                prop_assert_eq!(index.postings(name, value).unwrap(), having);
            }
        }
    }

    #[test]
    fn any_histograms_come_back(steps in prop::collection::vec(any_step(), 1..300)) {
        let series = vec![(labels(&[("a", "b")]), samples_of(&steps))];
        let (block, _) = build(&series, u64::MAX);
        prop_assert_eq!(block.check().findings, []);
        prop_assert_eq!(without_hints(block.read()), without_hints(series));
    }

    #[test]
    fn arbitrary_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz_block_meta(&data);
        fuzz_tombstones(&data);
        fuzz_index(&data);
        fuzz_block_chunks(&data);
    }
}

/// Kind of sample, how far it counts on, width of the layout, and hint.
fn any_step() -> impl Strategy<Value = (u8, i16, u32, u8)> {
    let kind = prop_oneof![8 => Just(0u8), 4 => Just(1), 2 => Just(2), 1 => Just(3), 1 => Just(4)];
    let width = prop_oneof![20 => Just(2u32), 1 => 0u32..6];
    (kind, prop_oneof![9 => 0i16..50, 1 => any::<i16>()], width, prop_oneof![9 => Just(0u8), 1 => 0u8..4])
}

fn samples_of(steps: &[(u8, i16, u32, u8)]) -> Samples {
    let mut n = 1_000i64;
    let sample = |(i, (kind, step, width, hint)): (usize, &(u8, i16, u32, u8))| {
        n = (n + i64::from(*step)).max(0);
        let spans = vec![Span { offset: i32::from(*hint), length: 1 }, Span { offset: 2, length: *width }];
        let sum = if *kind >= 3 { f64::from_bits(STALE_MARKER_BITS) } else { n as f64 * 0.7 };
        let value = match kind {
            0 | 3 => {
                let counted = Histogram {
                    counter_reset_hint: *hint,
                    schema: 4,
                    zero_count: n as u64,
                    count: n as u64 * 3,
                    sum,
                    positive_spans: spans,
                    positive_buckets: (0..=i64::from(*width))
                        .map(|b| if b == 0 { n } else { b * 7 - n / 9 })
                        .collect(),
                    ..Histogram::default()
                };
                whole(if *kind == 3 { Histogram { sum, ..Histogram::default() } } else { counted })
            }
            1 | 4 => {
                let counted = FloatHistogram {
                    counter_reset_hint: *hint,
                    zero_threshold: 0.5,
                    count: n as f64 / 3.0,
                    sum,
                    negative_spans: spans,
                    negative_buckets: (0..=*width).map(|b| n as f64 / f64::from(b + 1)).collect(),
                    ..FloatHistogram::default()
                };
                let stale = FloatHistogram { sum, ..FloatHistogram::default() };
                SampleValue::FloatHistogram(Box::new(if *kind == 4 { stale } else { counted }))
            }
            _ => SampleValue::Float(sum.to_bits()),
        };
        (i as i64 * 15_000, value)
    };
    steps.iter().enumerate().map(sample).collect()
}

/// Says so where `promtool` is not installed: `make test` has it.
fn promtool_is_missing() -> bool {
    let missing = Command::new("promtool").arg("--version").output().is_err();
    if missing {
        eprintln!("SKIPPED: promtool is not installed, so that nothing of Prometheus read the block");
    }
    missing
}

fn promtool(arguments: &[&str], folder: &Path) -> String {
    let output = Command::new("promtool").args(arguments).arg(folder).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn promtool_reads_what_is_written_as_it_reads_the_original() {
    if promtool_is_missing() {
        return;
    }
    let series = real_block().read();
    let (block, meta) = build(&series, 9_000);
    assert_eq!(block.check().findings, []);
    let folder = tempfile::tempdir().unwrap();
    block.write_to(&folder.path().join(ULID.to_string()));
    std::fs::create_dir(folder.path().join("wal")).unwrap();
    let list = promtool(&["tsdb", "list"], folder.path());
    let row: Vec<&str> = list.lines().nth(1).unwrap().split_whitespace().collect();
    let ulid = ULID.to_string();
    assert_eq!(row[0], ulid);
    let stats = &meta.stats;
    let numbers = [stats.num_samples, stats.num_chunks, stats.num_series].map(|number| number.to_string());
    assert_eq!(row[4..7], numbers);
    let dump = promtool(&["tsdb", "dump"], folder.path());
    assert_eq!(dump_bits(parse_dump(&dump)), dump_bits(real_dump()));
    promtool(&["tsdb", "analyze"], folder.path());
}
