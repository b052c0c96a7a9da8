//! The content of a sealed object: frames of 64 KiB, each proven by its own tag.

use std::io::{ErrorKind as IoErrorKind, Read, Write};

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit, Nonce, Tag};
use sha2::{Digest, Sha256};

use super::{DataKey, EnvelopeError};

/// The content of every frame but the last.
pub(super) const FRAME_BYTES: usize = 64 << 10;

pub(super) const TAG_BYTES: usize = 16;

/// Returns the length of all frames for a content of this length. An empty content has one empty frame.
pub(super) fn sealed_bytes(plain_bytes: usize) -> usize {
    plain_bytes + plain_bytes.div_ceil(FRAME_BYTES).max(1) * TAG_BYTES
}

/// Seals and opens the frames of one object.
pub(super) struct FrameCipher {
    cipher: ChaCha20Poly1305,
    /// What every frame is bound to: this header, and this name.
    bound_to: Vec<u8>,
}

impl FrameCipher {
    pub(super) fn new(key: &DataKey, header: &[u8], name: &str) -> Self {
        let mut bound_to = Sha256::digest(header).to_vec();
        bound_to.extend_from_slice(name.as_bytes());
        Self { cipher: ChaCha20Poly1305::new(Key::from_slice(key.expose())), bound_to }
    }

    /// Reads content until its end and writes its frames.
    pub(super) fn seal(&self, plain: &mut dyn Read, stored: &mut dyn Write) -> std::io::Result<()> {
        let (mut frame, mut next) = (vec![0; FRAME_BYTES], vec![0; FRAME_BYTES]);
        let mut length = read_full(plain, &mut frame)?;
        for number in 0u64.. {
            // Only the bytes after a frame tell whether it is the last.
            let next_length = if length == FRAME_BYTES { read_full(plain, &mut next)? } else { 0 };
            let last = next_length == 0;
            let sealed = self.cipher.encrypt_in_place_detached(
                &nonce(number, last),
                &self.bound_to,
                &mut frame[..length],
            );
            let tag = sealed.map_err(|_| std::io::Error::other("the frame is beyond the cipher's limit"))?;
            stored.write_all(&frame[..length])?;
            stored.write_all(&tag)?;
            if last {
                break;
            }
            std::mem::swap(&mut frame, &mut next);
            length = next_length;
        }
        Ok(())
    }

    /// Reads frames until their end and writes the content of each once it is proven.
    pub(super) fn open(
        &self,
        name: &str,
        stored: &mut dyn Read,
        plain: &mut dyn Write,
    ) -> Result<(), EnvelopeError> {
        const SEALED_FRAME_BYTES: usize = FRAME_BYTES + TAG_BYTES;
        let failed = |source| EnvelopeError::Stream { name: name.to_owned(), source };
        let (mut frame, mut next) = (vec![0; SEALED_FRAME_BYTES], vec![0; SEALED_FRAME_BYTES]);
        let mut length = read_full(stored, &mut frame).map_err(failed)?;
        for number in 0u64.. {
            let next_length = match length {
                SEALED_FRAME_BYTES => read_full(stored, &mut next).map_err(failed)?,
                _ => 0,
            };
            let last = next_length == 0;
            let Some(content_length) = length.checked_sub(TAG_BYTES) else {
                return Err(EnvelopeError::damaged(name, "it ends within a frame"));
            };
            if content_length == 0 && number > 0 {
                return Err(EnvelopeError::damaged(name, "it ends with a frame too many"));
            }
            let (content, tag) = frame[..length].split_at_mut(content_length);
            self.cipher
                .decrypt_in_place_detached(
                    &nonce(number, last),
                    &self.bound_to,
                    content,
                    Tag::from_slice(tag),
                )
                .map_err(|_| {
                    EnvelopeError::damaged(
                        name,
                        "a frame is not what was sealed: changed, cut off, moved, or of another object",
                    )
                })?;
            plain.write_all(content).map_err(failed)?;
            if last {
                break;
            }
            std::mem::swap(&mut frame, &mut next);
            length = next_length;
        }
        Ok(())
    }
}

/// The number of a frame and whether it is the last: unique in an object, and so under its key.
fn nonce(number: u64, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = u8::from(last);
    nonce.into()
}

/// Reads until the buffer is full or the source ends, and returns how much came.
pub(super) fn read_full(source: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match source.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(e) if e.kind() == IoErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(length)
}
