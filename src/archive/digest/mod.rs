//! Digests: what the samples of every series add up to, per range of sample time, as a proof for drills.
//!
//! While records pass the archiver, a [`DigestBuilder`] counts the float samples of each series and adds up their
//! values and hashes. Once a range has passed, the numbers become a [`Digest`], an object that an entry names. A drill
//! restores to some time, asks a real Prometheus for the same range and compares.
//!
//! All numbers are sums, so that neither the order of samples nor the number of digests of one range matters: samples
//! that come after a range was closed stand in an *addition*. A range whose beginning the archiver did not see has no
//! digest, additions apart; only a range with a *whole* digest can be compared.
//!
//! The bytes, in one zstd frame: `"PDIG"`, version 1, a flag (1 whole, 0 addition), start and end of the range
//! (LE64), samples of series that were never declared (LE64), number of rows (LE32). Then the columns: hash of the
//! labels (uvarint, each less the one before), count, late (uvarints), sum (LE32), hash (LE64).

mod builder;

#[cfg(test)]
mod tests;

use bytes::Bytes;

use super::chain::Archive;
use super::entry::{DigestEntry, Position};
use super::piece::{compress, decompress, get_uvarint, put_uvarint};
use super::{ArchiveError, Sha256Hash};
use crate::bucket::{ArchiveObject, ObjectKey};
use crate::model::Ulid;
use crate::runtime::Random;

pub use builder::DigestBuilder;

const MAGIC: &[u8; 4] = b"PDIG";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 34;
const ZSTD_LEVEL: i32 = 3;

/// Some ten million rows.
const PLAIN_BYTES_MAX: u64 = 256 << 20;

/// The least that a row takes: three varints, sum and hash.
const ROW_BYTES_MIN: usize = 15;

/// What the samples of one series in one range add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DigestRow {
    /// [`crate::model::Labels::series_hash`].
    pub labels: u64,
    /// How many samples.
    pub count: u32,
    /// How many of them came out of order: such a one may stand beside another of the same time, and a query shows
    /// one of the two.
    pub late: u32,
    /// The sum of the values' bit patterns, each folded to 32 bits.
    pub sum: u32,
    /// The sum of the hashes of time and value.
    pub hash: u64,
}

impl DigestRow {
    /// Adds a sample.
    pub fn add(&mut self, ts_ms: i64, value_bits: u64) {
        self.count = self.count.saturating_add(1);
        self.sum = self.sum.wrapping_add(folded(value_bits));
        self.hash = self.hash.wrapping_add(hash_of(ts_ms, value_bits));
    }

    /// Adds another row of the same series.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.late = self.late.saturating_add(other.late);
        self.sum = self.sum.wrapping_add(other.sum);
        self.hash = self.hash.wrapping_add(other.hash);
    }
}

fn folded(value_bits: u64) -> u32 {
    (value_bits ^ (value_bits >> 32)) as u32
}

/// Hashes a sample: two rounds of the finalizer of splitmix64, over the time and then the value.
fn hash_of(ts_ms: i64, value_bits: u64) -> u64 {
    mixed(mixed(ts_ms as u64) ^ value_bits)
}

const fn mixed(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The digests of all series in one range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Whether it holds the range from its beginning; else it adds to an earlier one.
    pub is_whole: bool,
    /// Start of the range.
    pub min_time_ms: i64,
    /// End of the range, exclusive.
    pub max_time_ms: i64,
    /// Samples of this range or a later one of series that the builder had not seen declared: they are in no row.
    pub undeclared: u64,
    /// The rows, ascending by `labels`, each once.
    pub rows: Vec<DigestRow>,
}

/// A digest that is ready to be stored.
#[derive(Debug, Clone)]
pub struct SealedDigest {
    /// What an entry says of it.
    pub entry: DigestEntry,
    /// Where it is stored.
    pub key: ObjectKey,
    /// What is stored.
    pub stored: Bytes,
}

impl Digest {
    /// Compresses, encrypts and names the digest. `position` is where the log was read up to when it was closed.
    ///
    /// # Errors
    /// Keys that cannot seal.
    pub fn seal(
        &self,
        archive: &Archive,
        position: Position,
        id: Ulid,
        random: &Random,
    ) -> Result<SealedDigest, ArchiveError> {
        let key = archive.key(ArchiveObject::Digest { id });
        let stored = archive.seal(&key.to_string(), self.encode(), random)?;
        let entry = DigestEntry {
            id,
            min_time_ms: self.min_time_ms,
            max_time_ms: self.max_time_ms,
            position,
            series: self.rows.len() as u64,
            stored_bytes: stored.len() as u64,
            stored_sha256: Sha256Hash::of(&stored),
        };
        Ok(SealedDigest { entry, key, stored })
    }

    /// Returns the bytes of the object before encryption.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.rows.len() * 2 * ROW_BYTES_MIN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[VERSION, u8::from(self.is_whole)]);
        out.extend_from_slice(&self.min_time_ms.to_le_bytes());
        out.extend_from_slice(&self.max_time_ms.to_le_bytes());
        out.extend_from_slice(&self.undeclared.to_le_bytes());
        out.extend_from_slice(&(self.rows.len() as u32).to_le_bytes());
        let mut previous = 0;
        for row in &self.rows {
            put_uvarint(&mut out, row.labels.wrapping_sub(previous));
            previous = row.labels;
        }
        self.rows.iter().for_each(|row| put_uvarint(&mut out, u64::from(row.count)));
        self.rows.iter().for_each(|row| put_uvarint(&mut out, u64::from(row.late)));
        self.rows.iter().for_each(|row| out.extend_from_slice(&row.sum.to_le_bytes()));
        self.rows.iter().for_each(|row| out.extend_from_slice(&row.hash.to_le_bytes()));
        Bytes::from(compress(&out, ZSTD_LEVEL))
    }

    /// Reads what [`Digest::encode`] wrote.
    ///
    /// # Errors
    /// What is wrong with the bytes, for people.
    pub fn decode(compressed: &[u8]) -> Result<Self, String> {
        let plain = decompress(compressed, PLAIN_BYTES_MAX)?;
        let fixed = plain.get(..HEADER_BYTES).filter(|fixed| fixed.starts_with(MAGIC));
        let fixed = fixed.ok_or("it is not a digest")?;
        if fixed[4] != VERSION {
            return Err(format!("it has version {} and this program reads {VERSION}", fixed[4]));
        }
        let is_whole = match fixed[5] {
            0 => false,
            1 => true,
            flag => return Err(format!("its flag is {flag}")),
        };
        let number = |at: usize| -> [u8; 8] { std::array::from_fn(|i| fixed[at + i]) };
        let (min_time_ms, max_time_ms) = (i64::from_le_bytes(number(6)), i64::from_le_bytes(number(14)));
        let undeclared = u64::from_le_bytes(number(22));
        if min_time_ms >= max_time_ms {
            return Err(format!("its range ends at {max_time_ms} and begins at {min_time_ms}"));
        }
        let rows = u32::from_le_bytes([fixed[30], fixed[31], fixed[32], fixed[33]]) as usize;
        let rows = decode_rows(&plain[HEADER_BYTES..], rows)?;
        Ok(Self { is_whole, min_time_ms, max_time_ms, undeclared, rows })
    }
}

fn decode_rows(mut rest: &[u8], count: usize) -> Result<Vec<DigestRow>, String> {
    if rest.len() / ROW_BYTES_MIN < count {
        return Err(format!("it claims {count} rows in {} bytes", rest.len()));
    }
    let mut rows = vec![DigestRow::default(); count];
    let mut take = || -> Result<u64, String> {
        let (value, tail) = get_uvarint(rest).ok_or("a number is cut off")?;
        rest = tail;
        Ok(value)
    };
    let mut previous = None;
    for row in &mut rows {
        let step = take()?;
        row.labels = match previous {
            None => step,
            Some(before) if step > 0 => u64::checked_add(before, step).ok_or("its rows are out of order")?,
            Some(_) => return Err("a series stands in it twice".to_owned()),
        };
        previous = Some(row.labels);
    }
    let narrow = |value: u64| u32::try_from(value).map_err(|_| format!("it counts {value} samples in a row"));
    for row in &mut rows {
        row.count = narrow(take()?)?;
    }
    for row in &mut rows {
        row.late = narrow(take()?)?;
    }
    if rest.len() != count * 12 {
        return Err(format!("its last columns have {} bytes and not {}", rest.len(), count * 12));
    }
    let (sums, hashes) = rest.split_at(count * 4);
    for (row, (sum, hash)) in rows.iter_mut().zip(sums.chunks_exact(4).zip(hashes.chunks_exact(8))) {
        row.sum = u32::from_le_bytes(std::array::from_fn(|i| sum[i]));
        row.hash = u64::from_le_bytes(std::array::from_fn(|i| hash[i]));
    }
    Ok(rows)
}

impl Archive {
    /// Reads a digest.
    ///
    /// # Errors
    /// As [`Archive::read`].
    pub async fn read_digest(&self, entry: &DigestEntry) -> Result<Digest, ArchiveError> {
        let key = self.key(ArchiveObject::Digest { id: entry.id });
        let bytes = self.read(&key, entry.stored_sha256).await?;
        Digest::decode(&bytes).map_err(|reason| ArchiveError::Damaged { key: key.to_string(), reason })
    }
}

/// Decodes arbitrary bytes as a digest; for fuzzing.
pub fn fuzz_digest(data: &[u8]) {
    for bytes in [data.to_vec(), compress(data, 1)] {
        let Ok(digest) = Digest::decode(&bytes) else { continue };
        assert_eq!(Digest::decode(&digest.encode()), Ok(digest), "a digest can be written again");
    }
}
