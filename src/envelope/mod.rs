//! Optional encryption of whole objects, before they reach the bucket.
//!
//! Owns the bytes of a sealed object, the wrapping of its key for those who may read it, and the rule of when plain
//! bytes are accepted. Pure bytes in and out: no bucket, no clock; only key files are read, once, at the start.
//!
//! Vocabulary: to *seal* is to encrypt an object, to *open* is to get it back and prove that nothing was changed. The
//! *data key* is random and belongs to one object; it is *wrapped* (encrypted) for each *recipient* (a public key) and
//! unwrapped with an *identity* (the secret half). The *name* is the object's key in the bucket, without the bucket's
//! own prefix, so that a bucket may be copied but an object cannot take another's place.
//!
//! How an object is sealed:
//! 1. a fresh data key is drawn and wrapped by the [`KeyWrap`]: age recipients, or a key management service;
//! 2. a header is written: the wrap's scheme, the recipients by name, the wrapped key, a checksum;
//! 3. the content follows in frames of 64 KiB, each with its own tag (ChaCha20-Poly1305). A frame's nonce is its number
//!    and whether it is the last; its associated data is the header's hash and the name.
//!
//! The bytes are in `schemas/BYTES.md`, their meaning and the rotation of keys in `docs/formats/envelope.md`.
//!
//! **Invariants**
//! - Fails closed: where encryption is configured nothing is ever stored plain, and plain bytes are refused unless
//!   that was allowed by name. A bad or empty key file is an error, never "no encryption".
//! - One data key seals one object. Sealing again gives other bytes: whoever retries keeps the sealed ones.
//! - Truncated, extended, reordered, exchanged and renamed objects do not open; damage is told apart from a missing
//!   key by the header's checksum.
//! - Decoding is bounded: a header of at most 64 KiB, and frames of 64 KiB.
//! - Secrets are zeroed when dropped and never printed.
//!
//! What it does not do: say who sealed an object. Everyone who knows a recipient can seal for it, so that an archiver
//! needs no secret; that an object is the one that was archived is told by its SHA-256 in the archive catalog.

mod age_keys;
mod error;
mod frames;
mod fuzz;
mod header;
mod keys;

#[cfg(test)]
mod tests;

use std::io::{Cursor, Read, Write};
use std::sync::Arc;

use bytes::Bytes;

use crate::runtime::Random;

pub use age_keys::AgeKeys;
pub use error::EnvelopeError;
pub use fuzz::fuzz_envelope;
pub use keys::{DataKey, KeyWrap, WrapError};

use frames::FrameCipher;
use header::{Header, MAGIC};

/// The name under which the self-test seals.
const PROBE_NAME: &str = "probes/envelope";

/// Seals objects before they are stored and opens them after they are read.
#[derive(Debug, Clone)]
pub struct Envelope {
    keys: Option<Arc<dyn KeyWrap>>,
    allow_plaintext: bool,
}

impl Envelope {
    /// Returns an envelope that stores objects as they are, and refuses sealed ones.
    #[must_use]
    pub fn none() -> Self {
        Self { keys: None, allow_plaintext: true }
    }

    /// Returns an envelope that seals every object, and refuses plain ones.
    #[must_use]
    pub fn encrypting(keys: Arc<dyn KeyWrap>) -> Self {
        Self { keys: Some(keys), allow_plaintext: false }
    }

    /// Also accepts plain objects when reading: for archives that began without encryption.
    #[must_use]
    pub fn allowing_plaintext(self) -> Self {
        Self { allow_plaintext: true, ..self }
    }

    /// Returns whether objects are sealed.
    #[must_use]
    pub fn is_encrypting(&self) -> bool {
        self.keys.is_some()
    }

    /// Returns the bytes to store for an object.
    ///
    /// # Errors
    /// Keys that cannot wrap.
    pub fn seal(&self, name: &str, plain: Bytes, random: &Random) -> Result<Bytes, EnvelopeError> {
        if self.keys.is_none() {
            return Ok(plain);
        }
        let mut stored = Vec::with_capacity(frames::sealed_bytes(plain.len()) + header::BYTES_USUAL);
        self.seal_stream(name, &mut plain.as_ref(), &mut stored, random)?;
        Ok(Bytes::from(stored))
    }

    /// Seals what a reader gives into a writer, with two frames of memory: for objects too large to hold.
    ///
    /// # Errors
    /// Keys that cannot wrap, or a failure of the reader or writer; what was written is then worthless.
    pub fn seal_stream(
        &self,
        name: &str,
        plain: &mut dyn Read,
        stored: &mut dyn Write,
        random: &Random,
    ) -> Result<(), EnvelopeError> {
        let failed = |source| EnvelopeError::Stream { name: name.to_owned(), source };
        let Some(keys) = &self.keys else {
            return std::io::copy(plain, stored).map(drop).map_err(failed);
        };
        let data_key = DataKey::random(random);
        let wrapped = keys.wrap(&data_key).map_err(|e| EnvelopeError::wrap(name, keys.recipients(), e))?;
        let header = Header { scheme: keys.scheme().to_owned(), recipients: keys.recipients(), wrapped };
        let encoded = header.encode()?;
        stored.write_all(&encoded).map_err(failed)?;
        FrameCipher::new(&data_key, &encoded, name).seal(plain, stored).map_err(failed)
    }

    /// Returns an object's content from its stored bytes.
    ///
    /// # Errors
    /// Damage, a missing key, or plain bytes where sealed ones are due.
    pub fn open(&self, name: &str, stored: Bytes) -> Result<Bytes, EnvelopeError> {
        if !Self::is_sealed(&stored) {
            self.accept_plaintext(name)?;
            return Ok(stored);
        }
        let mut plain = Vec::with_capacity(stored.len());
        self.open_stream(name, &mut stored.as_ref(), &mut plain)?;
        Ok(Bytes::from(plain))
    }

    /// Opens what a reader gives into a writer, with two frames of memory. Every frame is proven before it is
    /// written, that none is missing only at the end: on an error the caller throws away what was written.
    ///
    /// # Errors
    /// As [`Envelope::open`], or a failure of the reader or writer.
    pub fn open_stream(
        &self,
        name: &str,
        stored: &mut dyn Read,
        plain: &mut dyn Write,
    ) -> Result<(), EnvelopeError> {
        let failed = |source| EnvelopeError::Stream { name: name.to_owned(), source };
        let mut magic = [0; MAGIC.len()];
        let found = frames::read_full(stored, &mut magic).map_err(failed)?;
        if &magic[..found] != MAGIC {
            self.accept_plaintext(name)?;
            let mut whole = Cursor::new(&magic[..found]).chain(stored);
            return std::io::copy(&mut whole, plain).map(drop).map_err(failed);
        }
        let (header, encoded) = Header::read(name, stored)?;
        let Some(keys) = &self.keys else {
            return Err(EnvelopeError::NoKeys { name: name.to_owned(), recipients: header.recipients });
        };
        if header.scheme != keys.scheme() {
            let (name, found) = (name.to_owned(), header.scheme);
            return Err(EnvelopeError::Scheme { name, found, configured: keys.scheme().to_owned() });
        }
        let data_key = keys
            .unwrap(&header.wrapped)
            .map_err(|e| EnvelopeError::unwrap(name, header.recipients.clone(), e))?;
        FrameCipher::new(&data_key, &encoded, name).open(name, stored, plain)
    }

    /// Proves, before anything is written, that objects can be sealed; and that they can be opened again, where there
    /// is an identity. An archiver may have recipients only.
    ///
    /// # Errors
    /// What keeps it from sealing, or identities of which none opens what is sealed now.
    pub fn check_sealing(&self, random: &Random) -> Result<(), EnvelopeError> {
        let Some(keys) = &self.keys else { return Ok(()) };
        let probe: Vec<u8> = (0..4).flat_map(|_| random.next_u64().to_le_bytes()).collect();
        let probe = Bytes::from(probe);
        let sealed = self.seal(PROBE_NAME, probe.clone(), random)?;
        if !keys.can_unwrap() {
            return Ok(());
        }
        match self.open(PROBE_NAME, sealed) {
            Ok(opened) if opened == probe => Ok(()),
            Ok(_) => Err(EnvelopeError::SelfTest { recipients: keys.recipients(), source: None }),
            Err(source) => {
                Err(EnvelopeError::SelfTest { recipients: keys.recipients(), source: Some(Box::new(source)) })
            }
        }
    }

    /// Makes sure that sealed objects can be read at all, before anything is fetched.
    ///
    /// # Errors
    /// Keys without an identity.
    pub fn check_opening(&self) -> Result<(), EnvelopeError> {
        match &self.keys {
            Some(keys) if !keys.can_unwrap() => Err(EnvelopeError::NoIdentities),
            _ => Ok(()),
        }
    }

    /// Returns whether stored bytes are those of a sealed object.
    #[must_use]
    pub fn is_sealed(stored: &[u8]) -> bool {
        stored.starts_with(MAGIC)
    }

    fn accept_plaintext(&self, name: &str) -> Result<(), EnvelopeError> {
        if self.allow_plaintext { Ok(()) } else { Err(EnvelopeError::Plaintext { name: name.to_owned() }) }
    }
}
