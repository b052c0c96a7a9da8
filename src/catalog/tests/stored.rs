use std::io::Read;
use std::path::PathBuf;

use super::*;
use crate::catalog::codec::{decode_part, decode_version, encode};
use crate::catalog::part::{hex_sha256, open_part, spill};
use crate::catalog::*;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/catalog").join(name)
}

/// A version with something in every field, and the part that it names.
fn full_version() -> (Version, Vec<u8>) {
    let mut change = Change::new(Ulid(0x0190_0000_0000_0000_0000_0000_0000_0001));
    change.label_columns = vec!["__name__".to_owned(), "job".to_owned()];
    change.add = (1..=6).map(|n| BlockEntry { label_columns: vec!["job".to_owned()], ..block(n) }).collect();
    change.add[5].resolution = Resolution::FiveMinutes;
    change.add[5].external_labels = Labels::empty();
    change.covered = vec![CoverChange {
        epoch: Ulid(0x0180_0000_0000_0000_0000_0000_0000_0002),
        receiver: "receive-0".to_owned(),
        after_seq: 0,
        through_seq: 42,
    }];
    change.doom = vec![crate::bucket::ObjectKey::block(&tenant(), Ulid(99)).to_string()];
    let Plan::Create(planned) = plan_commit(None, &tenant(), &change, START_MS).unwrap() else { panic!() };
    let mut version = *planned;
    version.unknown.insert("future".to_owned(), serde_json::json!({"kept": true}));
    version.covered.values_mut().next().unwrap().sealed_by = Some("receive-1".to_owned());
    let part = spill(&mut version, 4, Ulid(77)).unwrap();
    (version, part.bytes.to_vec())
}

fn schema() -> serde_json::Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schemas/json/catalog.schema.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Says what of a document the published schema does not allow.
fn violations(schema: &serde_json::Value, document: &serde_json::Value) -> Vec<String> {
    let validator = jsonschema::validator_for(schema).unwrap();
    validator.iter_errors(document).map(|e| format!("{} at {}", e, e.instance_path)).collect()
}

#[test]
fn what_is_written_follows_the_published_schema() {
    let (version, part) = full_version();
    let schema = schema();
    assert_eq!(violations(&schema, &serde_json::to_value(&version).unwrap()), Vec::<String>::new());
    let mut part_schema = schema.clone();
    part_schema.as_object_mut().unwrap().retain(|key, _| key.starts_with('$'));
    part_schema["$ref"] = "#/$defs/part".into();
    let part = serde_json::to_value(decode_part(&part).unwrap()).unwrap();
    assert_eq!(violations(&part_schema, &part), Vec::<String>::new());
    let mut wrong = serde_json::to_value(&version).unwrap();
    wrong["blocks"][0]["sha256"] = "x".into();
    wrong.as_object_mut().unwrap().remove("covered");
    assert_eq!(violations(&schema, &wrong).len(), 2, "the schema does refuse what is wrong");
}

#[test]
fn the_first_format_is_still_read_and_written() {
    let (mut version, part) = full_version();
    let bless = std::env::var_os("PERENNIAL_BLESS").is_some();
    if !bless {
        // Another release of zstd may compress the part into other bytes; what counts is that the stored one is read.
        version.parts[0].sha256 = hex_sha256(&std::fs::read(fixture("part.v1.json.zst")).unwrap());
    }
    for (name, bytes, json) in [
        ("v1", encode(&version), serde_json::to_value(&version).unwrap()),
        ("part.v1", part.clone(), serde_json::to_value(decode_part(&part).unwrap()).unwrap()),
    ] {
        let (stored, expected_path) =
            (fixture(&format!("{name}.json.zst")), fixture(&format!("{name}.expected.json")));
        if bless {
            std::fs::write(&stored, bytes).unwrap();
            std::fs::write(&expected_path, serde_json::to_string_pretty(&json).unwrap() + "\n").unwrap();
        }
        let expected: serde_json::Value =
            serde_json::from_slice(&std::fs::read(expected_path).unwrap()).unwrap();
        assert_eq!(json, expected, "what is written now has changed: that needs a new format");
        let stored = std::fs::read(stored).unwrap();
        let read = if name == "v1" {
            serde_json::to_value(decode_version(&stored).unwrap()).unwrap()
        } else {
            serde_json::to_value(decode_part(&stored).unwrap()).unwrap()
        };
        assert_eq!(read, expected);
    }
    let stored = decode_version(&std::fs::read(fixture("v1.json.zst")).unwrap()).unwrap();
    assert_eq!(stored, version);
    open_part(&std::fs::read(fixture("part.v1.json.zst")).unwrap(), &tenant(), &stored.parts[0]).unwrap();
}

#[test]
fn damage_is_told_and_never_panics() {
    let (version, part) = full_version();
    let bytes = encode(&version);
    assert_eq!(decode_version(&bytes).unwrap(), version);
    for end in 0..bytes.len() {
        assert!(decode_version(&bytes[..end]).is_err());
    }
    for i in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[i] ^= 1 << (i % 8);
        fuzz_catalog(&flipped);
        let mut flipped = part.clone();
        if let Some(byte) = flipped.get_mut(i) {
            *byte ^= 1 << (i % 8);
            assert!(open_part(&flipped, &tenant(), &version.parts[0]).is_err(), "a part's SHA-256 holds it");
        }
    }
}

#[test]
fn a_newer_format_is_told_from_damage() {
    let (version, _) = full_version();
    let mut json = serde_json::to_value(&version).unwrap();
    json["format"] = (FORMAT + 1).into();
    json["blocks"] = "in a form of the future".into();
    let error = decode_version(&encode(&json)).unwrap_err().at("k");
    assert!(matches!(error, CatalogError::NewerFormat { found, .. } if found == FORMAT + 1), "{error:?}");
}

#[test]
fn a_bomb_ends_at_the_limit() {
    let bomb = zstd::encode_all(std::io::repeat(b' ').take(200 << 20), 3).unwrap();
    assert!(bomb.len() < 100_000);
    let error = decode_version(&bomb).unwrap_err().at("k").to_string();
    assert!(error.contains("bytes of JSON"), "{error}");
    fuzz_catalog(&zstd::encode_all(std::io::repeat(b'[').take(1 << 20), 3).unwrap());
}

#[test]
fn versions_that_break_an_invariant_are_not_read() {
    let (version, _) = full_version();
    let broken: [&dyn Fn(&mut Version); 6] = [
        &|v| v.version = 0,
        &|v| v.blocks.reverse(),
        &|v| v.blocks.push(Arc::clone(&v.blocks[0])),
        &|v| v.label_columns.clear(),
        &|v| v.parts.push(v.parts[0].clone()),
        &|v| v.doomed.push(Doomed { key: "tenants/other/blocks/x".to_owned(), since_ms: 0 }),
    ];
    for (i, break_it) in broken.iter().enumerate() {
        let mut wrong = version.clone();
        break_it(&mut wrong);
        assert!(check_invariants(&wrong).is_err(), "{i}");
        assert!(decode_version(&encode(&wrong)).is_err(), "{i}");
    }
}
