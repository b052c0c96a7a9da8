//! The log in the bucket over a store in memory that fails by plan, and whose clock a test moves.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::ObjectStore;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::columns::{Declared, encode_group};
use super::super::frame::{FrameDecoder, FrameEncoder};
use super::format::decode_object;
use super::*;
use crate::bucket::tests::failing::{FailingStore, Fault};
use crate::bucket::{Bucket, ObjectKey};
use crate::log::tests::{floats, labels, sample};
use crate::log::{Log, LogError, LoggedExemplar, LoggedHistogram, LoggedSample, TenantWrite};
use crate::model::{
    ErrorKind, Exemplar, Histogram, HistogramSample, Labels, Metadata, MetadataEntry, MetricType,
    NativeHistogram, Sample, Span, TenantId, Ulid,
};
use crate::runtime::{Cpu, ManualClock, Random, random_from_seed};

const NOW_MS: i64 = 1_700_000_000_000;

struct World {
    store: Arc<FailingStore>,
    clock: Arc<ManualClock>,
    random: Random,
    cpu: Cpu,
}

impl World {
    fn new() -> Self {
        let clock = ManualClock::new(NOW_MS);
        let store = FailingStore::new(Arc::clone(&clock) as _);
        Self { store, clock, random: random_from_seed(7), cpu: Cpu::start(1).unwrap() }
    }

    fn bucket(&self) -> Bucket {
        Bucket::from_store(Arc::clone(&self.store) as Arc<dyn ObjectStore>)
    }

    fn open(&self, settings: ObjectLogSettings) -> Log {
        let sources = (Arc::clone(&self.clock) as _, self.random.clone());
        let external = Labels::from_pairs([("replica", "a")]).unwrap();
        let log = ObjectLog::open(self.bucket(), sources, "receiver-0", external, settings).unwrap();
        Log::Object(Box::new(log))
    }

    fn log(&self) -> Log {
        self.open(ObjectLogSettings::default())
    }

    fn others(&self, name: &str) -> DeadEpochs {
        DeadEpochs::new(self.bucket(), self.random.clone(), name.to_owned())
    }

    async fn newest(&self, epoch: Ulid) -> ObjectHeader {
        let mut others = self.others("looks");
        let sightings = others.look(None).await.unwrap();
        let sighting = sightings.into_iter().find(|s| s.epoch == epoch).unwrap();
        others.header(epoch, sighting.seq).await.unwrap()
    }

    async fn read(&self, epoch: Ulid, seqs: std::ops::Range<u64>) -> Result<Vec<ReadObject>, LogError> {
        let mut reader = EpochReader::new(self.bucket(), self.cpu.clone(), epoch, seqs);
        let mut all = Vec::new();
        while let Some(read) = reader.next().await {
            all.push(read?);
        }
        Ok(all)
    }

    async fn times(&self, epoch: Ulid, seqs: std::ops::Range<u64>) -> Vec<i64> {
        let read = self.read(epoch, seqs).await.unwrap();
        let tenants = read.into_iter().flat_map(|read| read.entry.tenants);
        tenants.flat_map(|tenant| tenant.samples).map(|s| s.sample.ts_ms).collect()
    }

    async fn keys(&self) -> Vec<String> {
        let listed = self.bucket().list("log").await.unwrap();
        listed.into_iter().map(|object| object.key).collect()
    }

    /// Lets the next create fail for good; its object may arrive later.
    fn fail_next_create(&self, fault: Fault) {
        self.store.plan_puts(&[fault; 6]);
    }
}

async fn append(log: &mut Log, samples: &[LoggedSample]) -> Result<u64, LogError> {
    let tenant = TenantId::new("team-a").unwrap();
    let appended = log.append(&[floats(&tenant, samples, &labels)]);
    appended.await
}

async fn append_one(log: &mut Log, ts_ms: i64) -> Result<u64, LogError> {
    append(log, &[sample(0, ts_ms, 1.0)]).await
}

#[tokio::test]
async fn entries_come_back_over_generations_in_their_order() {
    let world = World::new();
    let mut log = world.log();
    for ts_ms in 0..9 {
        if ts_ms % 4 == 2 {
            log.start_segment();
        }
        assert_eq!(
            append(&mut log, &[sample(ts_ms as u32 % 3, ts_ms, 0.5)]).await.unwrap(),
            ts_ms as u64 + 1
        );
    }
    let read = world.read(log.epoch(), 1..10).await.unwrap();
    let generations: Vec<u64> = read.iter().map(|r| r.header.generation).collect();
    assert_eq!(generations, [1, 1, 3, 3, 3, 3, 7, 7, 7]);
    assert!(read.iter().all(|r| r.header.receiver == "receiver-0" && !r.header.external_labels.is_empty()));
    assert_eq!(world.times(log.epoch(), 3..10).await, [2, 3, 4, 5, 6, 7, 8], "a generation stands alone");
    let error = world.read(log.epoch(), 4..10).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "a generation without its beginning is not guessed at");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn whatever_puts_do_all_that_was_acknowledged_comes_back_in_order(
        steps in prop::collection::vec((0usize..6, prop::collection::vec((0u32..6, any::<u64>()), 0..20)), 1..25),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let (mut log, mut acknowledged, mut sent) = (world.log(), Vec::new(), 0i64);
            for (fault, samples) in steps {
                match fault {
                    0 => world.fail_next_create(Fault::Late),
                    1 => world.store.plan_puts(&[Fault::ReplyLost]),
                    2 => world.store.plan_puts(&[Fault::Lost, Fault::FalseConflict]),
                    3 => world.store.land_late_puts().await,
                    4 => log.start_segment(),
                    _ => {}
                }
                let samples: Vec<_> = samples.iter().map(|(series, bits)| {
                    sent += 1;
                    sample(*series, sent, f64::from_bits(*bits))
                }).collect();
                if append(&mut log, &samples).await.is_ok() {
                    acknowledged.extend(samples.iter().map(|s| (labels(s.series), s.sample.ts_ms, s.sample.value.to_bits())));
                }
                // What was planned and not met must not meet a later step.
                while log.beat().await.is_err() {}
            }
            let mut found = Vec::new();
            let mut declared: BTreeMap<u32, Labels> = BTreeMap::new();
            let last = log.last_seq();
            for read in world.read(log.epoch(), 1..last + 1).await.unwrap() {
                for tenant in read.entry.tenants {
                    declared.extend(tenant.declared);
                    found.extend(tenant.samples.iter().map(|s| {
                        (declared[&s.series].clone(), s.sample.ts_ms, s.sample.value.to_bits())
                    }));
                }
            }
            let times: Vec<i64> = found.iter().map(|f| f.1).collect();
            assert!(times.is_sorted(), "{times:?}");
            found.retain(|f| acknowledged.contains(f));
            assert_eq!(found, acknowledged);
        });
    }
}

#[tokio::test]
async fn an_entry_that_lands_late_keeps_its_number_and_the_next_one_declares_its_series() {
    let world = World::new();
    let mut log = world.log();
    append_one(&mut log, 1).await.unwrap();
    world.fail_next_create(Fault::Late);
    let error = append(&mut log, &[sample(9, 2, 1.0)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    world.store.land_late_puts().await;
    assert_eq!(append(&mut log, &[sample(9, 3, 1.0)]).await.unwrap(), 3);
    assert_eq!(world.times(log.epoch(), 1..4).await, [1, 2, 3]);
    assert_eq!(log.take_ended(), [], "a late put is no reason for a new epoch");
}

#[tokio::test]
async fn an_entry_that_lands_late_behind_a_cut_outlives_the_generation_it_belongs_to() {
    let world = World::new();
    let mut log = world.log();
    append_one(&mut log, 1).await.unwrap();
    append_one(&mut log, 2).await.unwrap();
    world.fail_next_create(Fault::Late);
    append_one(&mut log, 3).await.unwrap_err();
    world.store.land_late_puts().await;
    log.start_segment();
    let epoch = log.epoch();
    let gone = log.release(epoch, 2).await.unwrap().unwrap();
    assert_eq!(gone, 1..=2);
    delete_entries(&world.bucket(), epoch, gone).await.unwrap();
    append_one(&mut log, 4).await.unwrap();
    let seal = world.others("b").seal(world.newest(epoch).await).await.unwrap().unwrap();
    assert_eq!((seal.released, seal.seq), (2, 6));
    let read = world.read(epoch, seal.released + 1..seal.seq).await.unwrap();
    assert_eq!((read[0].header.seq, read[0].header.generation), (3, 1));
    assert!(read[0].entry.tenants.is_empty(), "nobody was answered for it");
    assert_eq!(world.times(epoch, seal.released + 1..seal.seq).await, [4]);
}

#[tokio::test]
async fn a_put_that_lands_after_another_took_its_number_changes_nothing() {
    let world = World::new();
    let mut log = world.log();
    world.fail_next_create(Fault::Late);
    append_one(&mut log, 1).await.unwrap_err();
    assert_eq!(append_one(&mut log, 2).await.unwrap(), 1);
    world.store.land_late_puts().await;
    assert_eq!(append_one(&mut log, 3).await.unwrap(), 2);
    assert_eq!(world.times(log.epoch(), 1..3).await, [2, 3]);
}

#[tokio::test]
async fn a_zombie_meets_the_seal_and_goes_on_in_a_new_epoch() {
    let world = World::new();
    let mut log = world.log();
    append_one(&mut log, 1).await.unwrap();
    append_one(&mut log, 2).await.unwrap();
    let old = log.epoch();
    let seal = world.others("receiver-1").seal(world.newest(old).await).await.unwrap().unwrap();
    assert_eq!((seal.seq, seal.by.as_str(), seal.receiver.as_str()), (3, "receiver-1", "receiver-0"));
    let error = append_one(&mut log, 3).await.unwrap_err();
    assert!(
        matches!(&error, LogError::Sealed { epoch, by } if *epoch == old && by == "receiver-1"),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::Unavailable, "senders must send again");
    assert_eq!(log.take_ended(), [EndedEpoch { epoch: old, last_seq: 2 }]);
    assert_ne!(log.epoch(), old);
    assert_eq!(append_one(&mut log, 3).await.unwrap(), 1);
    assert_eq!(world.times(log.epoch(), 1..2).await, [3]);
    assert_eq!(world.times(old, 1..3).await, [1, 2]);
}

#[tokio::test]
async fn of_two_sealers_one_wins_and_both_know() {
    let world = World::new();
    let mut log = world.log();
    append_one(&mut log, 1).await.unwrap();
    let newest = world.newest(log.epoch()).await;
    let (a, b) = (world.others("a"), world.others("b"));
    let (a, b) = tokio::join!(a.seal(newest.clone()), b.seal(newest));
    assert_eq!(a.unwrap(), b.unwrap());
    assert_eq!(world.keys().await.len(), 2);
}

#[tokio::test]
async fn a_seal_goes_behind_entries_that_no_listing_showed_and_one_that_lands_late() {
    let world = World::new();
    let mut log = world.log();
    append_one(&mut log, 1).await.unwrap();
    let stale = world.newest(log.epoch()).await;
    for ts_ms in 2..5 {
        append_one(&mut log, ts_ms).await.unwrap();
    }
    world.fail_next_create(Fault::Late);
    append_one(&mut log, 5).await.unwrap_err();
    world.store.land_late_puts().await;
    let seal = world.others("b").seal(stale).await.unwrap().unwrap();
    assert_eq!(seal.seq, 6);
    assert_eq!(world.times(seal.epoch, 1..seal.seq).await, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_seal_that_lands_where_the_writer_had_been_ends_nothing() {
    for written in [3, 4, 9] {
        let world = World::new();
        let mut log = world.log();
        append_one(&mut log, 1).await.unwrap();
        append_one(&mut log, 2).await.unwrap();
        let stale = world.newest(log.epoch()).await;
        for ts_ms in 3..=written {
            append_one(&mut log, ts_ms).await.unwrap();
        }
        // Blocks hold all but the last entry, and those are deleted; the sealer still goes by the second.
        log.start_segment();
        append_one(&mut log, written + 1).await.unwrap();
        let gone = log.release(log.epoch(), written.cast_unsigned()).await.unwrap().unwrap();
        delete_entries(&world.bucket(), log.epoch(), gone).await.unwrap();
        assert_eq!(world.others("b").seal(stale).await.unwrap(), None, "{written}");
        append_one(&mut log, written + 2).await.unwrap();
        let seal = world.others("b").seal(world.newest(log.epoch()).await).await.unwrap().unwrap();
        let times = world.times(log.epoch(), seal.released + 1..seal.seq).await;
        assert_eq!(times, [written + 1, written + 2], "{written}");
        assert!(!world.keys().await.iter().any(|key| key.ends_with(&format!("{:020}", 3))), "{written}");
    }
}

#[tokio::test]
async fn a_seal_whose_reply_is_lost_is_still_ours() {
    let world = World::new();
    let mut log = world.log();
    append_one(&mut log, 1).await.unwrap();
    let newest = world.newest(log.epoch()).await;
    world.store.plan_puts(&[Fault::ReplyLost]);
    let seal = world.others("b").seal(newest).await.unwrap().unwrap();
    assert_eq!((seal.seq, seal.by.as_str()), (2, "b"));
}

#[tokio::test]
async fn a_writer_that_was_silent_for_long_or_stored_too_late_begins_a_new_epoch() {
    let world = World::new();
    let mut log = world.log();
    append_one(&mut log, 1).await.unwrap();
    let first = log.epoch();
    world.clock.advance_ms(299_000);
    append_one(&mut log, 2).await.unwrap();
    world.clock.advance_ms(301_000);
    assert!(matches!(append_one(&mut log, 3).await, Err(LogError::Silent { epoch, .. }) if epoch == first));
    assert_eq!(log.take_ended(), [EndedEpoch { epoch: first, last_seq: 2 }]);
    append_one(&mut log, 3).await.unwrap();
    let mut late = world.open(ObjectLogSettings { landing_ms_max: -1, ..ObjectLogSettings::default() });
    assert!(matches!(append_one(&mut late, 4).await, Err(LogError::Silent { .. })));
    assert_eq!(late.take_ended()[0].last_seq, 0, "what came too late counts as not stored");
}

#[tokio::test]
async fn what_is_released_is_said_in_an_entry_before_it_may_go() {
    let world = World::new();
    let mut log = world.log();
    for ts_ms in 0..4 {
        append_one(&mut log, ts_ms).await.unwrap();
    }
    log.start_segment();
    append_one(&mut log, 4).await.unwrap();
    let epoch = log.epoch();
    assert_eq!(log.release(Ulid(1), 4).await.unwrap(), None, "not of this epoch");
    let gone = log.release(epoch, 4).await.unwrap().unwrap();
    assert_eq!(gone, 1..=4);
    assert_eq!(world.newest(epoch).await.released, 4);
    assert_eq!(log.release(epoch, 4).await.unwrap(), None);
    delete_entries(&world.bucket(), epoch, gone).await.unwrap();
    let seal = world.others("b").seal(world.newest(epoch).await).await.unwrap().unwrap();
    assert_eq!((seal.released, seal.seq), (4, 7));
    assert_eq!(world.times(epoch, seal.released + 1..seal.seq).await, [4]);
}

#[tokio::test]
async fn a_missing_or_damaged_entry_is_named() {
    let world = World::new();
    let mut log = world.log();
    for ts_ms in 0..3 {
        append_one(&mut log, ts_ms).await.unwrap();
    }
    let key = ObjectKey::LogEntry { epoch: log.epoch(), seq: 2 };
    let bytes = world.bucket().get(&key).await.unwrap();
    let mut damaged = bytes.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    world.bucket().put(&key, damaged.into()).await.unwrap();
    let error = world.read(log.epoch(), 1..4).await.unwrap_err();
    assert!(matches!(error, LogError::ObjectDamaged { .. }) && error.to_string().contains(&key.to_string()));
    let other = ObjectKey::LogEntry { epoch: log.epoch(), seq: 1 };
    let first = world.bucket().get(&other).await.unwrap();
    world.bucket().put(&key, first).await.unwrap();
    let error = world.read(log.epoch(), 1..4).await.unwrap_err();
    assert!(error.to_string().contains("belongs to another entry"), "{error}");
    world.bucket().delete(&key).await.unwrap();
    let error = world.read(log.epoch(), 1..4).await.unwrap_err();
    assert!(matches!(error, LogError::ObjectMissing { .. }) && error.to_string().contains(&key.to_string()));
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_closed_log_leaves_seal_and_mark_for_a_day_and_then_nothing() {
    let world = World::new();
    let mut log = world.log();
    append_one(&mut log, 1).await.unwrap();
    log.close().await.unwrap();
    assert_eq!(world.keys().await.len(), 1, "what blocks do not hold is not closed");
    let epoch = log.epoch();
    let gone = log.release(epoch, 1).await.unwrap().unwrap();
    delete_entries(&world.bucket(), epoch, gone).await.unwrap();
    log.beat().await.unwrap();
    log.close().await.unwrap();
    assert_eq!(world.keys().await.len(), 2, "no heartbeat waits for somebody to look");
    let mut others = world.others("b");
    for (after_ms, expected, left) in [(61_000, Verdict::Sweep, 2), (86_340_000, Verdict::Remove, 0)] {
        world.clock.advance_ms(after_ms);
        others.look(None).await.unwrap();
        let now_ms = others.store_now_ms().await.unwrap();
        assert_eq!(now_ms, crate::runtime::Clock::now_ms(world.clock.as_ref()));
        let (of, judged) = others.judge(now_ms, false).await.pop().unwrap();
        let Judged { verdict, newest } = judged.unwrap();
        assert_eq!(of, epoch);
        assert_eq!(verdict, expected);
        match verdict {
            Verdict::Sweep => others.sweep(epoch, newest.seq - 1).await.unwrap(),
            _ => others.remove(epoch, newest.seq).await.unwrap(),
        }
        assert_eq!(world.keys().await.len(), left);
    }
    assert!(others.look(None).await.unwrap().is_empty());
}

#[test]
fn the_age_of_the_newest_object_and_whose_it_is_decide() {
    let header = |kind, receiver: &str, by: &str| ObjectHeader {
        kind,
        epoch: Ulid(1),
        seq: 2,
        generation: 2,
        released: 0,
        nonce: 0,
        receiver: receiver.to_owned(),
        by: by.to_owned(),
        external_labels: Labels::empty(),
    };
    let entry = header(ObjectKind::Entry, "a", "a");
    let sealed = header(ObjectKind::Seal, "a", "b");
    let released = header(ObjectKind::Released, "a", "b");
    for (newest, age_ms, name, ours, expected) in [
        (&entry, 60_000, "b", false, Verdict::Leave),
        (&entry, 60_001, "b", false, Verdict::Recover),
        (&entry, 0, "a", false, Verdict::Leave),
        (&entry, 0, "a", true, Verdict::Recover),
        (&entry, 0, "b", true, Verdict::Leave),
        (&sealed, 120_000, "a", false, Verdict::Leave),
        (&sealed, 120_001, "c", false, Verdict::Recover),
        (&sealed, 0, "b", true, Verdict::Recover),
        (&sealed, 0, "a", true, Verdict::Recover),
        (&sealed, 0, "c", true, Verdict::Leave),
        (&released, 86_400_000, "a", true, Verdict::Sweep),
        (&released, 86_400_001, "a", false, Verdict::Remove),
    ] {
        assert_eq!(Verdict::of(newest, age_ms, name, ours), expected, "{newest:?} {age_ms} {name} {ours}");
    }
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/log").join(name)
}

fn example() -> Vec<u8> {
    let (tenant, mut body) = (TenantId::new("team-a").unwrap(), Vec::new());
    let samples = [
        sample(3, NOW_MS, 0.1),
        sample(3, NOW_MS + 1_000, -0.0),
        LoggedSample { series: 70_000, sample: Sample { ts_ms: NOW_MS, value: 5.0, start_ms: NOW_MS - 7 } },
    ];
    let histogram = Histogram {
        count: 2,
        positive_spans: vec![Span { offset: 0, length: 1 }],
        positive_buckets: vec![2],
        ..Histogram::default()
    };
    let histogram = NativeHistogram::Int(Box::new(histogram));
    let histograms =
        [LoggedHistogram { series: 4, sample: HistogramSample { ts_ms: NOW_MS, start_ms: 1, histogram } }];
    let exemplar =
        Exemplar { labels: Labels::from_pairs([("trace_id", "x")]).unwrap(), value: 0.5, ts_ms: NOW_MS };
    let metadata = Metadata { kind: MetricType::Counter, help: "h".to_owned(), unit: "s".to_owned() };
    let write = TenantWrite {
        histograms: &histograms,
        exemplars: &[LoggedExemplar { series: 3, exemplar }],
        metadata: &[MetadataEntry { family: "up".to_owned(), since_ms: NOW_MS, metadata }],
        ..floats(&tenant, &samples, &labels)
    };
    let left = encode_group(&write, &mut Declared::default(), 1 << 20, &mut body).unwrap();
    assert!(left.is_empty());
    let header = ObjectHeader {
        kind: ObjectKind::Entry,
        epoch: Ulid::from_parts(NOW_MS as u64, 7),
        seq: 12,
        generation: 12,
        released: 11,
        nonce: 0x0123_4567_89AB_CDEF,
        receiver: "receiver-0".to_owned(),
        by: "receiver-0".to_owned(),
        external_labels: Labels::from_pairs([("replica", "a")]).unwrap(),
    };
    header.encode_entry(&body, &mut FrameEncoder::new().unwrap()).unwrap().to_vec()
}

fn as_json(bytes: &[u8]) -> Value {
    let object = decode_object(bytes).unwrap();
    let entry = object.entry(bytes, &mut FrameDecoder::new().unwrap(), &mut Declared::default()).unwrap();
    let header = &object.header;
    let sample = |s: &LoggedSample| {
        let bits = format!("{:016x}", s.sample.value.to_bits());
        json!({"series": s.series, "ts_ms": s.sample.ts_ms, "value_bits": bits, "start_ms": s.sample.start_ms})
    };
    json!({
        "kind": format!("{:?}", header.kind), "epoch": header.epoch.to_string(), "seq": header.seq,
        "generation": header.generation, "released": header.released, "nonce": header.nonce,
        "receiver": header.receiver, "by": header.by, "external_labels": header.external_labels.to_string(),
        "tenants": entry.tenants.iter().map(|t| json!({
            "tenant": t.tenant.as_str(),
            "declared": t.declared.iter().map(|(n, l)| json!([n, l.to_string()])).collect::<Vec<_>>(),
            "samples": t.samples.iter().map(sample).collect::<Vec<_>>(),
            "histograms": t.histograms.iter().map(|h| format!("{h:?}")).collect::<Vec<_>>(),
            "exemplars": t.exemplars.iter().map(|e| format!("{e:?}")).collect::<Vec<_>>(),
            "metadata": t.metadata.iter().map(|m| format!("{m:?}")).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}

#[test]
fn version_1_of_an_object_reads_as_it_was_written() {
    let written = example();
    if std::env::var_os("PERENNIAL_BLESS").is_some() {
        fs::write(fixture("object-v1"), &written).unwrap();
        let text = serde_json::to_string_pretty(&as_json(&written)).unwrap();
        fs::write(fixture("object-v1.expected.json"), text + "\n").unwrap();
    }
    let kept = fs::read(fixture("object-v1")).unwrap();
    let expected = fs::read(fixture("object-v1.expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    assert_eq!(as_json(&kept), expected, "version 1 no longer reads as it did");
    assert_eq!(as_json(&written), expected, "the writer no longer writes what version 1 holds");
    let mut newer = kept;
    newer[8] = 2;
    let error = decode_object(&newer).unwrap_err().of_object(&ObjectKey::LogEntry { epoch: Ulid(1), seq: 1 });
    assert_eq!(error.kind(), ErrorKind::Unsupported, "a later version is told from damage");
}

#[test]
fn the_decoder_of_objects_survives_mutations() {
    let random = random_from_seed(20_261_123);
    let original = example();
    for _ in 0..20_000 {
        let mut bytes = original.clone();
        for _ in 0..=random.next_u64() % 4 {
            let at = random.next_u64() as usize % bytes.len();
            match random.next_u64() % 4 {
                0 => bytes[at] ^= 1 << (random.next_u64() % 8),
                1 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][random.next_u64() as usize % 5],
                2 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, random.next_u64() as u8),
            }
        }
        fuzz_log_object(&bytes);
    }
    fuzz_log_object(&[]);
}
