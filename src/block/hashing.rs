//! A writer that counts and hashes what passes through.

use std::fmt;
use std::io::{self, Write};

use sha2::{Digest, Sha256};

/// Passes bytes on, and knows their number and SHA-256: what a catalog entry says about a file.
pub struct HashingWriter<W> {
    inner: W,
    hash: Sha256,
    size_bytes: u64,
}

impl<W: Write> HashingWriter<W> {
    /// Wraps a writer.
    pub fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), size_bytes: 0 }
    }

    /// Returns the writer, the number of bytes and their SHA-256 in lower-case hexadecimal digits.
    pub fn finish(self) -> (W, u64, String) {
        let digest = self.hash.finalize();
        let hex = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        (self.inner, self.size_bytes, hex)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W> fmt::Debug for HashingWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashingWriter").field("size_bytes", &self.size_bytes).finish_non_exhaustive()
    }
}
