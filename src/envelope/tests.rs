mod golden;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use age::x25519::Identity;
use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::frames::{FRAME_BYTES, TAG_BYTES, sealed_bytes};
use super::*;
use crate::model::ErrorKind;
use crate::runtime::random_from_seed;

const NAME: &str = "archives/prom-a/timelines/1/wal/00000007/0-4096.piece";

/// A stand-in for a key management service: it holds a master key and names its version.
#[derive(Debug)]
struct FakeKms {
    master: u8,
    answers: bool,
}

impl FakeKms {
    fn envelope() -> Envelope {
        Envelope::encrypting(Arc::new(Self { master: 0xa5, answers: true }))
    }

    fn whiten(&self, bytes: &[u8]) -> Vec<u8> {
        bytes.iter().map(|b| b ^ self.master).collect()
    }
}

impl KeyWrap for FakeKms {
    fn scheme(&self) -> &str {
        "fake-kms"
    }

    fn recipients(&self) -> Vec<String> {
        vec!["kms:key/backup/3".to_owned()]
    }

    fn can_unwrap(&self) -> bool {
        true
    }

    fn wrap(&self, key: &DataKey) -> Result<Vec<u8>, WrapError> {
        if self.answers { Ok(self.whiten(key.expose())) } else { Err(WrapError::Failed("no answer".into())) }
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<DataKey, WrapError> {
        DataKey::from_bytes(&self.whiten(wrapped)).ok_or(WrapError::Damaged)
    }
}

/// Key files in a folder of the test's own.
struct Keys {
    folder: tempfile::TempDir,
}

impl Keys {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Writes the secret halves to one file.
    fn identities(&self, name: &str, identities: &[&Identity]) -> PathBuf {
        let lines: Vec<_> = identities.iter().map(|i| i.to_string().expose_secret().to_owned()).collect();
        self.write(name, &format!("# created: 2026-01-01\n{}\n", lines.join("\n")))
    }

    fn recipients(&self, name: &str, identities: &[&Identity]) -> PathBuf {
        let lines: Vec<_> = identities.iter().map(|i| i.to_public().to_string()).collect();
        self.write(name, &format!("{}\n\n", lines.join("\n")))
    }
}

fn age_envelope(recipients: Option<&Path>, identities: &[PathBuf]) -> Envelope {
    Envelope::encrypting(Arc::new(AgeKeys::from_files(recipients, identities).unwrap()))
}

fn content(length: usize) -> Bytes {
    (0..length).map(|n| (n * 7 + n / 251) as u8).collect()
}

#[test]
fn contents_of_every_length_around_a_frame_come_back() {
    let envelope = FakeKms::envelope();
    let edges = [0, 1, 15, 16, 17, FRAME_BYTES, 2 * FRAME_BYTES, 3 * FRAME_BYTES];
    for length in edges.into_iter().flat_map(|e| e.saturating_sub(17)..e + 18) {
        if length % FRAME_BYTES > 40 && length % FRAME_BYTES < FRAME_BYTES - 17 {
            continue;
        }
        let plain = content(length);
        let stored = envelope.seal(NAME, plain.clone(), &random_from_seed(1)).unwrap();
        let header_bytes = stored.len() - sealed_bytes(length);
        assert!(header_bytes < 100, "{length}: {header_bytes}");
        assert_eq!(envelope.open(NAME, stored).unwrap(), plain, "{length}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn streams_in_any_steps_give_the_bytes_of_the_whole(length in 0..3 * FRAME_BYTES + 100, step in 1..200_000usize) {
        let envelope = FakeKms::envelope();
        let plain = content(length);
        let whole = envelope.seal(NAME, plain.clone(), &random_from_seed(2)).unwrap();
        let mut stored = Vec::new();
        let mut steps = Steps { bytes: &plain, step };
        envelope.seal_stream(NAME, &mut steps, &mut stored, &random_from_seed(2)).unwrap();
        prop_assert_eq!(&stored[..], &whole[..]);
        let mut opened = Vec::new();
        envelope.open_stream(NAME, &mut Steps { bytes: &stored, step }, &mut opened).unwrap();
        prop_assert_eq!(&opened[..], &plain[..]);
    }
}

/// A reader that gives a few bytes at a time.
struct Steps<'a> {
    bytes: &'a [u8],
    step: usize,
}

impl Read for Steps<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.step.min(buffer.len()).min(self.bytes.len());
        buffer[..length].copy_from_slice(&self.bytes[..length]);
        self.bytes = &self.bytes[length..];
        Ok(length)
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let keys = Keys::new();
    let identity = Identity::generate();
    let age = age_envelope(Some(&keys.recipients("r", &[&identity])), &[keys.identities("i", &[&identity])]);
    for envelope in [FakeKms::envelope(), age] {
        let stored = envelope.seal(NAME, content(300), &random_from_seed(3)).unwrap();
        for bit in 0..stored.len() * 8 {
            let mut damaged = stored.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let error = envelope.open(NAME, Bytes::from(damaged)).unwrap_err();
            let in_version = (32..40).contains(&bit);
            let expected = if in_version { ErrorKind::Unsupported } else { ErrorKind::Corrupt };
            assert_eq!(error.kind(), expected, "bit {bit}: {error}");
        }
    }
}

#[test]
fn a_bit_flipped_in_any_frame_is_refused() {
    let envelope = FakeKms::envelope();
    let stored = envelope.seal(NAME, content(2 * FRAME_BYTES + 9), &random_from_seed(4)).unwrap();
    for at in (0..stored.len()).rev().step_by(997) {
        let mut damaged = stored.to_vec();
        damaged[at] ^= 0x10;
        assert!(envelope.open(NAME, Bytes::from(damaged)).is_err(), "byte {at}");
    }
}

#[test]
fn truncated_and_extended_objects_are_refused() {
    let envelope = FakeKms::envelope();
    for length in [0, 10, FRAME_BYTES, 2 * FRAME_BYTES, 2 * FRAME_BYTES + 10] {
        let stored = envelope.seal(NAME, content(length), &random_from_seed(5)).unwrap();
        let frame = FRAME_BYTES + TAG_BYTES;
        let near_end = (1..40).filter_map(|cut| stored.len().checked_sub(cut));
        let at_frames = (1..3).filter_map(|n| stored.len().checked_sub(n * frame));
        for cut in near_end.chain(at_frames).chain(4..60).filter(|cut| *cut < stored.len()) {
            let error = envelope.open(NAME, stored.slice(..cut)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{length} cut to {cut}: {error}");
        }
        for more in [1, TAG_BYTES, frame] {
            let extended = [&stored[..], &vec![0; more]].concat();
            assert!(envelope.open(NAME, Bytes::from(extended)).is_err(), "{length} and {more} more");
        }
    }
}

#[test]
fn reordered_repeated_and_dropped_frames_are_refused() {
    let envelope = FakeKms::envelope();
    let plain = content(3 * FRAME_BYTES);
    let stored = envelope.seal(NAME, plain, &random_from_seed(6)).unwrap();
    let frame = FRAME_BYTES + TAG_BYTES;
    let (header, frames) = stored.split_at(stored.len() - 3 * frame);
    let pick = |order: &[usize]| {
        let mut bytes = header.to_vec();
        order.iter().for_each(|n| bytes.extend_from_slice(&frames[n * frame..(n + 1) * frame]));
        Bytes::from(bytes)
    };
    assert!(envelope.open(NAME, pick(&[0, 1, 2])).is_ok());
    for order in [&[1, 0, 2][..], &[0, 2], &[0, 1], &[0, 1, 1, 2], &[0, 0, 1, 2], &[2], &[0, 1, 2, 2], &[]] {
        assert!(envelope.open(NAME, pick(order)).is_err(), "{order:?}");
    }
}

#[test]
fn an_object_under_another_name_is_refused() {
    let envelope = FakeKms::envelope();
    let stored = envelope.seal(NAME, content(10), &random_from_seed(7)).unwrap();
    for other in ["", "archives/prom-a/timelines/1/wal/00000007/0-4097.piece"] {
        let error = envelope.open(other, stored.clone()).unwrap_err();
        assert!(error.to_string().contains("of another object"), "{error}");
    }
}

#[test]
fn a_header_does_not_fit_the_frames_of_another_object() {
    let envelope = FakeKms::envelope();
    let random = random_from_seed(8);
    let first = envelope.seal(NAME, content(10), &random).unwrap();
    let second = envelope.seal(NAME, content(10), &random).unwrap();
    let header = first.len() - sealed_bytes(10);
    assert_ne!(first, second, "each object has a key of its own");
    let mixed = [&first[..header], &second[header..]].concat();
    assert!(envelope.open(NAME, Bytes::from(mixed)).is_err());
}

#[test]
fn one_of_two_lost_keys_is_survived() {
    let keys = Keys::new();
    let (ours, vault) = (Identity::generate(), Identity::generate());
    let writer = age_envelope(Some(&keys.recipients("r", &[&ours, &vault])), &[]);
    let stored = writer.seal(NAME, content(100), &random_from_seed(9)).unwrap();
    for left in [&ours, &vault] {
        let reader = age_envelope(None, &[keys.identities("i", &[left])]);
        assert_eq!(reader.open(NAME, stored.clone()).unwrap(), content(100));
    }
}

#[test]
fn a_wrong_key_is_told_with_those_that_would_open() {
    let keys = Keys::new();
    let (ours, other) = (Identity::generate(), Identity::generate());
    let writer = age_envelope(Some(&keys.recipients("r", &[&ours])), &[]);
    let stored = writer.seal(NAME, content(100), &random_from_seed(10)).unwrap();
    let reader = age_envelope(None, &[keys.identities("i", &[&other])]);
    for envelope in [reader, Envelope::none(), writer] {
        let error = envelope.open(NAME, stored.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let text = error.to_string();
        assert!(text.contains(&ours.to_public().to_string()) && text.contains(NAME), "{text}");
        assert!(text.contains("--encryption.identity-file"), "{text}");
    }
}

#[test]
fn rotated_keys_read_old_and_new_objects() {
    let keys = Keys::new();
    let (old, new) = (Identity::generate(), Identity::generate());
    let before = age_envelope(Some(&keys.recipients("r1", &[&old])), &[keys.identities("i1", &[&old])]);
    let first = before.seal(NAME, content(1), &random_from_seed(11)).unwrap();
    let identities = [keys.identities("i2", &[&new]), keys.identities("i1", &[&old])];
    let after = age_envelope(Some(&keys.recipients("r2", &[&new])), &identities);
    after.check_sealing(&random_from_seed(12)).unwrap();
    let second = after.seal(NAME, content(2), &random_from_seed(13)).unwrap();
    assert_eq!(after.open(NAME, first).unwrap(), content(1));
    assert_eq!(after.open(NAME, second.clone()).unwrap(), content(2));
    assert!(before.open(NAME, second).is_err(), "the old key opens nothing new");
}

#[test]
fn plain_objects_pass_only_where_they_may() {
    let random = random_from_seed(14);
    let plain = content(100);
    let none = Envelope::none();
    assert_eq!(none.seal(NAME, plain.clone(), &random).unwrap(), plain);
    assert_eq!(none.open(NAME, plain.clone()).unwrap(), plain);
    let error = FakeKms::envelope().open(NAME, plain.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("--encryption.allow-plaintext"), "{error}");
    let mixed = FakeKms::envelope().allowing_plaintext();
    for length in [0, 3, 4, 100] {
        assert_eq!(mixed.open(NAME, plain.slice(..length)).unwrap(), plain.slice(..length));
        let mut opened = Vec::new();
        mixed.open_stream(NAME, &mut &plain[..length], &mut opened).unwrap();
        assert_eq!(opened, plain[..length]);
    }
    let stored = mixed.seal(NAME, plain.clone(), &random).unwrap();
    assert!(!stored.windows(50).any(|w| w == &plain[..50]), "nothing is stored plain");
}

#[test]
fn an_object_of_other_keys_or_a_later_format_is_told_apart() {
    let keys = Keys::new();
    let identity = Identity::generate();
    let stored = FakeKms::envelope().seal(NAME, content(10), &random_from_seed(15)).unwrap();
    let age = age_envelope(None, &[keys.identities("i", &[&identity])]);
    let error = age.open(NAME, stored.clone()).unwrap_err();
    assert!(matches!(&error, EnvelopeError::Scheme { found, .. } if found == "fake-kms"), "{error}");
    let mut later = stored.to_vec();
    later[4] = 2;
    let error = FakeKms::envelope().open(NAME, Bytes::from(later)).unwrap_err();
    assert!(matches!(error, EnvelopeError::Version { found: 2, known: 1, .. }), "{error}");
}

#[test]
fn the_self_test_finds_what_would_make_backups_unreadable() {
    let keys = Keys::new();
    let random = random_from_seed(16);
    let (ours, other) = (Identity::generate(), Identity::generate());
    let recipients = keys.recipients("r", &[&ours]);
    Envelope::none().check_sealing(&random).unwrap();
    FakeKms::envelope().check_sealing(&random).unwrap();
    age_envelope(Some(&recipients), &[]).check_sealing(&random).unwrap();
    age_envelope(Some(&recipients), &[keys.identities("i", &[&other, &ours])])
        .check_sealing(&random)
        .unwrap();
    let stranger = age_envelope(Some(&recipients), &[keys.identities("i", &[&other])]);
    let error = stranger.check_sealing(&random).unwrap_err();
    assert!(matches!(error, EnvelopeError::SelfTest { .. }), "{error}");
    let reader = age_envelope(None, &[keys.identities("i", &[&ours])]);
    assert!(matches!(reader.check_sealing(&random).unwrap_err(), EnvelopeError::NoRecipients));
    reader.check_opening().unwrap();
    let error = age_envelope(Some(&recipients), &[]).check_opening().unwrap_err();
    assert!(matches!(error, EnvelopeError::NoIdentities), "{error}");
    let down = Envelope::encrypting(Arc::new(FakeKms { master: 1, answers: false }));
    assert_eq!(down.check_sealing(&random).unwrap_err().kind(), ErrorKind::Unavailable);
}

#[test]
fn key_files_that_hold_anything_else_are_refused_without_quoting_them() {
    let keys = Keys::new();
    let identity = Identity::generate();
    let secret = identity.to_string().expose_secret().to_owned();
    let refuse = |recipients: Option<&str>, identities: Option<&str>, says: &str| {
        let recipients = recipients.map(|text| keys.write("recipients", text));
        let identities: Vec<_> = identities.iter().map(|text| keys.write("identities", text)).collect();
        let error = AgeKeys::from_files(recipients.as_deref(), &identities).unwrap_err();
        let text = crate::model::error_chain(&error);
        assert!(text.contains(says) && !text.contains("SECRET-KEY-1Q"), "{text}");
        assert!(!text.contains(&secret), "{text}");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    };
    refuse(None, None, "--encryption.recipients-file");
    refuse(Some(""), None, "holds no key");
    refuse(Some("# only a comment\n\n"), None, "holds no key");
    refuse(Some(&secret), None, "line 1 is a secret key");
    refuse(Some("\nage1qqq"), None, "line 2 is not an age public key");
    refuse(Some("ssh-ed25519 AAAA"), None, "is not an age public key");
    refuse(None, Some(&identity.to_public().to_string()), "is a public key");
    refuse(None, Some(&secret[..40]), "line 1 is not an age secret key");
    refuse(None, Some("age-encryption.org/v1\n-> scrypt"), "passphrase");
    refuse(None, Some(&"#\n".repeat(40_000)), "65536 bytes");
    let many: Vec<_> = (0..17).map(|_| Identity::generate().to_public().to_string()).collect();
    refuse(Some(&many.join("\n")), None, "at most 16");
    let missing = AgeKeys::from_files(Some(&keys.folder.path().join("none")), &[]).unwrap_err();
    assert!(matches!(missing, EnvelopeError::KeyFile { .. }), "{missing}");
}

#[test]
fn nothing_prints_a_secret() {
    let keys = Keys::new();
    let identity = Identity::generate();
    let files = [keys.identities("i", &[&identity])];
    let envelope = age_envelope(Some(&keys.recipients("r", &[&identity])), &files);
    let text = format!("{envelope:?} {:?}", DataKey::random(&random_from_seed(17)));
    assert!(!text.contains("AGE-SECRET") && text.contains(&identity.to_public().to_string()), "{text}");
    assert!(text.contains("DataKey(<secret>)"), "{text}");
}
