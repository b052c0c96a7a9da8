//! The reading side: the entries of an epoch in their order.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::super::columns::Declared;
use super::super::error::CodecError;
use super::super::frame::FrameDecoder;
use super::super::{Entry, LogError};
use super::format::{DecodedObject, ObjectHeader, ObjectKind, decode_object};
use crate::bucket::{Bucket, BucketError, ObjectKey};
use crate::model::Ulid;
use crate::runtime::Cpu;

/// So many entries are fetched ahead: a few of the largest fit into memory, and many small ones hide the latency.
const FETCH_AHEAD: usize = 8;

/// An entry as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadObject {
    /// What it says about itself and its epoch.
    pub header: ObjectHeader,
    /// Its size.
    pub bytes: u64,
    /// What it holds. Series numbers mean something within [`ObjectHeader::generation`].
    pub entry: Entry,
}

/// The entries of a part of an epoch. A failure does not end them: the caller decides whether it goes on behind it.
pub struct EpochReader {
    epoch: Ulid,
    cpu: Cpu,
    first_seq: u64,
    objects: BoxStream<'static, (u64, Result<Bytes, BucketError>)>,
    decoder: Option<Decoder>,
}

/// What is kept from entry to entry.
struct Decoder {
    /// The first entry that is read.
    first_seq: u64,
    generation: u64,
    declared: Declared,
    frames: FrameDecoder,
}

impl EpochReader {
    /// Reads the entries with these numbers. They begin with the epoch or behind what is released.
    ///
    /// A release ends where a generation does. So where the first entry belongs to an earlier generation, it landed
    /// after its writer had given it up, and nobody was answered for it: it comes back with nothing in it.
    #[must_use]
    pub fn new(bucket: Bucket, cpu: Cpu, epoch: Ulid, seqs: Range<u64>) -> Self {
        let fetch = move |seq| {
            let bucket = bucket.clone();
            async move { (seq, bucket.get(&ObjectKey::LogEntry { epoch, seq }).await) }
        };
        let first_seq = seqs.start;
        let objects = futures::stream::iter(seqs).map(fetch).buffered(FETCH_AHEAD).boxed();
        Self { epoch, cpu, first_seq, objects, decoder: None }
    }

    /// Returns the next entry, and nothing after the last.
    ///
    /// # Errors
    /// `Corrupt` where an entry is missing or does not read, `Unavailable` where the store or a compute thread fails.
    pub async fn next(&mut self) -> Option<Result<ReadObject, LogError>> {
        let (seq, fetched) = self.objects.next().await?;
        let key = ObjectKey::LogEntry { epoch: self.epoch, seq };
        let bytes = match fetched {
            Ok(bytes) => bytes,
            Err(BucketError::NotFound { key }) => return Some(Err(LogError::ObjectMissing { key })),
            Err(error) => return Some(Err(error.into())),
        };
        let decoder = self.decoder.take().map_or_else(|| Decoder::new(self.first_seq), Ok);
        let decoder = match decoder {
            Ok(decoder) => decoder,
            Err(error) => return Some(Err(error.of_object(&key))),
        };
        let decoded = self.cpu.run(move || decoder.decode(&bytes)).await;
        let (decoder, decoded) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => return Some(Err(LogError::Cpu(error))),
        };
        self.decoder = Some(decoder);
        let read = decoded.map_err(|error| error.of_object(&key));
        Some(read.and_then(|read| match read.header.epoch == self.epoch && read.header.seq == seq {
            true => Ok(read),
            false => Err(CodecError::Malformed("the header belongs to another entry").of_object(&key)),
        }))
    }
}

impl Decoder {
    fn new(first_seq: u64) -> Result<Self, CodecError> {
        let frames = FrameDecoder::new().map_err(|_| CodecError::Malformed("zstd cannot be started"))?;
        Ok(Self { first_seq, generation: 0, declared: Declared::default(), frames })
    }

    fn decode(mut self, bytes: &[u8]) -> (Self, Result<ReadObject, CodecError>) {
        let decoded = decode_object(bytes).and_then(|object| self.decode_entry(object, bytes));
        (self, decoded)
    }

    fn decode_entry(&mut self, object: DecodedObject, bytes: &[u8]) -> Result<ReadObject, CodecError> {
        let header = &object.header;
        if header.kind != ObjectKind::Entry {
            return Err(CodecError::Malformed("an entry is expected and the epoch ends here"));
        }
        if header.generation == header.seq {
            (self.generation, self.declared) = (header.seq, Declared::default());
        } else if header.seq == self.first_seq {
            let entry = Entry { seq: header.seq, tenants: Vec::new() };
            return Ok(ReadObject { header: object.header, bytes: bytes.len() as u64, entry });
        } else if header.generation != self.generation {
            return Err(CodecError::Malformed("the entry that begins its generation was not read"));
        }
        let entry = object.entry(bytes, &mut self.frames, &mut self.declared)?;
        Ok(ReadObject { header: object.header, bytes: bytes.len() as u64, entry })
    }
}

impl fmt::Debug for EpochReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpochReader").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}
