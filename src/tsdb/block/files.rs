//! The two ways in which a block's bytes come and go: reads at any place, and files written front to back.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

/// A file of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockFile {
    /// `meta.json`
    Meta,
    /// `index`
    Index,
    /// `tombstones`
    Tombstones,
    /// `chunks/000001` and so on, numbered from 0 as chunk references do.
    Chunks(u32),
}

impl fmt::Display for BlockFile {
    /// Writes the path below the block's folder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Meta => f.write_str("meta.json"),
            Self::Index => f.write_str("index"),
            Self::Tombstones => f.write_str("tombstones"),
            Self::Chunks(number) => write!(f, "chunks/{:06}", u64::from(*number) + 1),
        }
    }
}

/// Where the files of a new block go, one after the other. The writer's small writes are the caller's to buffer.
pub trait BlockFiles {
    /// A file under construction.
    type File: Write;

    /// Creates a file.
    ///
    /// # Errors
    /// What the system says.
    fn create(&mut self, file: BlockFile) -> io::Result<Self::File>;

    /// Takes a file that is complete; flushing and syncing belong here.
    ///
    /// # Errors
    /// What the system says.
    fn close(&mut self, file: BlockFile, written: Self::File) -> io::Result<()>;
}

/// The files of a test's block, in a folder that is made as needed.
#[cfg(test)]
pub(crate) struct FilesInFolder(pub(crate) std::path::PathBuf);

#[cfg(test)]
impl BlockFiles for FilesInFolder {
    type File = std::fs::File;

    fn create(&mut self, file: BlockFile) -> io::Result<Self::File> {
        let path = self.0.join(file.to_string());
        std::fs::create_dir_all(path.parent().expect("every file is below the folder"))?;
        std::fs::File::create(path)
    }

    fn close(&mut self, _: BlockFile, _: Self::File) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes that can be read at any place: a file, an object or memory.
pub trait ReadAt {
    /// Returns exactly the bytes of a range that lies inside.
    ///
    /// # Errors
    /// `UnexpectedEof` where the range reaches beyond the end, or what the system says.
    fn read_at(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>>;

    /// Returns how many bytes there are.
    fn len(&self) -> u64;

    /// Returns whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        let range = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let bytes = range.and_then(|(start, end)| self.get(start..end));
        bytes.map(Cow::Borrowed).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        self.as_slice().read_at(range)
    }

    fn len(&self) -> u64 {
        Self::len(self) as u64
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn read_at(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        (**self).read_at(range)
    }

    fn len(&self) -> u64 {
        (**self).len()
    }
}

impl<T: ReadAt + ?Sized> ReadAt for Arc<T> {
    fn read_at(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        (**self).read_at(range)
    }

    fn len(&self) -> u64 {
        (**self).len()
    }
}

/// Reads ahead, so that small neighbouring reads become few large ones.
#[derive(Debug)]
pub(super) struct Window<'a, R: ?Sized> {
    source: &'a R,
    ahead_bytes: u64,
    start: u64,
    bytes: Cow<'a, [u8]>,
}

impl<'a, R: ReadAt + ?Sized> Window<'a, R> {
    pub(super) fn new(source: &'a R, ahead_bytes: u64) -> Self {
        Self { source, ahead_bytes, start: 0, bytes: Cow::Borrowed(&[]) }
    }

    pub(super) fn len(&self) -> u64 {
        self.source.len()
    }

    /// Returns the bytes of a range that lies inside.
    pub(super) fn get(&mut self, range: Range<u64>) -> io::Result<&[u8]> {
        if range.end > self.source.len() || range.start > range.end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = self.start + self.bytes.len() as u64;
        if range.start < self.start || range.end > end {
            let ahead = range.start.saturating_add(self.ahead_bytes).min(self.source.len());
            self.bytes = self.source.read_at(range.start..range.end.max(ahead))?;
            self.start = range.start;
        }
        let from = (range.start - self.start) as usize;
        let to = (range.end - self.start) as usize;
        self.bytes.get(from..to).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Returns up to so many bytes: fewer only at the end.
    pub(super) fn get_up_to(&mut self, start: u64, bytes: u64) -> io::Result<&[u8]> {
        let end = start.saturating_add(bytes).min(self.source.len()).max(start);
        self.get(start..end)
    }
}
