//! The checked-in Rust of `schemas/proto` is what its .proto files say. `PERENNIAL_BLESS=1` writes it anew.

use std::fs;
use std::path::{Path, PathBuf};

use protox::prost::Message as _;

/// The files that Rust is generated from.
const GENERATED_FROM: [&str; 5] = [
    "thanos/info.proto",
    "thanos/store.proto",
    "thanos/exemplars.proto",
    "thanos/metadata.proto",
    "prometheus/remote_read.proto",
];

/// How many of them hold services.
const SERVICES: usize = 4;

/// The files that only document bytes we walk by hand; they must be valid all the same.
const DOCUMENTING: [&str; 2] = ["prometheus/remote_write.proto", "prometheus/remote_write_v2.proto"];

fn package_root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn generate_into(out: &Path) {
    let protos = package_root().join("schemas/proto");
    let mut compiler = protox::Compiler::new([&protos]).unwrap();
    compiler.include_imports(true).include_source_info(true);
    let descriptors = compiler.open_files(GENERATED_FROM).unwrap().file_descriptor_set();
    tonic_prost_build::configure()
        .out_dir(out)
        .emit_rerun_if_changed(false)
        .bytes(".thanos.Chunk.data")
        .bytes(".prometheus.Chunk.data")
        .extern_path(".thanos.Series", "crate::wire::store_api::EncodedSeries")
        .compile_fds(descriptors)
        .unwrap();

    // Reflection serves the services' files, without comments.
    let mut compiler = protox::Compiler::new([&protos]).unwrap();
    compiler.include_imports(true);
    let services = compiler.open_files(&GENERATED_FROM[..SERVICES]).unwrap().file_descriptor_set();
    fs::write(out.join("store_api.binpb"), services.encode_to_vec()).unwrap();
}

fn file_names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "mod.rs")
        .collect();
    names.sort();
    names
}

#[test]
fn generated_messages_are_fresh() {
    let checked_in = package_root().join("src/wire/generated");
    if std::env::var_os("PERENNIAL_BLESS").is_some() {
        generate_into(&checked_in);
    }
    let fresh = tempfile::tempdir().unwrap();
    generate_into(fresh.path());
    assert_eq!(file_names(&checked_in), file_names(fresh.path()));
    for name in file_names(fresh.path()) {
        assert!(
            fs::read(checked_in.join(&name)).unwrap() == fs::read(fresh.path().join(&name)).unwrap(),
            "src/wire/generated/{name} is not what schemas/proto says: run this test with PERENNIAL_BLESS=1"
        );
    }
}

#[test]
fn proto_files_that_only_document_are_valid() {
    protox::compile(DOCUMENTING, [package_root().join("schemas/proto")]).unwrap();
}
