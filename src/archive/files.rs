//! Manifests and parts of stored files, read back and checked.

use bytes::Bytes;

use super::ArchiveError;
use super::chain::{Archive, decode};
use super::entry::{Manifest, StoredBlock, StoredFile};
use super::piece::decompress;

/// The most that one part of a file may have before compression.
const PART_PLAIN_BYTES_MAX: u64 = 256 << 20;

impl Archive {
    /// Reads what a stored block consists of.
    ///
    /// # Errors
    /// As [`Archive::read`], or a manifest of another block.
    pub async fn read_manifest(&self, block: &StoredBlock) -> Result<Manifest, ArchiveError> {
        let key = block.manifest_key(self.source());
        let bytes = self.read(&key, block.manifest_sha256).await?;
        let manifest: Manifest = decode(&key, &bytes)?;
        if manifest.block == block.id {
            return Ok(manifest);
        }
        let reason = format!("it is the manifest of block {}", manifest.block);
        Err(ArchiveError::Damaged { key: key.to_string(), reason })
    }

    /// Opens the stored bytes of a part of a file, whose hash was checked, and returns the file's bytes.
    ///
    /// # Errors
    /// Damage, a missing key, or another size than the one recorded.
    pub fn open_part(&self, file: &StoredFile, part: u32, stored: Bytes) -> Result<Bytes, ArchiveError> {
        let named = file.part_key(self.source(), part).zip(file.parts.get(part as usize));
        let (key, entry) = named.ok_or_else(|| {
            let reason = format!("no file of a block or checkpoint is called {:?}", file.path);
            ArchiveError::Damaged { key: format!("part {part}"), reason }
        })?;
        let damaged = |reason| ArchiveError::Damaged { key: key.to_string(), reason };
        let opened = self.open(&key, stored)?;
        let plain = if entry.compressed {
            decompress(&opened, entry.plain_bytes.min(PART_PLAIN_BYTES_MAX)).map_err(damaged)?
        } else {
            opened
        };
        if plain.len() as u64 == entry.plain_bytes {
            return Ok(plain);
        }
        Err(damaged(format!("it holds {} bytes and not {}", plain.len(), entry.plain_bytes)))
    }
}
