//! Entry points for fuzzing the decoders of write requests. They panic when a decoder breaks a promise.

use super::remote_write::{
    EXEMPLARS_MAX, FullSeriesToSend, HISTOGRAMS_MAX, Limits, Part, Protocol, SAMPLES_MAX, SeriesToSend,
    encode_full_request, walk,
};
use super::{snappy, snappy_stream};
use crate::model::{Exemplar, HistogramSample, Labels, Metadata, MetadataEntry, Sample};

/// Larger bodies only make a run slower.
const BODY_BYTES_MAX: usize = 1 << 20;

/// A series that was accepted, with at least one sample, histogram or exemplar.
#[derive(Debug, PartialEq)]
struct Accepted {
    labels: Labels,
    samples: Vec<Sample>,
    histograms: Vec<HistogramSample>,
    exemplars: Vec<Exemplar>,
    metadata: Option<Metadata>,
}

/// Walks arbitrary bytes as a body of either protocol. What is accepted must come back unchanged after being
/// written again, in both protocols.
///
/// # Panics
/// On a broken promise of the decoder.
pub fn fuzz_remote_write(data: &[u8]) {
    for protocol in [Protocol::V1, Protocol::V2] {
        let Some((mut series, families)) = accepted(protocol, data) else { continue };
        // In 2.0 metadata stands with series, of which only the first with a name hands it on.
        series.iter_mut().for_each(|one| one.metadata = None);
        let as_v2 = encode_full_request(Protocol::V2, &to_send(&series), &[]);
        let read = accepted(Protocol::V2, &as_v2).expect("what was written here is accepted");
        assert!(read == (series, Vec::new()), "{protocol:?} written as 2.0 has changed");
        series = read.0;
        // 1.0 has no place for start timestamps.
        for one in &mut series {
            one.samples.iter_mut().for_each(|sample| sample.start_ms = 0);
            one.histograms.iter_mut().for_each(|sample| sample.start_ms = 0);
        }
        let as_v1 = encode_full_request(Protocol::V1, &to_send(&series), &families);
        let read = accepted(Protocol::V1, &as_v1).expect("what was written here is accepted");
        assert!(read == (series, families), "{protocol:?} written as 1.0 has changed");
    }
}

impl Accepted {
    fn to_send(&self) -> FullSeriesToSend<'_> {
        let Self { labels, samples, histograms, exemplars, metadata } = self;
        let metadata = metadata.as_ref();
        FullSeriesToSend { floats: SeriesToSend { labels, samples }, histograms, exemplars, metadata }
    }
}

fn to_send(series: &[Accepted]) -> Vec<FullSeriesToSend<'_>> {
    series.iter().map(Accepted::to_send).collect()
}

/// Returns series and families of a body that the limits admit, or nothing where the body is refused.
fn accepted(protocol: Protocol, body: &[u8]) -> Option<(Vec<Accepted>, Vec<MetadataEntry>)> {
    let limits = Limits::default();
    let (mut series, mut families) = (Vec::new(), Vec::new());
    let (mut visited, mut samples, mut histograms, mut exemplars) = (0, 0, 0, 0);
    let totals = walk(protocol, body, &limits, |part| {
        let one = match part {
            Part::Series(one) => one,
            Part::Refused(refused) => {
                visited += 1;
                assert!(refused.labels.len() < 220, "a description is short");
                return;
            }
            Part::Metadata(metadata) => {
                families.extend(metadata.ok().map(|metadata| metadata.entry(0)));
                return;
            }
        };
        visited += 1;
        samples += one.samples.len() as u64;
        let refused = one.refused.map_or((0, 0), |refused| (refused.histograms, refused.exemplars));
        histograms += one.histograms.len() as u64 + refused.0;
        exemplars += one.exemplars.len() as u64 + refused.1;
        assert!(one.labels.describe().len() < 220, "a description is short");
        for histogram in one.histograms {
            histogram.histogram.check().expect("a histogram that is handed on keeps the rules");
        }
        let empty = one.samples.is_empty() && one.histograms.is_empty() && one.exemplars.is_empty();
        if let Ok(labels) = one.labels.canonical(&limits)
            && !empty
        {
            let again = Labels::from_canonical(labels.as_bytes());
            assert_eq!(again.as_ref(), Ok(&labels), "labels are canonical");
            series.push(Accepted {
                labels,
                samples: one.samples.to_vec(),
                histograms: one.histograms.to_vec(),
                exemplars: one.exemplars.to_vec(),
                metadata: one.metadata.map(|metadata| metadata.entry(0).metadata),
            });
        }
    });
    let totals = totals.ok()?;
    assert_eq!((totals.series, totals.samples), (visited, samples), "the totals are what was visited");
    assert_eq!(
        (totals.histograms, totals.exemplars),
        (histograms, exemplars),
        "the totals of the other kinds"
    );
    assert!(totals.samples <= SAMPLES_MAX as u64, "the number of samples is bounded");
    assert!(totals.histograms <= HISTOGRAMS_MAX as u64, "the number of histograms is bounded");
    assert!(totals.exemplars <= EXEMPLARS_MAX as u64, "the number of exemplars is bounded");
    Some((series, families))
}

/// Decompresses arbitrary bytes. The output keeps to its limit and to what the header claims.
///
/// # Panics
/// On a broken promise of the decoder.
pub fn fuzz_snappy(data: &[u8]) {
    let mut body = Vec::new();
    if snappy::decode_into(data, BODY_BYTES_MAX, &mut body).is_err() {
        assert!(body.is_empty(), "a failed decoding leaves nothing behind");
        return;
    }
    assert!(body.len() <= BODY_BYTES_MAX, "the limit holds");
    assert_eq!(snappy::declared_len(data).ok(), Some(body.len()), "the header tells the length");
    let compressed = snappy::encode(&body).expect("a body within the limit compresses");
    let mut again = Vec::new();
    snappy::decode_into(&compressed, BODY_BYTES_MAX, &mut again)
        .expect("what was compressed here decompresses");
    assert!(again == body, "a body has changed");
}

/// Decompresses arbitrary bytes as a stream of snappy frames. The output keeps to its limit.
///
/// # Panics
/// On a broken promise of the decoder.
pub fn fuzz_snappy_stream(data: &[u8]) {
    let Ok(body) = snappy_stream::decode(data, BODY_BYTES_MAX) else { return };
    assert!(body.len() <= BODY_BYTES_MAX, "the limit holds");
    let stream = snappy_stream::encode(&body).expect("memory takes what is written to it");
    let again =
        snappy_stream::decode(&stream, BODY_BYTES_MAX).expect("what was compressed here decompresses");
    assert!(again == body, "a body has changed");
}
