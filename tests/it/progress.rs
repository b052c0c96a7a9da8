//! Progress bars: on a terminal, of every command that may take long, with the time that is left; never elsewhere.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Series, Setup, installed, label_pairs, now_ms};

/// Data in blocks, and some that is still in the log.
async fn stored() -> Setup {
    let setup = Setup::standalone();
    let running = setup.start().await;
    for back_s in [7_200, 60] {
        let series: Vec<Series> = (0..50)
            .map(|number: u32| Series {
                labels: label_pairs(&[("__name__", "shown_total"), ("number", &number.to_string())]),
                samples: (0..60).map(|i| (now_ms() - back_s * 1_000 + i * 1_000, 7)).collect(),
            })
            .collect();
        assert_eq!(setup.remote_write().send(&series).await.unwrap().status, 204);
        if back_s > 60 {
            running.flush().await;
        }
    }
    // Without an orderly stop the newest samples stay in the log.
    running.kill();
    setup
}

fn commands(setup: &Setup, url: &str) -> Vec<Vec<String>> {
    let bucket = format!("--data-dir={}", setup.data_dir().display());
    let export = setup.folder().join("export");
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let to = export.to_str().unwrap();
    vec![
        words(&["blocks", "verify", &bucket]),
        words(&["blocks", "verify", "--read-data", &bucket]),
        words(&["log", "inspect", &bucket]),
        words(&["export", "tsdb", "--tenant=default-tenant", "--to", to, &bucket]),
        words(&["bench", "--series=100", "--duration=1s", "--rate=200", "--url", url]),
    ]
}

/// Runs a command with standard error on a terminal, and returns what was drawn there.
fn on_terminal(words: &[String], stdout: &Path) -> String {
    let program = env!("CARGO_BIN_EXE_perennial");
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let line = format!("{program} {} > '{}'", quoted.join(" "), stdout.display());
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env("TERM", "xterm")
        .env("COLUMNS", "200")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let drawn = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{line}: {drawn}");
    drawn
}

#[tokio::test(flavor = "multi_thread")]
async fn long_commands_show_the_time_left_on_a_terminal_and_nothing_to_programs() {
    if !installed("long_commands_show_the_time_left_on_a_terminal_and_nothing_to_programs", &["script"]) {
        return;
    }
    let setup = stored().await;
    let receiver = Setup::standalone();
    let running = receiver.start().await;
    for words in commands(&setup, &receiver.write_url()) {
        let printed = setup.folder().join("printed");
        let export = setup.folder().join("export");
        let drawn = on_terminal(&words, &printed);
        assert!(drawn.contains(" left"), "{words:?} drew {drawn:?}");
        assert!(!std::fs::read(&printed).unwrap().is_empty(), "{words:?} printed its answer");
        drop(std::fs::remove_dir_all(&export));

        let json = [&words[..], &["--output=json".to_owned()]].concat();
        let drawn = on_terminal(&json, &printed);
        assert!(!drawn.contains(" left"), "{json:?} drew {drawn:?}");
        let answer = std::fs::read(&printed).unwrap();
        serde_json::from_slice::<serde_json::Value>(&answer).unwrap_or_else(|e| panic!("{json:?}: {e}"));
        drop(std::fs::remove_dir_all(&export));

        let output = Command::new(env!("CARGO_BIN_EXE_perennial")).args(&words).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !error.contains(" left"), "{words:?}: {error}");
        drop(std::fs::remove_dir_all(&export));
    }
    running.stop();
}
