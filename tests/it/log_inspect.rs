//! `perennial log inspect` on logs of both kinds, whole and damaged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Series, Setup, label_pairs};

const START_MS: i64 = 1_704_067_200_000;

fn setup(flags: &[&str]) -> Setup {
    Setup::standalone().flags(&["--ingest.max-age=100y"]).flags(flags)
}

async fn send(setup: &Setup, at: std::ops::Range<i64>) {
    for at in at {
        let series: Vec<Series> = (0..3)
            .map(|n| Series {
                labels: label_pairs(&[("__name__", "up"), ("n", &n.to_string())]),
                samples: vec![(START_MS + at * 1_000, 1)],
            })
            .collect();
        assert_eq!(setup.remote_write().send(&series).await.unwrap().status, 204);
    }
}

fn inspect(setup: &Setup) -> (i32, Value, String) {
    let output = setup.output(&["log", "inspect", "--output=json"]);
    let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), json, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for path in std::fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_log_is_counted_and_left_as_it_is() {
    let setup = setup(&[]);
    let (code, _, error) = inspect(&setup);
    assert_eq!(code, 3, "{error}");
    let perennial = setup.start().await;
    send(&setup, 0..4).await;
    perennial.flush().await;
    send(&setup, 4..10).await;
    perennial.kill();
    let log = setup.data_dir().join("log");
    let newest = files(&log).into_keys().filter(|p| p.extension().is_some_and(|e| e == "log")).max().unwrap();
    let whole = std::fs::read(&newest).unwrap();
    std::fs::write(&newest, [&whole[..], &[7; 33]].concat()).unwrap();
    let before = files(&setup.data_dir());
    let (code, json, error) = inspect(&setup);
    assert_eq!(code, 0, "{error}");
    let epoch = &json[0];
    assert_eq!((epoch["kind"].as_str(), epoch["torn_bytes"].as_u64()), (Some("disk"), Some(33)));
    let tenant = &epoch["tenants"]["default-tenant"];
    assert_eq!((tenant["samples"].as_u64(), tenant["series"].as_u64()), (Some(18), Some(3)));
    assert_eq!(tenant["covered_through"].as_u64(), Some(epoch["first_seq"].as_u64().unwrap() - 1));
    let table = setup.command(&["log", "inspect"]);
    assert!(table.contains("default-tenant") && table.contains("up to entry"), "{table}");
    assert_eq!(files(&setup.data_dir()), before, "nothing is mended");

    let mut damaged = whole.clone();
    let at = whole.len() / 2;
    damaged[at] ^= 1;
    std::fs::write(&newest, &damaged).unwrap();
    let before = files(&setup.data_dir());
    let (code, json, error) = inspect(&setup);
    assert_eq!(code, 5, "{error}");
    assert!(error.contains(newest.to_str().unwrap()), "{error}");
    assert!(!json[0]["damage"].as_array().unwrap().is_empty());
    assert_eq!(files(&setup.data_dir()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_log_is_counted_by_epoch_and_damage_is_named() {
    let setup = setup(&["--log.kind=object", "--log.flush-interval=0s", "--receive.name=one"]);
    let perennial = setup.start().await;
    send(&setup, 0..5).await;
    perennial.kill();
    let (code, json, error) = inspect(&setup);
    assert_eq!(code, 0, "{error}");
    let epoch = &json[0];
    assert_eq!((epoch["kind"].as_str(), epoch["receiver"].as_str()), (Some("object"), Some("one")));
    assert_eq!(epoch["state"], "open");
    assert_eq!(epoch["tenants"]["default-tenant"]["samples"].as_u64(), Some(15));
    assert_eq!(epoch["tenants"]["default-tenant"]["covered_through"].as_u64(), Some(0));

    let objects = files(&setup.bucket_dir().join("log"));
    let (second, bytes) = objects.iter().nth(1).unwrap();
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(second, damaged).unwrap();
    let (code, json, error) = inspect(&setup);
    assert_eq!(code, 5);
    let name = format!("log/{}/", epoch["epoch"].as_str().unwrap());
    assert!(
        error.contains(&name) && error.contains(second.file_name().unwrap().to_str().unwrap()),
        "{error}"
    );
    assert!(json[0]["entries"].as_u64() < epoch["entries"].as_u64());
    std::fs::write(second, bytes).unwrap();

    setup.start().await.stop();
    let (code, json, _) = inspect(&setup);
    assert_eq!(code, 0);
    let states: Vec<&str> = json.as_array().unwrap().iter().map(|e| e["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["released by one", "released by one"]);
    assert!(json.as_array().unwrap().iter().all(|epoch| epoch["entries"] == 0));
}
