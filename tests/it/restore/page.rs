//! The page that one opens in an incident: its commands work as pasted.

use std::path::Path;
use std::process::Command;

use super::scene::scene;
use crate::support::{SOURCE, TsdbServer, local_bucket_config, time_text};

/// Returns the lines of the page that begin with a prompt and call the program, without what starts services.
fn commands() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations/restore.md");
    let text = std::fs::read_to_string(page).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("$ "));
    lines.filter(|line| line.contains("perennial ") || line.contains('=')).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_page_work_as_pasted() {
    let Some(scene) = scene("the_commands_of_the_page_work_as_pasted").await else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bucket.yml");
    std::fs::write(&file, local_bucket_config(&scene.bucket())).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_perennial")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let target = folder.path().join("prometheus.new");
    let (mut script, mut run) = (String::from("set -eu\n"), 0);
    for line in commands() {
        let line = line
            .replace("/etc/perennial/bucket.yml", &file.display().to_string())
            .replace("S=prod-a", &format!("S={SOURCE}"))
            .replace("/var/lib/prometheus.new", &target.display().to_string());
        let line = if line.starts_with("T=") { format!("T={}", time_text(scene.window_ms.1)) } else { line };
        run += usize::from(line.contains("perennial restore"));
        script.push_str(&line);
        script.push('\n');
    }
    assert!(run >= 5, "the page shows status, find, plan, run and check:\n{script}");
    let output = Command::new("bash").args(["-c", &script]).env("PATH", path).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{script}\n{error}", output.status);
    assert!(TsdbServer::opened(&target).await.samples().await.samples() > 0);
}
