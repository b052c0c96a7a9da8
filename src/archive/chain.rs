//! Reading and appending to the archive catalog: entries that name their predecessor's bytes.

use std::fmt;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ArchiveError;
use super::entry::{Chapter, ENTRY_FORMAT, Entry};
use super::hash::Sha256Hash;
use super::piece::decompress;
use super::view::ArchiveView;
use crate::bucket::{ArchiveObject, Bucket, BucketError, Created, ObjectKey};
use crate::envelope::Envelope;
use crate::model::{SourceName, Ulid};
use crate::runtime::Random;

/// The most that an entry or chapter may have before compression.
const JSON_BYTES_MAX: u64 = 256 << 20;

const ZSTD_LEVEL: i32 = 3;

/// So many entries are read at once.
const ENTRIES_AT_ONCE: usize = 32;

/// Where a source's archive lies and how its objects are sealed; clones share the connection.
#[derive(Debug, Clone)]
pub struct Archive {
    bucket: Bucket,
    envelope: Envelope,
    source: SourceName,
}

/// The end of the chain: what the next entry follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChainEnd {
    /// The last entry's number; 0 for none.
    pub seq: u64,
    /// The hash of its stored bytes.
    pub sha256: Option<Sha256Hash>,
}

impl Archive {
    /// Names an archive in a bucket. Nothing is read yet.
    #[must_use]
    pub fn new(bucket: Bucket, envelope: Envelope, source: SourceName) -> Self {
        Self { bucket, envelope, source }
    }

    /// Returns the source.
    #[must_use]
    pub fn source(&self) -> &SourceName {
        &self.source
    }

    /// Returns the bucket.
    #[must_use]
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Returns how objects are sealed.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Returns the key of one of its objects.
    #[must_use]
    pub fn key(&self, object: ArchiveObject) -> ObjectKey {
        ObjectKey::archive(&self.source, object)
    }

    /// Reads an object whose stored hash is known, checks it and opens it.
    ///
    /// # Errors
    /// [`ArchiveError::Missing`], [`ArchiveError::Damaged`], a missing key, or the store's failure.
    pub async fn read(&self, key: &ObjectKey, stored_sha256: Sha256Hash) -> Result<Bytes, ArchiveError> {
        let stored = self.read_stored(key).await?;
        if Sha256Hash::of(&stored) != stored_sha256 {
            let reason = "its SHA-256 is not the one that was recorded".to_owned();
            return Err(ArchiveError::Damaged { key: key.to_string(), reason });
        }
        self.open(key, stored)
    }

    /// Returns the bytes to store for an object.
    ///
    /// # Errors
    /// Keys that cannot seal.
    pub fn seal(&self, key: &str, plain: Bytes, random: &Random) -> Result<Bytes, ArchiveError> {
        let sealed = self.envelope.seal(key, plain, random);
        sealed.map_err(|source| ArchiveError::Envelope { key: key.to_owned(), source })
    }

    /// Opens the stored bytes of an object.
    ///
    /// # Errors
    /// Damage or a missing key.
    pub fn open(&self, key: &ObjectKey, stored: Bytes) -> Result<Bytes, ArchiveError> {
        let name = key.to_string();
        self.envelope.open(&name, stored).map_err(|source| ArchiveError::Envelope { key: name, source })
    }

    /// Reads the stored bytes of an object that has to be there.
    ///
    /// # Errors
    /// [`ArchiveError::Missing`], or the store's failure.
    pub async fn read_stored(&self, key: &ObjectKey) -> Result<Bytes, ArchiveError> {
        match self.bucket.get(key).await {
            Ok(stored) => Ok(stored),
            Err(BucketError::NotFound { .. }) => Err(ArchiveError::Missing { key: key.to_string() }),
            Err(error) => Err(error.into()),
        }
    }

    /// Appends an entry: its number and predecessor are filled in. Returns the new end of the chain.
    ///
    /// # Errors
    /// [`ArchiveError::TwoArchivers`] where that number is taken, or the store's failure: the entry may then still
    /// appear, so the same one has to be tried again.
    pub async fn append(&self, end: ChainEnd, entry: &mut Entry) -> Result<ChainEnd, ArchiveError> {
        (entry.seq, entry.previous_sha256) = (end.seq + 1, end.sha256);
        let bytes = encode(entry);
        let sha256 = Sha256Hash::of(&bytes);
        match self.bucket.create(&self.key(ArchiveObject::Entry { seq: entry.seq }), bytes).await? {
            Created::Stored => Ok(ChainEnd { seq: entry.seq, sha256: Some(sha256) }),
            Created::Conflict(_) => {
                Err(ArchiveError::TwoArchivers { source_name: self.source.clone(), seq: entry.seq })
            }
        }
    }

    /// Stores a chapter.
    ///
    /// # Errors
    /// Another chapter of the same run, or the store's failure.
    pub async fn put_chapter(&self, chapter: &Chapter) -> Result<(), ArchiveError> {
        let key = chapter.key();
        match self.bucket.create(&key, encode(chapter)).await? {
            Created::Stored => Ok(()),
            Created::Conflict(_) => {
                Err(ArchiveError::TwoArchivers { source_name: self.source.clone(), seq: chapter.first_seq })
            }
        }
    }

    /// Reads the whole archive catalog and checks its chain.
    ///
    /// # Errors
    /// [`ArchiveError::NoSource`] where there is none, a broken chain, or the store's failure.
    pub async fn load(&self) -> Result<ArchiveView, ArchiveError> {
        ArchiveView::fold(self.source.clone(), self.links().await?)
    }

    /// Reads the parts of the chain: the longest chapters, and the entries that are in none.
    ///
    /// # Errors
    /// As [`Archive::load`].
    pub async fn links(&self) -> Result<Vec<Link>, ArchiveError> {
        let listing = self.list_catalog().await?;
        if listing.entries.is_empty() && listing.chapters.is_empty() {
            return Err(ArchiveError::NoSource(self.source.to_string()));
        }
        let mut links = Vec::new();
        let mut next = listing.first_seq();
        while let Some(object) = listing.at(next) {
            next = object.last_seq() + 1;
            links.push(object);
        }
        if let Some(beyond) = listing.last_seq().filter(|last| *last >= next) {
            let reason = format!("it is missing, and entries up to {beyond} follow");
            return Err(ArchiveError::Chain { seq: next, reason });
        }
        let read = links.into_iter().map(|link| self.read_link(link));
        futures::stream::iter(read).buffered(ENTRIES_AT_ONCE).try_collect().await
    }

    /// Reads the parts of the chain and goes on after what is missing or does not read, which is named instead.
    ///
    /// # Errors
    /// [`ArchiveError::NoSource`] where there is none, or a listing that fails.
    pub(super) async fn links_each(&self) -> Result<Vec<(String, Result<Link, ArchiveError>)>, ArchiveError> {
        let listing = self.list_catalog().await?;
        let Some(last) = listing.last_seq() else {
            return Err(ArchiveError::NoSource(self.source.to_string()));
        };
        let mut spans = Vec::new();
        let mut next = 1;
        while next <= last {
            let found = listing.at(next);
            spans.push(found.ok_or(next));
            next = match found {
                Some(span) => span.last_seq() + 1,
                None => listing.first_after(next).unwrap_or(last + 1),
            };
        }
        let read = spans.into_iter().map(|span| async move {
            match span {
                Ok(span) => (self.span_key(span).to_string(), self.read_link(span).await),
                Err(seq) => {
                    let key = self.key(ArchiveObject::Entry { seq }).to_string();
                    (key.clone(), Err(ArchiveError::Missing { key }))
                }
            }
        });
        Ok(futures::stream::iter(read).buffered(ENTRIES_AT_ONCE).collect().await)
    }

    fn span_key(&self, span: Span) -> ObjectKey {
        self.key(match span {
            Span::Entry(seq) => ArchiveObject::Entry { seq },
            Span::Chapter(first_seq, last_seq, id) => ArchiveObject::Chapter { first_seq, last_seq, id },
        })
    }

    /// Returns the folder of the catalog.
    pub(super) fn catalog_folder(&self) -> String {
        format!("{}/catalog", ObjectKey::archive_folder(&self.source))
    }

    /// Returns the end of the chain by a listing and one read; an archive without entries has the default.
    ///
    /// # Errors
    /// The store's failure or damage.
    pub async fn chain_end(&self) -> Result<ChainEnd, ArchiveError> {
        let listing = self.list_catalog().await?;
        let Some(last) = listing.last_seq() else { return Ok(ChainEnd::default()) };
        let span = match listing.entries.last() {
            Some(seq) if *seq == last => Span::Entry(last),
            _ => listing.chapter_ending_at(last),
        };
        Ok(self.read_link(span).await?.end())
    }

    async fn list_catalog(&self) -> Result<Listing, ArchiveError> {
        let mut listing = Listing::default();
        for object in self.bucket.list(&self.catalog_folder()).await? {
            match ObjectKey::parse(&object.key) {
                Some(ObjectKey::Archive { object: ArchiveObject::Entry { seq }, .. }) => {
                    listing.entries.push(seq);
                }
                Some(ObjectKey::Archive {
                    object: ArchiveObject::Chapter { first_seq, last_seq, id },
                    ..
                }) if first_seq <= last_seq => {
                    listing.chapters.push((first_seq, last_seq, id));
                }
                _ => {}
            }
        }
        listing.entries.sort_unstable();
        listing.chapters.sort_unstable();
        Ok(listing)
    }

    async fn read_link(&self, span: Span) -> Result<Link, ArchiveError> {
        match span {
            Span::Entry(seq) => {
                let key = self.key(ArchiveObject::Entry { seq });
                let bytes = self.read_stored(&key).await?;
                let entry: Entry = decode(&key, &bytes)?;
                if entry.seq != seq || entry.source != self.source {
                    return Err(misplaced(&key));
                }
                Ok(Link::Entry { sha256: Sha256Hash::of(&bytes), entry: Box::new(entry) })
            }
            Span::Chapter(first_seq, last_seq, id) => {
                let key = self.key(ArchiveObject::Chapter { first_seq, last_seq, id });
                let chapter: Chapter = decode(&key, &self.read_stored(&key).await?)?;
                if chapter.key() != key {
                    return Err(misplaced(&key));
                }
                Ok(Link::Chapter(Box::new(chapter)))
            }
        }
    }
}

/// Returns the sources that have an archive in a bucket, sorted.
///
/// # Errors
/// The store's failure.
pub async fn sources(bucket: &Bucket) -> Result<Vec<SourceName>, ArchiveError> {
    let names = bucket.list_folders(ObjectKey::ARCHIVES).await?;
    Ok(names.iter().filter_map(|name| SourceName::new(name).ok()).collect())
}

fn misplaced(key: &ObjectKey) -> ArchiveError {
    let reason = "it is another entry under this name".to_owned();
    ArchiveError::Damaged { key: key.to_string(), reason }
}

/// A part of the chain that was read.
#[derive(Debug, Clone)]
pub enum Link {
    /// An entry.
    Entry {
        /// The hash of its stored bytes.
        sha256: Sha256Hash,
        /// The entry.
        entry: Box<Entry>,
    },
    /// A run of entries, rolled up.
    Chapter(Box<Chapter>),
}

impl Link {
    /// Returns the end of the chain after this part.
    #[must_use]
    pub fn end(&self) -> ChainEnd {
        match self {
            Self::Entry { sha256, entry } => ChainEnd { seq: entry.seq, sha256: Some(*sha256) },
            Self::Chapter(chapter) => ChainEnd { seq: chapter.last_seq, sha256: Some(chapter.last_sha256) },
        }
    }

    /// Returns the key of the object.
    pub(super) fn key(&self, archive: &Archive) -> ObjectKey {
        match self {
            Self::Entry { entry, .. } => archive.key(ArchiveObject::Entry { seq: entry.seq }),
            Self::Chapter(chapter) => chapter.key(),
        }
    }

    /// Returns the number of the first entry and the hash of its predecessor.
    #[must_use]
    pub fn begin(&self) -> (u64, Option<Sha256Hash>) {
        match self {
            Self::Entry { entry, .. } => (entry.seq, entry.previous_sha256),
            Self::Chapter(chapter) => (chapter.first_seq, chapter.previous_sha256),
        }
    }
}

/// What the catalog's folder holds.
#[derive(Debug, Default)]
struct Listing {
    entries: Vec<u64>,
    chapters: Vec<(u64, u64, Ulid)>,
}

/// An object of the catalog.
#[derive(Debug, Clone, Copy)]
enum Span {
    Entry(u64),
    Chapter(u64, u64, Ulid),
}

impl Span {
    fn last_seq(self) -> u64 {
        match self {
            Self::Entry(seq) | Self::Chapter(_, seq, _) => seq,
        }
    }
}

impl Listing {
    fn first_seq(&self) -> u64 {
        let firsts = self.entries.first().copied().into_iter().chain(self.chapters.first().map(|c| c.0));
        firsts.min().unwrap_or(1)
    }

    fn last_seq(&self) -> Option<u64> {
        self.entries.last().copied().max(self.chapters.iter().map(|c| c.1).max())
    }

    /// Returns what holds an entry: the longest chapter that begins with it, or the entry itself.
    fn at(&self, seq: u64) -> Option<Span> {
        let after = self.chapters.partition_point(|c| c.0 <= seq);
        if let Some((first, last, id)) = self.chapters[..after].last().filter(|c| c.0 == seq) {
            return Some(Span::Chapter(*first, *last, *id));
        }
        self.entries.binary_search(&seq).ok().map(|_| Span::Entry(seq))
    }

    /// Returns the first entry after a missing one that something begins with.
    fn first_after(&self, seq: u64) -> Option<u64> {
        let chapters = self.chapters.iter().map(|c| c.0);
        self.entries.iter().copied().chain(chapters).filter(|first| *first > seq).min()
    }

    fn chapter_ending_at(&self, last: u64) -> Span {
        let found = self.chapters.iter().find(|c| c.1 == last);
        found.map_or(Span::Entry(last), |(first, last, id)| Span::Chapter(*first, *last, *id))
    }
}

/// Encodes an entry, chapter or manifest.
pub(super) fn encode<T: Serialize>(document: &T) -> Bytes {
    let json = serde_json::to_vec(document).expect("maps have text keys and numbers are integers");
    let in_memory = "compressing into memory does no input or output";
    let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL).expect(in_memory);
    // Nothing names the last entry's hash.
    compressor.include_checksum(true).expect(in_memory);
    Bytes::from(compressor.compress(&json).expect(in_memory))
}

/// Decodes an entry, chapter or manifest.
pub(super) fn decode<T: DeserializeOwned>(key: &impl fmt::Display, bytes: &[u8]) -> Result<T, ArchiveError> {
    #[derive(serde::Deserialize)]
    struct FormatOnly {
        format: u32,
    }
    let damaged = |reason: String| ArchiveError::Damaged { key: key.to_string(), reason };
    let json = decompress(bytes, JSON_BYTES_MAX).map_err(damaged)?;
    let FormatOnly { format } = serde_json::from_slice(&json).map_err(|e| damaged(e.to_string()))?;
    if format > ENTRY_FORMAT {
        let key = key.to_string();
        return Err(ArchiveError::NewerFormat { key, found: format, known: ENTRY_FORMAT });
    }
    serde_json::from_slice(&json).map_err(|e| damaged(e.to_string()))
}

/// Decodes arbitrary bytes as an entry and a chapter; for fuzzing.
pub fn fuzz_archive_catalog(data: &[u8]) {
    if let Ok(entry) = decode::<Entry>(&"", data) {
        assert_eq!(decode::<Entry>(&"", &encode(&entry)).ok(), Some(entry), "an entry can be written again");
    }
    if let Ok(chapter) = decode::<Chapter>(&"", data) {
        assert_eq!(
            decode::<Chapter>(&"", &encode(&chapter)).ok(),
            Some(chapter),
            "a chapter can be written again"
        );
    }
}
