//! Chunks in the three forms that queriers know, whatever form samples were kept in.

use tonic::Request;

use super::fixture::settings;
use super::kinds::{Kinds, custom, ints, samples, whole};
use super::store_api::everything;
use super::*;
use crate::block::HistogramRun;
use crate::select::{SelectLimits, Selector, TsdbBlocks};
use crate::store::grpc::StoreApi;
use crate::tsdb::block::{BlockBuilder, BlockOptions, FilesInFolder, SeriesChunks};
use crate::tsdb::chunk::{ChunkSample, Encoding, decode_chunk};
use crate::wire::store_api::Series;
use crate::wire::store_api::series_response::Result as Frame;
use crate::wire::store_api::store_server::Store;

/// Chunks that Prometheus wrote: encodings 4 to 6 are those with start timestamps.
const GOLDEN: &str = include_str!("../../../tests/fixtures/prometheus/block/chunks.v3.14.txt");

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// The first chunk of each encoding.
fn golden() -> Vec<(Encoding, Vec<u8>)> {
    let chunk = |start: &str| {
        let line = GOLDEN.lines().find_map(|line| line.strip_prefix(start)).unwrap();
        from_hex(line.split_whitespace().last().unwrap())
    };
    vec![
        (Encoding::Xor2, chunk("xor2 1 ")),
        (Encoding::HistogramStart, chunk("hist 0 enc 5 ")),
        (Encoding::FloatHistogramStart, chunk("hist 0 enc 6 ")),
        (Encoding::HistogramStart, chunk("hist 1 enc 5 ")),
    ]
}

async fn sent(store: &StoreApi) -> Vec<Series> {
    let mut stream = store.series(Request::new(everything())).await.unwrap().into_inner();
    let mut series = Vec::new();
    while let Some(frame) = futures::StreamExt::next(&mut stream).await {
        let Some(Frame::Batch(batch)) = frame.unwrap().result else { panic!("batches were asked for") };
        series.extend(batch.series.iter().map(|series| series.decode().unwrap()));
    }
    series
}

/// A sample without what the forms of queriers have no room for.
fn known(sample: ChunkSample) -> ChunkSample {
    ChunkSample { start_ms: None, ..sample }
}

#[tokio::test]
async fn chunks_with_start_timestamps_are_sent_in_the_forms_that_queriers_know() {
    let folder = tempfile::tempdir().unwrap();
    let id = Ulid(1);
    let path = folder.path().join(id.to_string());
    let mut builder = BlockBuilder::new(FilesInFolder(path), BlockOptions::level_one(id));
    for (number, (encoding, data)) in golden().iter().enumerate() {
        let inside: Vec<ChunkSample> = decode_chunk(*encoding, data).map(Result::unwrap).collect();
        assert!(inside.iter().any(|sample| sample.start_ms.is_some()));
        let mut chunks = SeriesChunks::new();
        chunks.push_encoded(*encoding, inside[0].t_ms, inside[inside.len() - 1].t_ms, data);
        builder.add(&labels(&[("__name__", &format!("golden_{number}"))]), &mut chunks).unwrap();
    }
    builder.finish().unwrap();
    let blocks = Arc::new(TsdbBlocks::open(folder.path()).unwrap());
    let shown_as = (team("team-a"), Labels::empty());
    let selector = Selector::over_directory(blocks, shown_as, Cpu::start(2).unwrap(), SelectLimits::NONE);
    let (clock, shutdown) = (ManualClock::new(ms(3_600)), Shutdown::new());
    let reads = Reads::new(selector, settings(), clock, Arc::new(|| true), shutdown, &Metrics::new());

    let answer = sent(&StoreApi(Arc::clone(&reads.0))).await;
    let forms = [Encoding::Xor, Encoding::Histogram, Encoding::FloatHistogram, Encoding::Histogram];
    assert_eq!(answer.len(), forms.len());
    for ((series, form), (encoding, data)) in answer.iter().zip(forms).zip(golden()) {
        let chunks = series.chunks.iter().map(|chunk| chunk.raw.as_ref().unwrap());
        let mut found = Vec::new();
        for chunk in chunks {
            assert_eq!(chunk.r#type as u8 + 1, form.to_byte(), "{encoding:?}");
            found.extend(decode_chunk(form, &chunk.data).map(Result::unwrap));
        }
        let expected: Vec<ChunkSample> =
            decode_chunk(encoding, &data).map(|sample| known(sample.unwrap())).collect();
        assert_eq!(found, expected, "{encoding:?}");
    }
}

#[tokio::test]
async fn chunks_of_histograms_say_whether_a_counter_was_reset_before_them() {
    // 130 samples that grow, a reset on the next one, and a gauge that goes up and down.
    let counts = (1..=130).chain(1..=3);
    let gauge = |count| Histogram { counter_reset_hint: 3, ..whole(count) };
    let of = |name: &str, values: Vec<Histogram>| HistogramRun {
        labels: labels(&[("__name__", name)]),
        histograms: samples(0, ints(values)),
    };
    let histograms = vec![
        of("counter", counts.clone().map(whole).collect()),
        of("custom", counts.map(custom).collect()),
        of("gauge", [5, 3, 9].map(gauge).to_vec()),
    ];
    for place in Place::ALL {
        let producer = Producer { tenant: team("team-a"), external: Labels::empty(), series: Vec::new() };
        let kinds = Kinds { histograms: histograms.clone(), ..Kinds::default() };
        let fixture = Fixture::with_kinds(place, vec![producer], settings(), kinds).await;
        let answer = sent(&fixture.store()).await;
        let headers: Vec<Vec<(u16, u8)>> = answer
            .iter()
            .map(|series| {
                let data = series.chunks.iter().map(|chunk| &chunk.raw.as_ref().unwrap().data);
                data.map(|data| (u16::from_be_bytes([data[0], data[1]]), data[2] >> 6)).collect()
            })
            .collect();
        // 0 unknown, 1 not reset, 2 reset, 3 gauge.
        let counter = vec![(120, 0), (10, 1), (3, 2)];
        assert_eq!(headers, [counter.clone(), counter, vec![(3, 3)]], "{place:?}");
    }
}
