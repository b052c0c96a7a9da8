//! Entry points for fuzzing the decoders of write requests. They panic when a decoder breaks a promise.

use super::remote_write::{
    Limits, Protocol, SAMPLES_MAX, SeriesToSend, canonical_labels, describe_labels, encode_request, walk,
};
use super::{snappy, snappy_stream};
use crate::model::{Labels, Sample};

/// Larger bodies only make a run slower.
const BODY_BYTES_MAX: usize = 1 << 20;

/// A series that was accepted, with at least one sample.
type Accepted = (Labels, Vec<Sample>);

/// Walks arbitrary bytes as a body of either protocol. What is accepted must come back unchanged after being
/// written again, in both protocols.
///
/// # Panics
/// On a broken promise of the decoder.
pub fn fuzz_remote_write(data: &[u8]) {
    for protocol in [Protocol::V1, Protocol::V2] {
        let Some(mut series) = accepted(protocol, data) else { continue };
        // 2.0 first, as only it carries start timestamps.
        for again in [Protocol::V2, Protocol::V1] {
            if again == Protocol::V1 {
                series.iter_mut().flat_map(|(_, samples)| samples).for_each(|sample| sample.start_ms = 0);
            }
            let to_send: Vec<_> =
                series.iter().map(|(labels, samples)| SeriesToSend { labels, samples }).collect();
            let read = accepted(again, &encode_request(again, &to_send));
            assert!(read.as_ref() == Some(&series), "{protocol:?} written as {again:?} has changed");
        }
    }
}

/// Returns the series of a body that the limits admit, or nothing where the body is refused.
fn accepted(protocol: Protocol, body: &[u8]) -> Option<Vec<Accepted>> {
    let limits = Limits::default();
    let mut series = Vec::new();
    let (mut visited, mut samples) = (0, 0);
    let totals = walk(protocol, body, &limits, |one| {
        visited += 1;
        let one = match one {
            Ok(one) => one,
            Err(refused) => {
                samples += refused.samples;
                assert!(refused.labels.len() < 220, "a description is short");
                return;
            }
        };
        samples += one.samples.len() as u64;
        assert!(describe_labels(one.labels).len() < 220, "a description is short");
        if let Ok(labels) = canonical_labels(one.labels, &limits)
            && !one.samples.is_empty()
        {
            assert_eq!(
                Labels::from_canonical(labels.as_bytes()).as_ref(),
                Ok(&labels),
                "labels are canonical"
            );
            assert_eq!(
                canonical_labels(labels.as_bytes(), &limits).as_ref(),
                Ok(&labels),
                "and stay as they are"
            );
            series.push((labels, one.samples.to_vec()));
        }
    });
    let totals = totals.ok()?;
    assert_eq!((totals.series, totals.samples), (visited, samples), "the totals are what was visited");
    assert!(totals.samples <= SAMPLES_MAX as u64, "the number of samples is bounded");
    Some(series)
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
