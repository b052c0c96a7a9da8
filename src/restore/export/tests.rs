use std::fs;

use proptest::prelude::*;

use super::spans::plan_spans;
use super::target::Target;
use super::*;
use crate::model::{ErrorKind, RAW_WINDOW_MS};

const HOUR_MS: i64 = 3_600_000;

fn range(start_ms: i64, end_ms: i64) -> TimeRange {
    TimeRange { start_ms, end_ms }
}

#[test]
fn blocks_are_aligned_and_those_of_one_stored_row_are_written_together() {
    let day = range(0, 24 * HOUR_MS);
    let spans = plan_spans(TimeRange::ALL, 2 * HOUR_MS, &[day]);
    assert_eq!(spans.iter().map(|span| span.slots.len()).collect::<Vec<_>>(), [4, 4, 4]);
    let spans = plan_spans(TimeRange::ALL, 24 * HOUR_MS, &[day]);
    assert_eq!(spans[0].slots, [day]);
    let spans = plan_spans(range(HOUR_MS + 1, 3 * HOUR_MS), 2 * HOUR_MS, &[day]);
    assert_eq!(spans[0].slots, [range(HOUR_MS + 1, 2 * HOUR_MS), range(2 * HOUR_MS, 3 * HOUR_MS)]);
    assert!(plan_spans(TimeRange::ALL, HOUR_MS, &[]).is_empty());
    assert!(plan_spans(range(30 * HOUR_MS, 40 * HOUR_MS), HOUR_MS, &[day]).is_empty());
}

#[test]
fn years_without_data_cost_nothing() {
    let century = 100 * 365 * 24 * HOUR_MS;
    let spans =
        plan_spans(TimeRange::ALL, 60_000, &[range(-century, 1 - century), range(century, century + 1)]);
    assert_eq!(spans.iter().map(|span| span.slots.len()).sum::<usize>(), 2);
}

proptest! {
    #[test]
    fn every_millisecond_of_data_lies_in_exactly_one_slot(
        data in prop::collection::vec((-50i64..50, 1i64..30), 1..6),
        (from, length) in (-60i64..60, 1i64..120),
        block in 1i64..40,
    ) {
        // Quarters of hours for milliseconds, so that a row has 32.
        const UNIT_MS: i64 = RAW_WINDOW_MS / 32;
        let data: Vec<TimeRange> =
            data.iter().map(|(start, len)| range(start * UNIT_MS, (start + len) * UNIT_MS)).collect();
        let asked = range(from * UNIT_MS, (from + length) * UNIT_MS);
        let block_ms = block * UNIT_MS;
        let spans = plan_spans(asked, block_ms, &data);
        let slots: Vec<TimeRange> = spans.iter().flat_map(|span| span.slots.clone()).collect();
        prop_assert!(slots.windows(2).all(|pair| pair[0].end_ms <= pair[1].start_ms));
        for slot in &slots {
            prop_assert!(!slot.is_empty());
            prop_assert_eq!(slot.start_ms.div_euclid(block_ms), (slot.end_ms - 1).div_euclid(block_ms));
            prop_assert!(asked.start_ms <= slot.start_ms && slot.end_ms <= asked.end_ms);
        }
        for span in &spans {
            let row = TimeRange::raw_window(span.range.start_ms);
            prop_assert!(span.slots.iter().all(|slot| row.contains(slot.start_ms)));
            prop_assert_eq!(span.range.start_ms, span.slots[0].start_ms);
            prop_assert_eq!(span.range.end_ms, span.slots[span.slots.len() - 1].end_ms);
        }
        for time_ms in (-60..80).map(|n| n * UNIT_MS) {
            let wanted = asked.contains(time_ms) && data.iter().any(|d| d.contains(time_ms));
            let held = slots.iter().filter(|slot| slot.contains(time_ms)).count();
            prop_assert!(held <= 1 && (!wanted || held == 1), "{time_ms} of {data:?} in {asked:?}: {slots:?}");
        }
    }
}

#[test]
fn a_directory_that_holds_anything_is_refused_and_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("data");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("mine"), "x").unwrap();
    assert_eq!(Target::create(&place).unwrap_err().kind(), ErrorKind::Invalid);
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    assert_eq!(Target::create(&file).unwrap_err().kind(), ErrorKind::Invalid);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("elsewhere"), &link).unwrap();
    assert_eq!(Target::create(&link).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing was made");
}

#[test]
fn a_directory_appears_only_when_it_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("new/data");
    let target = Target::create(&place).unwrap();
    fs::write(target.folder().join("file"), "x").unwrap();
    assert!(!place.exists());
    assert_eq!(Target::create(&place).unwrap_err().kind(), ErrorKind::Locked);
    drop(target);
    assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 0, "what was begun is gone");

    let partial = folder.path().join("new/data.partial");
    fs::create_dir_all(partial.join("data/left")).unwrap();
    fs::write(partial.join("perennial-export"), "").unwrap();
    fs::create_dir_all(&place).unwrap();
    let target = Target::create(&place).unwrap();
    assert_eq!(fs::read_dir(target.folder()).unwrap().count(), 0, "what a crash left is gone");
    fs::write(target.folder().join("file"), "x").unwrap();
    target.finish().unwrap();
    assert_eq!(fs::read_to_string(place.join("file")).unwrap(), "x");
    assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 1);
}

#[test]
fn what_no_export_has_left_is_never_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let (place, partial) = (folder.path().join("data"), folder.path().join("data.partial"));
    let theirs = folder.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("file"), "x").unwrap();
    std::os::unix::fs::symlink(&theirs, &partial).unwrap();
    assert_eq!(Target::create(&place).unwrap_err().kind(), ErrorKind::Invalid);
    fs::write(theirs.join("perennial-export"), "").unwrap();
    assert_eq!(Target::create(&place).unwrap_err().kind(), ErrorKind::Invalid, "no link is followed");
    fs::remove_file(&partial).unwrap();
    fs::create_dir(&partial).unwrap();
    fs::write(partial.join("mine"), "x").unwrap();
    let error = Target::create(&place).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(theirs.join("file").exists() && partial.join("mine").exists() && !place.exists());
    fs::remove_file(partial.join("mine")).unwrap();
    drop(Target::create(&place).unwrap());
}

#[tokio::test]
async fn histograms_go_into_the_blocks_of_their_slots_beside_floats() {
    use std::sync::Arc;

    use super::slots::SlotWriter;
    use crate::model::{
        FloatHistogram, Histogram, HistogramSample, Labels, NativeHistogram, Sample, SeriesData, Ulid,
    };
    use crate::runtime::Cpu;
    use crate::select::{Grouping, SelectLimits, TsdbBlocks};

    let folder = tempfile::tempdir().unwrap();
    let native = |ts_ms: i64| {
        let count = ts_ms as u64;
        let whole = Histogram { count, zero_count: count, sum: -0.0, ..Histogram::default() };
        let fractional = FloatHistogram { count: 0.5, zero_count: 0.5, ..FloatHistogram::default() };
        let histogram = match ts_ms {
            1_500.. => NativeHistogram::Float(Box::new(fractional)),
            _ => NativeHistogram::Int(Box::new(whole)),
        };
        HistogramSample { ts_ms, start_ms: 5, histogram }
    };
    let data = SeriesData {
        samples: [10, 20, 1_010].map(|ts_ms| Sample::new(ts_ms, ts_ms as f64)).to_vec(),
        histograms: [15, 990, 1_200, 1_700].map(native).to_vec(),
    };
    let labels = Labels::from_pairs([("__name__", "mixed")]).unwrap();
    let batch = vec![(labels, data.clone())];
    let slots = [(range(0, 1_000), Ulid(1)), (range(1_000, 2_000), Ulid(2)), (range(2_000, 3_000), Ulid(3))];
    let mut writer = SlotWriter::new(folder.path(), slots);
    assert_eq!(writer.append(&batch).unwrap(), 7);
    let blocks = writer.finish().unwrap();
    assert_eq!(blocks.iter().map(|block| block.samples).collect::<Vec<_>>(), [4, 3], "no block is empty");

    let cpu = Cpu::start(1).unwrap();
    let tenant = TenantId::new("t").unwrap();
    let limits = SelectLimits::NONE;
    let opened = Arc::new(TsdbBlocks::open(folder.path()).unwrap());
    let selector = Selector::over_directory(opened, (tenant.clone(), Labels::empty()), cpu, limits);
    let all = |_: &Labels| Some(Vec::new());
    let found = selector.select(&tenant, TimeRange::ALL, &all, Grouping::Merged).await.unwrap();
    let read = &found[0].read(&[0]).await.unwrap()[0];
    assert_eq!(read.samples, data.samples);
    let content = |sample: &HistogramSample| (sample.ts_ms, sample.histogram.sum().to_bits());
    assert_eq!(
        read.histograms.iter().map(content).collect::<Vec<_>>(),
        data.histograms.iter().map(content).collect::<Vec<_>>()
    );
}
