//! Restored directories in the eyes of the real `promtool`, where it is installed.

use std::path::Path;
use std::process::Command;

use rig::{Rig, floats, series};

use super::rig;
use crate::archive::Target;
use crate::bucket::LogKind;
use crate::restore::*;

fn dump(dir: &Path) -> Option<Vec<String>> {
    // Older versions write into the directory that they read.
    let copy = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-r").arg(dir).arg(copy.path().join("data")).status().unwrap();
    assert!(copied.success());
    let output =
        Command::new("promtool").args(["tsdb", "dump"]).arg(copy.path().join("data")).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut lines: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    Some(lines)
}

#[tokio::test]
async fn promtool_reads_the_same_samples_whether_the_head_is_a_log_or_blocks() {
    let mut rig = Rig::new();
    let samples: Vec<(i64, f64)> = (0..200).map(|i| (i * 1_000, i as f64 / 3.0)).collect();
    rig.block(&[("a", &samples), ("b", &samples)], (0, 200_000), false).await;
    rig.base().await;
    rig.log(LogKind::Wal, &[series(&[(1, "a"), (2, "b"), (3, "c")])]).await;
    for i in 0..120 {
        let ts_ms = 150_000 + i * 5_000;
        let rows = [(1, ts_ms, f64::NAN), (2, ts_ms, i as f64), (3, ts_ms - 40_000 * (i % 3), 1e300)];
        rig.log(LogKind::Wal, &[floats(&rows)]).await;
    }
    let mut dumps = Vec::new();
    for head in [HeadMode::Wal, HeadMode::Blocks, HeadMode::BlocksOnly] {
        let to = rig.dir.path().join(format!("{head:?}"));
        let request = RestoreRequest { head, ..RestoreRequest::new(Target::AsOf(rig.now_ms), &to) };
        rig.run(&request).await.unwrap();
        let Some(lines) = dump(&to) else {
            eprintln!("SKIPPED: promtool is not installed");
            return;
        };
        dumps.push(lines);
    }
    assert!(dumps[0].len() > 500, "{}", dumps[0].len());
    assert_eq!(dumps[0], dumps[1]);
    assert_eq!(dumps[0], dumps[2]);
}
