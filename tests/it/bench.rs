//! `perennial bench` against our own receiver: what it reports is what was stored.

use std::process::Command;

use serde_json::Value;

use crate::support::{Setup, free_port};

fn bench(url: &str, flags: &[&str]) -> (i32, Value, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_perennial"))
        .args(["bench", "--output=json", "--url", url])
        .args(flags)
        .output()
        .expect("the program starts");
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), report, String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_bench_reports_as_acknowledged_is_what_is_stored() {
    let setup = Setup::standalone();
    let running = setup.start().await;
    let mut acknowledged = 0;
    for (protocol, seed) in [("1.0", "1"), ("2.0", "2")] {
        // A pass a minute over the last half hour.
        let flags = ["--series=700", "--interval=1m", "--rate=max", "--back=30m", "--duration=1m"];
        let (code, report, log) = bench(
            &setup.write_url(),
            &[&flags[..], &["--protocol", protocol, "--seed", seed, "--samples-per-request=300"]].concat(),
        );
        assert_eq!(code, 0, "{log}");
        let samples = report["samples_acknowledged"].as_u64().unwrap();
        assert!((700 * 30..=700 * 32).contains(&samples), "{report}");
        assert_eq!(report["requests_failed"], 0, "{report}");
        assert_eq!(report["statuses"]["204"], report["requests_acknowledged"], "{report}");
        assert!(report["latency_p99_ms"].as_f64().unwrap() >= report["latency_p50_ms"].as_f64().unwrap());
        acknowledged += samples;
    }
    let stored = setup.store_api().await.all(0, i64::MAX / 2).await;
    assert_eq!(stored.samples() as u64, acknowledged, "two fleets, every sample once");
    running.stop();
}

#[test]
fn an_endpoint_that_takes_nothing_is_a_failure_with_the_reason() {
    let url = format!("http://127.0.0.1:{}/api/v1/write", free_port());
    let (code, report, log) = bench(&url, &["--series=10", "--rate=max", "--duration=300ms"]);
    assert_eq!(code, 6, "{log}");
    assert!(log.contains("not one sample was taken"), "{log}");
    assert!(report["requests_failed"].as_u64().unwrap() > 0, "{report}");
}
