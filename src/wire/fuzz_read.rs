//! Entry point for fuzzing the decoder of read requests.

use super::remote_read::{ResponseType, decode_request, messages};
use crate::model::{MatchKind, TimeRange};

/// Reads arbitrary bytes as a decompressed read request. What is accepted must say the same to a generated
/// decoder.
///
/// # Panics
/// When it does not.
pub fn fuzz_remote_read(data: &[u8]) {
    let Ok(request) = decode_request(data) else { return };
    // A generated decoder merges repeated hints and refuses what is wrong within them; only what it accepts too can
    // be compared.
    let Ok(other) = <messages::ReadRequest as prost::Message>::decode(data) else { return };
    assert_eq!(request.queries.len(), other.queries.len(), "as many queries");
    for (query, other) in request.queries.iter().zip(&other.queries) {
        let range = TimeRange::from_inclusive(other.start_timestamp_ms, other.end_timestamp_ms);
        assert_eq!(query.range, range, "the same times");
        assert_eq!(query.matchers.len(), other.matchers.len(), "as many matchers");
        for (matcher, other) in query.matchers.iter().zip(&other.matchers) {
            assert_eq!((matcher.name(), matcher.value()), (other.name.as_str(), other.value.as_str()));
            let kinds = [MatchKind::Equal, MatchKind::NotEqual, MatchKind::Regex, MatchKind::NotRegex];
            assert_eq!(Some(&matcher.kind()), kinds.get(other.r#type as usize), "the same kind");
        }
    }
    let first = other.accepted_response_types.iter().find(|number| (0..=1).contains(*number));
    let streamed = request.response_type == ResponseType::StreamedXorChunks;
    assert_eq!(streamed, first == Some(&1), "the first type that exists");
}
