//! What fuzzing runs over sealed objects.

use std::sync::Arc;

use bytes::Bytes;

use super::header::{Header, MAGIC};
use super::{DataKey, Envelope, KeyWrap, WrapError};

/// Keys that are none: the data key lies open, so that damage reaches the frames.
#[derive(Debug)]
struct OpenKeys;

impl KeyWrap for OpenKeys {
    fn scheme(&self) -> &str {
        "open"
    }

    fn recipients(&self) -> Vec<String> {
        vec!["everyone".to_owned()]
    }

    fn can_unwrap(&self) -> bool {
        true
    }

    fn wrap(&self, key: &DataKey) -> Result<Vec<u8>, WrapError> {
        Ok(key.expose().to_vec())
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<DataKey, WrapError> {
        DataKey::from_bytes(wrapped).ok_or(WrapError::Damaged)
    }
}

/// Opens arbitrary bytes as a sealed object. A header that reads must be written the same.
///
/// # Panics
/// When it is not, or when plain bytes are taken for sealed ones.
pub fn fuzz_envelope(data: &[u8]) {
    let envelope = Envelope::encrypting(Arc::new(OpenKeys));
    let opened = envelope.open("fuzz", Bytes::copy_from_slice(data));
    let Some(mut rest) = data.strip_prefix(MAGIC) else {
        assert!(opened.is_err(), "plain bytes are refused");
        return;
    };
    if let Ok((header, encoded)) = Header::read("fuzz", &mut rest) {
        assert_eq!(header.encode().ok().as_deref(), Some(encoded.as_slice()));
    }
}
