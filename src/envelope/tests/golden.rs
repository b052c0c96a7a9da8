//! Objects of each format must open as long as there are archives.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::*;

/// Sealed once with age, whose keys are random: written only where it is missing.
const AGE: &str = "v1.penv";
/// Sealed with a key service that is not one, from a fixed seed: written the same each time.
const SEEDED: &str = "seeded.v1.penv";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/envelope").join(name)
}

fn blessing() -> bool {
    std::env::var_os("PERENNIAL_BLESS").is_some()
}

fn expected(plain: &[u8], envelope: &str) -> Value {
    let sha256: String = Sha256::digest(plain).iter().map(|b| format!("{b:02x}")).collect();
    json!({"name": NAME, "sealed_by": envelope, "plain_bytes": plain.len(), "plain_sha256": sha256})
}

fn age_keys() -> Envelope {
    age_envelope(None, &[fixture("v1.identity.txt")])
}

fn write_age_fixture() {
    let identity = Identity::generate();
    let secret = identity.to_string().expose_secret().to_owned();
    let text = format!("# A key for tests only: it protects nothing.\n{secret}\n");
    std::fs::write(fixture("v1.identity.txt"), text).unwrap();
    let keys = Keys::new();
    let writer = age_envelope(Some(&keys.recipients("r", &[&identity, &Identity::generate()])), &[]);
    let plain = content(FRAME_BYTES + 100);
    let stored = writer.seal(NAME, plain.clone(), &random_from_seed(18)).unwrap();
    std::fs::write(fixture(AGE), stored).unwrap();
    let expected = serde_json::to_string_pretty(&expected(&plain, "age")).unwrap();
    std::fs::write(fixture("v1.expected.json"), format!("{expected}\n")).unwrap();
}

#[test]
fn the_first_format_keeps_opening() {
    if blessing() && !fixture(AGE).exists() {
        write_age_fixture();
    }
    let stored = Bytes::from(std::fs::read(fixture(AGE)).unwrap());
    let plain = age_keys().open(NAME, stored).unwrap();
    let text = std::fs::read_to_string(fixture("v1.expected.json")).unwrap();
    assert_eq!(expected(&plain, "age"), serde_json::from_str::<Value>(&text).unwrap());
}

#[test]
fn the_bytes_that_are_written_are_those_of_the_first_format() {
    let plain = content(FRAME_BYTES + 100);
    let stored = FakeKms::envelope().seal(NAME, plain.clone(), &random_from_seed(19)).unwrap();
    if blessing() {
        std::fs::write(fixture(SEEDED), &stored).unwrap();
    }
    assert_eq!(stored, std::fs::read(fixture(SEEDED)).unwrap(), "a new format needs a new version");
    assert_eq!(FakeKms::envelope().open(NAME, stored).unwrap(), plain);
}
