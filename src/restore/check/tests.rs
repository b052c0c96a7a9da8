//! What the offline check finds in a directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::archive::Target;
use crate::bucket::LogKind;
use crate::restore::tests::rig::{Rig, floats, series};
use crate::restore::{HeadMode, NoProgress, RestoreRequest};

async fn sound() -> (Rig, PathBuf) {
    let mut rig = Rig::new();
    let samples: Vec<(i64, f64)> = (0..300).map(|i| (i * 1_000, i as f64)).collect();
    rig.block(&[("a", &samples)], (0, 300_000), false).await;
    rig.base().await;
    rig.log(LogKind::Wal, &[series(&[(1, "a")]), floats(&[(1, 400_000, 1.0), (1, 401_000, 2.0)])]).await;
    rig.log(LogKind::Wbl, &[floats(&[(1, 350_000, 1.0)])]).await;
    let request =
        RestoreRequest { head: HeadMode::Wal, ..RestoreRequest::new(Target::AsOf(rig.now_ms), rig.to()) };
    rig.run(&request).await.unwrap();
    let to = rig.to();
    (rig, to)
}

async fn checked(rig: &Rig, dir: &Path) -> DirReport {
    let progress: Arc<dyn crate::restore::Progress> = Arc::new(NoProgress);
    check_dir(dir, &rig.context().cpu, 2, &progress).await.unwrap()
}

#[tokio::test]
async fn a_sound_directory_is_counted_and_has_no_findings() {
    let (rig, dir) = sound().await;
    let report = checked(&rig, &dir).await;
    assert_eq!((&report.findings[..], &report.remarks[..]), (&[][..], &[][..]));
    assert_eq!((report.blocks, report.series, report.samples), (1, 1, 300));
    assert_eq!((report.records, report.record_samples), (3, 3));
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_not_found() {
    let (rig, dir) = sound().await;
    let progress: Arc<dyn crate::restore::Progress> = Arc::new(NoProgress);
    let error = check_dir(&dir.join("nowhere"), &rig.context().cpu, 2, &progress).await.unwrap_err();
    assert_eq!(error.kind(), crate::model::ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn every_flipped_bit_of_every_file_is_found() {
    let (rig, dir) = sound().await;
    for path in crate::restore::tests::rig::tree(&dir).into_keys() {
        let file = dir.join(&path);
        let whole = std::fs::read(&file).unwrap();
        // The page ends of a log are long and all alike.
        for at in (0..whole.len().min(3_000)).step_by(if path.ends_with("index") { 7 } else { 3 }) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(&file, &bytes).unwrap();
            let report = checked(&rig, &dir).await;
            let spoilt_meta = path.ends_with("meta.json");
            assert!(!report.findings.is_empty() || spoilt_meta, "{} byte {at}", path.display());
        }
        std::fs::write(&file, &whole).unwrap();
    }
}

#[tokio::test]
async fn a_torn_end_is_a_remark_and_a_torn_middle_a_finding() {
    let (rig, dir) = sound().await;
    let segment = dir.join("wal/00000000");
    let bytes = std::fs::read(&segment).unwrap();
    std::fs::write(&segment, &bytes[..30]).unwrap();
    let report = checked(&rig, &dir).await;
    assert_eq!((report.findings.len(), report.remarks.len()), (0, 1));
    std::fs::write(dir.join("wal/00000001"), &bytes).unwrap();
    let report = checked(&rig, &dir).await;
    assert_eq!((report.findings.len(), report.remarks.len()), (1, 0));
    assert_eq!(
        (report.findings[0].file.as_str(), report.findings[0].offset.is_some()),
        ("wal/00000000", true)
    );
}

#[tokio::test]
async fn missing_files_and_numbers_are_found() {
    let (rig, dir) = sound().await;
    std::fs::rename(dir.join("wal/00000000"), dir.join("wal/00000002")).unwrap();
    assert_eq!(checked(&rig, &dir).await.findings[0].file, "wal/00000000");
    std::fs::create_dir(dir.join("wal/checkpoint.00000001")).unwrap();
    assert_eq!(checked(&rig, &dir).await.findings, []);
    let block = dir.join(rig.blocks[0].id.to_string());
    std::fs::remove_file(block.join("tombstones")).unwrap();
    assert_eq!(checked(&rig, &dir).await.remarks.len(), 1);
    std::fs::remove_file(block.join("meta.json")).unwrap();
    assert!(checked(&rig, &dir).await.findings[0].what.contains("passes over"));
    let empty = tempfile::tempdir().unwrap();
    let progress: Arc<dyn crate::restore::Progress> = Arc::new(NoProgress);
    let error = check_dir(empty.path(), &rig.context().cpu, 2, &progress).await.unwrap_err();
    assert_eq!(error.kind(), crate::model::ErrorKind::Invalid);
}

#[tokio::test]
async fn head_chunks_are_walked_and_never_count_as_damage() {
    let (rig, dir) = sound().await;
    std::fs::create_dir(dir.join("chunks_head")).unwrap();
    let mut bytes = vec![0x01, 0x30, 0xBC, 0x91, 1, 0, 0, 0];
    for series in 1..3_u64 {
        let start = bytes.len();
        bytes.extend(series.to_be_bytes());
        bytes.extend(1_000_i64.to_be_bytes());
        bytes.extend(2_000_i64.to_be_bytes());
        bytes.extend([1, 3, 7, 7, 7]);
        let crc = crc32c::crc32c(&bytes[start..]);
        bytes.extend(crc.to_be_bytes());
    }
    bytes.extend([0; 64]);
    let file = dir.join("chunks_head/000001");
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(checked(&rig, &dir).await.remarks, []);
    bytes[70] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let report = checked(&rig, &dir).await;
    assert_eq!((report.findings.len(), report.remarks.len()), (0, 1));
}
