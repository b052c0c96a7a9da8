//! Writes records into numbered segment files.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::RestoreError;
use super::workplace::{make_dir, new_file};
use crate::tsdb::wal::{Compression, SegmentWriter};

/// Bytes that gather before they are written.
const WRITE_BYTES: u64 = 1 << 20;

/// A folder of segments, numbered from 0, so that Prometheus needs no checkpoint before them.
#[derive(Debug)]
pub(super) struct SegmentFiles {
    folder: PathBuf,
    number: u32,
    path: PathBuf,
    file: File,
    writer: SegmentWriter,
    written_bytes: u64,
}

impl SegmentFiles {
    /// Begins segment 0 of a folder, which is made.
    pub(super) fn create(folder: &Path) -> Result<Self, RestoreError> {
        make_dir(folder)?;
        let path = folder.join(format!("{:08}", 0));
        let file = new_file(&path)?;
        let writer = SegmentWriter::new(Compression::Snappy);
        Ok(Self { folder: folder.to_owned(), number: 0, path, file, writer, written_bytes: 0 })
    }

    pub(super) fn append(&mut self, record: &[u8]) -> Result<(), RestoreError> {
        if !self.writer.fits(record.len()) && !self.writer.is_empty() {
            self.close_segment()?;
            self.number += 1;
            self.path = self.folder.join(format!("{:08}", self.number));
            self.file = new_file(&self.path)?;
        }
        self.writer.append(record);
        if self.writer.len() - self.written_bytes >= WRITE_BYTES {
            let bytes = self.writer.take();
            self.write(&bytes)?;
        }
        Ok(())
    }

    /// Ends the last segment and makes all durable.
    pub(super) fn finish(mut self) -> Result<(), RestoreError> {
        self.close_segment()
    }

    fn close_segment(&mut self) -> Result<(), RestoreError> {
        let writer = std::mem::replace(&mut self.writer, SegmentWriter::new(Compression::Snappy));
        let bytes = writer.finish();
        self.write(&bytes)?;
        self.written_bytes = 0;
        self.file.sync_all().map_err(RestoreError::file(&self.path))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        self.written_bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(RestoreError::file(&self.path))
    }
}
