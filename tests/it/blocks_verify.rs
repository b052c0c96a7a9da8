//! `perennial blocks verify` on buckets that are well and on damaged ones.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Series, Setup, label_pairs};

const AT_MS: i64 = 1_704_095_400_000;

async fn with_blocks() -> (Setup, Vec<PathBuf>) {
    let setup = Setup::standalone().flags(&["--ingest.max-age=100y"]);
    let running = setup.start().await;
    for batch in 0..2 {
        let series: Vec<Series> = (0..20)
            .map(|number: i64| Series {
                labels: label_pairs(&[("__name__", "verified_total"), ("number", &number.to_string())]),
                samples: (0..100)
                    .map(|i| (AT_MS + batch * 100_000 + i * 1000, (number + i) as u64))
                    .collect(),
            })
            .collect();
        assert_eq!(setup.remote_write().send(&series).await.unwrap().status, 204);
        running.flush().await;
    }
    running.stop();
    let live: Value = serde_json::from_str(&setup.command(&["blocks", "ls", "--output=json"])).unwrap();
    let files = live.as_array().unwrap().iter().map(|block| {
        let id = block["id"].as_str().unwrap();
        let tenant = setup.bucket_dir().join("tenants/default-tenant/blocks");
        tenant.join(format!("{id}.parquet"))
    });
    let files: Vec<PathBuf> = files.collect();
    assert_eq!(files.len(), 2);
    (setup, files)
}

fn verify(setup: &Setup, flags: &[&str]) -> (i32, Value, String) {
    let words: Vec<&str> = ["blocks", "verify", "--output=json"].iter().chain(flags).copied().collect();
    let output = setup.output(&words);
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), report, String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_are_whole_pass() {
    let (setup, _) = with_blocks().await;
    for flags in [&[][..], &["--read-data"]] {
        let (code, report, log) = verify(&setup, flags);
        assert_eq!(code, 0, "{log}");
        assert_eq!((report["blocks"].as_u64(), report["samples"].as_u64()), (Some(2), Some(4_000)));
        assert_eq!(report["findings"], Value::Array(Vec::new()));
    }
    assert!(setup.command(&["blocks", "verify", "--read-data"]).contains("no damage"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damaged_object_is_named_and_the_exit_code_is_5() {
    let (setup, files) = with_blocks().await;
    let mut bytes = std::fs::read(&files[0]).unwrap();
    // Within the pages of the samples, which the footer does not show.
    let place = bytes.len() / 3;
    bytes[place] ^= 0x40;
    std::fs::write(&files[0], &bytes).unwrap();
    let (code, _, log) = verify(&setup, &[]);
    assert_eq!(code, 0, "sizes and footers are right: {log}");
    let (code, report, log) = verify(&setup, &["--read-data"]);
    let name = |file: &PathBuf| file.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(code, 5, "{log}");
    assert!(log.contains(&name(&files[0])) && !log.contains(&name(&files[1])), "{log}");
    assert!(report["findings"][0]["reason"].as_str().unwrap().contains("SHA-256"), "{report}");

    std::fs::remove_file(&files[1]).unwrap();
    let (code, report, log) = verify(&setup, &["--read-data"]);
    assert_eq!(code, 5, "{log}");
    assert!(files.iter().all(|file| log.contains(&name(file))), "{log}");
    assert!(report.to_string().contains("missing"), "{report}");

    std::fs::write(&files[1], b"short").unwrap();
    let (code, report, _) = verify(&setup, &[]);
    assert_eq!(code, 5);
    assert!(report["findings"][0]["reason"].as_str().unwrap().contains("5 bytes"), "{report}");
    let (code, _, log) = verify(&setup, &["--block=01M81CS08PS78Y0A1MAFVX1ZS4"]);
    assert_eq!(code, 3, "{log}");
}
