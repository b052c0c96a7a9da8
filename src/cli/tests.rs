use std::ffi::OsString;
use std::io::Write;

use clap::Parser;

use super::*;

fn parse_words(words: &[&str]) -> Result<Cli, String> {
    let args = std::iter::once("perennial").chain(words.iter().copied()).map(OsString::from).collect();
    parse(args).map_err(|e| e.to_string())
}

fn config_file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn standalone_debug(words: &[&str]) -> String {
    match parse_words(words).unwrap().command {
        Command::Standalone(args) => format!("{args:?}"),
        other => panic!("not standalone: {other:?}"),
    }
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
    assert!(Cli::try_parse_from(["perennial", "standalone"]).is_ok());
}

#[test]
fn keys_of_the_config_file_are_flags_and_flags_win() {
    let file = config_file(
        "head.cut-interval: 5m\nlabel: ['a=\"1\"', 'b=\"2\"']\nhttp-address: 127.0.0.1:1\nlog.skip-damaged: true\n\
         objstore.config:\n  type: FILESYSTEM\n  config:\n    directory: /tmp/x\n",
    );
    let path = file.path().to_str().unwrap();
    let from_file = standalone_debug(&["standalone", "--config-file", path]);
    assert!(from_file.contains("cut_interval: 300s"), "{from_file}");
    assert!(from_file.contains(r#"labels: [("a", "1"), ("b", "2")]"#), "{from_file}");
    assert!(from_file.contains("type: FILESYSTEM"), "{from_file}");
    assert!(from_file.contains("skip_damaged: true"), "{from_file}");
    let words = ["standalone", "--config-file", path, "--label", "c=\"3\"", "--http-address", "127.0.0.1:2"];
    let with_flags = standalone_debug(&words);
    assert!(with_flags.contains(r#"labels: [("c", "3")]"#), "{with_flags}");
    assert!(with_flags.contains("http_address: 127.0.0.1:2"), "{with_flags}");
    assert!(with_flags.contains("cut_interval: 300s"), "{with_flags}");
}

#[test]
fn wrong_configuration_is_refused_with_key_value_and_what_is_allowed() {
    let unknown = config_file("head.cut-intervall: 5m\n");
    let error = parse_words(&["standalone", "--config-file", unknown.path().to_str().unwrap()]).unwrap_err();
    assert!(error.contains("head.cut-intervall") && error.contains("head.cut-interval,"), "{error}");
    let wrong = config_file("head.cut-interval: soon\n");
    let error = parse_words(&["standalone", "--config-file", wrong.path().to_str().unwrap()]).unwrap_err();
    assert!(
        error.contains("--head.cut-interval") && error.contains("soon") && error.contains("30m"),
        "{error}"
    );
    for (flag, value, allowed) in [
        ("--receive.default-tenant-id", "../x", "A-Z a-z"),
        ("--ingest.max-body-bytes", "many", "32MiB"),
        ("--ingest.max-labels", "0", "above 0"),
        ("--label", "cluster", "name=\"value\""),
        ("--http-address", "nowhere", "--http-address"),
        ("--log.kind", "tape", "object"),
        ("--log.flush-interval", "6s", "5s"),
        ("--receive.name", "a b", "A-Z a-z"),
    ] {
        let error = parse_words(&["standalone", flag, value]).unwrap_err();
        assert!(error.contains(flag) && error.contains(value) && error.contains(allowed), "{error}");
    }
}

#[test]
fn the_label_of_a_replica_is_one_of_the_labels() {
    #[derive(Parser)]
    struct Receiver {
        #[command(flatten)]
        ingest: flags::IngestArgs,
        #[command(flatten)]
        query: flags::QueryArgs,
    }
    let parse = |words: &[&str]| Receiver::try_parse_from(["x"].iter().chain(words)).unwrap();
    let given = ["--label", "replica=\"a\"", "--label", "cluster=\"c\""];
    let good = parse(
        &[&given[..], &["--receive.replica-label", "replica", "--query.replica-label", "rack"]].concat(),
    );
    assert_eq!(good.ingest.external_labels("tenant_id").unwrap().get("replica"), Some("a"));
    let mut query = good.query;
    query.hide_too(&good.ingest.replica_labels);
    query.hide_too(&good.ingest.replica_labels);
    assert_eq!(query.replica_labels, ["rack", "replica"]);
    let bad = parse(&[&given[..], &["--receive.replica-label", "rack"]].concat());
    let refused = bad.ingest.external_labels("tenant_id").unwrap_err().message;
    assert!(refused.contains("rack") && refused.contains("--query.replica-label"), "{refused}");
}
