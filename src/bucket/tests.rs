pub(crate) mod failing;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::prefix::PrefixStore;

use super::attempts::{BUDGET, Patience};
use super::config::Backend;
use super::hedge::HedgeSettings;
use super::s3::ServerSideEncryption;
use super::*;
use crate::model::{ErrorKind, TenantId, Ulid};
use crate::runtime::{ManualClock, Metrics, random_from_seed};
use failing::{FailingStore, Fault, ReadFault};

fn tenant() -> TenantId {
    TenantId::new("team-a").unwrap()
}

fn block_key(n: u128) -> ObjectKey {
    ObjectKey::block(&tenant(), Ulid(n))
}

fn failing_bucket() -> (Arc<FailingStore>, Bucket) {
    let store = FailingStore::new(ManualClock::new(1_000));
    let bucket = Bucket::from_store(Arc::clone(&store) as Arc<dyn ObjectStore>);
    (store, bucket)
}

#[test]
fn keys_read_back_as_they_are_printed() {
    let keys = [
        ObjectKey::catalog_version(&tenant(), 0),
        ObjectKey::catalog_version(&tenant(), u64::MAX),
        ObjectKey::catalog_latest(&tenant()),
        ObjectKey::catalog_part(&tenant(), Ulid(7)),
        block_key(u128::MAX),
        ObjectKey::LogEntry { epoch: Ulid(3), seq: u64::MAX },
        ObjectKey::Probe { id: Ulid(9) },
    ];
    for key in keys {
        assert_eq!(ObjectKey::parse(&key.to_string()), Some(key));
    }
    let pinned = "tenants/team-a/catalog/00000000000000000012";
    assert_eq!(ObjectKey::catalog_version(&tenant(), 12).to_string(), pinned);
    assert_eq!(block_key(1).to_string(), "tenants/team-a/blocks/00000000000000000000000001.parquet");
    let entry = ObjectKey::LogEntry { epoch: Ulid(1), seq: 7 };
    assert_eq!(entry.to_string(), "log/00000000000000000000000001/00000000000000000007");
}

#[test]
fn foreign_names_are_no_keys() {
    let foreign = [
        "",
        "/tenants/a/catalog/latest",
        "tenants/../catalog/latest",
        "tenants/.a/catalog/latest",
        "tenants/a/catalog/12",
        "tenants/a/catalog/0000000000000000001x",
        "tenants/a/catalog/99999999999999999999",
        "tenants/a/catalog/+0000000000000000012",
        "tenants/a/blocks/00000000000000000000000001",
        "tenants/a/blocks/0000000000000000000000000l.parquet",
        "tenants/a/blocks/x.parquet",
        "tenants/a/blocks/../00000000000000000000000001.parquet",
        "probes/x",
        "log/00000000000000000000000001/7",
        "log/00000000000000000000000001",
        "log/x/00000000000000000007",
    ];
    for name in foreign {
        assert_eq!(ObjectKey::parse(name), None, "{name}");
    }
}

#[tokio::test]
async fn folders_outside_are_not_listed() {
    let bucket = Bucket::from_store(Arc::new(InMemory::new()));
    for folder in ["/", "/tenants", "tenants/../..", "tenants//a", "."] {
        assert_eq!(bucket.list(folder).await.unwrap_err().kind(), ErrorKind::Invalid, "{folder}");
    }
}

#[tokio::test]
async fn a_create_is_verified_whatever_the_store_answers() {
    let unclear = [Fault::ReplyLost, Fault::Lost, Fault::FalseConflict, Fault::Late];
    for (n, fault) in unclear.into_iter().enumerate() {
        let (store, bucket) = failing_bucket();
        store.plan_puts(&[fault]);
        let key = block_key(n as u128);
        assert_eq!(bucket.create(&key, Bytes::from("mine")).await.unwrap(), Created::Stored, "{fault:?}");
        store.land_late_puts().await;
        assert_eq!(bucket.get(&key).await.unwrap(), "mine");
    }
}

#[tokio::test]
async fn an_object_of_somebody_else_is_a_conflict_with_its_bytes() {
    let (store, bucket) = failing_bucket();
    bucket.create(&block_key(1), Bytes::from("theirs")).await.unwrap();
    for fault in [Fault::None, Fault::Lost, Fault::FalseConflict] {
        store.plan_puts(&[fault]);
        let created = bucket.create(&block_key(1), Bytes::from("mine")).await.unwrap();
        assert_eq!(created, Created::Conflict(Bytes::from("theirs")));
    }
}

#[tokio::test]
async fn a_create_that_never_lands_ends_with_the_stores_reason() {
    let (store, bucket) = failing_bucket();
    store.plan_puts(&[Fault::Lost; 10]);
    let error = bucket.create(&block_key(1), Bytes::from("mine")).await.unwrap_err();
    assert!(matches!(error, BucketError::Unverified { attempts: 6, .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_bucket_that_does_not_exist_is_told_at_once() {
    let (store, bucket) = failing_bucket();
    store.plan_puts(&[Fault::NoBucket]);
    let error = bucket.create(&block_key(1), Bytes::from("mine")).await.unwrap_err();
    assert!(matches!(error, BucketError::Store { operation: "create", .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn the_probe_passes_a_store_with_a_working_condition_and_cleans_up() {
    let (store, bucket) = failing_bucket();
    bucket.probe_conditional_create(&random_from_seed(1)).await.unwrap();
    assert!(bucket.list("probes").await.unwrap().is_empty());
    let folder = tempfile::tempdir().unwrap();
    let local = Bucket::open(&BucketConfig::filesystem(folder.path()), &Metrics::new()).unwrap();
    local.probe_conditional_create(&random_from_seed(1)).await.unwrap();
    assert!(local.list("probes").await.unwrap().is_empty());
    store.plan_puts(&[Fault::None, Fault::ConditionIgnored]);
    let error = bucket.probe_conditional_create(&random_from_seed(2)).await.unwrap_err();
    assert!(matches!(error, BucketError::NoConditionalCreate { .. }), "{error:?}");
    assert!(bucket.list("probes").await.unwrap().is_empty());
}

#[tokio::test]
async fn the_probe_removes_those_that_earlier_processes_left_for_more_than_a_day() {
    let clock = ManualClock::new(1_000);
    let store = FailingStore::new(Arc::clone(&clock) as _);
    let bucket = Bucket::from_store(store as Arc<dyn ObjectStore>);
    let [old, young] = [1, 2].map(|id| ObjectKey::Probe { id: Ulid(id) });
    bucket.put(&old, Bytes::from("left")).await.unwrap();
    clock.advance_ms(1);
    bucket.put(&young, Bytes::from("left")).await.unwrap();
    clock.advance_ms(86_400_000);
    bucket.probe_conditional_create(&random_from_seed(1)).await.unwrap();
    let left: Vec<String> = bucket.list("probes").await.unwrap().into_iter().map(|probe| probe.key).collect();
    assert_eq!(left, [young.to_string()], "its process may still use it");
}

#[tokio::test]
async fn a_file_is_stored_once_in_one_piece_or_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let local =
        Bucket::open(&BucketConfig::filesystem(folder.path().join("bucket")), &Metrics::new()).unwrap();
    let memory = Bucket::from_store(Arc::new(InMemory::new()));
    let file = folder.path().join("block.parquet");
    let content: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    for mut bucket in [local, memory] {
        for (n, part_bytes) in [(1, 1 << 20), (2, 64 << 10), (3, 100_000)] {
            bucket.part_bytes = part_bytes;
            std::fs::write(&file, &content).unwrap();
            bucket.create_from_file(&block_key(n), &file).await.unwrap();
            bucket.create_from_file(&block_key(n), &file).await.unwrap();
            assert_eq!(bucket.get(&block_key(n)).await.unwrap(), content);
            let mut other = content.clone();
            *other.last_mut().unwrap() ^= 1;
            std::fs::write(&file, &other).unwrap();
            let error = bucket.create_from_file(&block_key(n), &file).await.unwrap_err();
            assert!(matches!(error, BucketError::Occupied { .. }), "{error:?}");
            assert_eq!(bucket.get(&block_key(n)).await.unwrap(), content);
        }
        let missing = bucket.create_from_file(&block_key(9), &folder.path().join("none")).await.unwrap_err();
        assert!(matches!(missing, BucketError::File { .. }), "{missing:?}");
    }
}

#[tokio::test]
async fn objects_are_read_listed_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Metrics::new();
    let bucket = Bucket::open(&BucketConfig::filesystem(folder.path()), &metrics).unwrap();
    bucket.create(&block_key(2), Bytes::from("0123456789")).await.unwrap();
    bucket.create(&block_key(1), Bytes::from("abc")).await.unwrap();
    let other = ObjectKey::catalog_latest(&TenantId::new("b").unwrap());
    bucket.put(&other, Bytes::from("1")).await.unwrap();
    bucket.put(&other, Bytes::from("2")).await.unwrap();
    assert_eq!(bucket.get_ranges(&block_key(2), &[8..10, 0..3]).await.unwrap(), ["89", "012"]);
    assert_eq!(bucket.get(&other).await.unwrap(), "2");
    let listed = bucket.list("tenants/team-a").await.unwrap();
    assert_eq!(listed.iter().map(|o| o.size_bytes).collect::<Vec<_>>(), [3, 10]);
    assert_eq!(ObjectKey::parse(&listed[0].key), Some(block_key(1)));
    assert_eq!(bucket.list_folders("tenants").await.unwrap(), ["b", "team-a"]);
    assert_eq!(bucket.list_folders("nothing").await.unwrap(), Vec::<String>::new());
    assert_eq!(bucket.head(&block_key(1)).await.unwrap().as_ref(), listed.first());
    for _ in 0..2 {
        bucket.delete(&block_key(1)).await.unwrap();
    }
    assert_eq!(bucket.head(&block_key(1)).await.unwrap(), None);
    assert!(matches!(bucket.get(&block_key(1)).await, Err(BucketError::NotFound { .. })));
    assert!(matches!(
        bucket.get_ranges(&block_key(1), &[0..1, 1..2]).await,
        Err(BucketError::NotFound { .. })
    ));
    assert!(bucket.get_ranges(&block_key(2), &[0..1, 5..11]).await.is_err());
    assert_eq!(
        bucket.locate(&block_key(2)),
        folder.path().canonicalize().unwrap().join(block_key(2).to_string()).display().to_string()
    );
    let text = metrics.render();
    assert!(text.contains("perennial_bucket_operations_total{operation=\"create\"} 2"), "{text}");
    assert!(text.contains("perennial_bucket_operation_failures_total{operation=\"get_ranges\"} 1"), "{text}");
}

#[tokio::test]
async fn a_listing_goes_on_after_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let local = Bucket::open(&BucketConfig::filesystem(folder.path()), &Metrics::new()).unwrap();
    let prefixed = PrefixStore::new(InMemory::new(), "p");
    for bucket in
        [local, Bucket::from_store(Arc::new(InMemory::new())), Bucket::from_store(Arc::new(prefixed))]
    {
        for n in [3, 1, 2, 5] {
            bucket.create(&block_key(n), Bytes::from("x")).await.unwrap();
        }
        for (after, expected) in [(0, vec![1, 2, 3, 5]), (2, vec![3, 5]), (4, vec![5]), (5, vec![])] {
            let listed = bucket.list_after("tenants/team-a", &block_key(after)).await.unwrap();
            let keys: Vec<String> = expected.into_iter().map(|n| block_key(n).to_string()).collect();
            assert_eq!(listed.into_iter().map(|o| o.key).collect::<Vec<_>>(), keys);
        }
    }
}

#[tokio::test]
async fn near_ranges_share_a_request_and_come_back_as_asked() {
    let bucket = Bucket::from_store(Arc::new(InMemory::new()));
    let content: Vec<u8> = (0..=255).collect();
    bucket.create(&block_key(1), Bytes::from(content.clone())).await.unwrap();
    let ranges = [100..110, 0..4, 5..5, 108..112, 8..9, 200..256];
    for (gap_bytes, requests, fetched_bytes) in [(0, 4, 73), (4, 3, 77), (1_000, 1, 256)] {
        let read = bucket.read_ranges(&block_key(1), &ranges, gap_bytes).await.unwrap();
        for (range, part) in ranges.iter().zip(&read.parts) {
            assert_eq!(
                part,
                &content[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
            );
        }
        assert_eq!((read.requests, read.fetched_bytes), (requests, fetched_bytes), "gap {gap_bytes}");
    }
    assert_eq!(bucket.read_ranges(&block_key(1), &[], 0).await.unwrap(), RangesRead::default());
    assert!(bucket.read_ranges(&block_key(1), &[0..1, 250..257], 0).await.is_err(), "beyond the end");
    assert!(
        bucket.read_ranges(&block_key(1), std::slice::from_ref(&(300..301)), 0).await.is_err(),
        "after the end"
    );
}

/// A bucket over a store that fails, with the patience that a network gets.
fn patient_bucket() -> (Arc<FailingStore>, Bucket) {
    let store = FailingStore::new(ManualClock::new(1_000));
    let made = (Instruments::default(), random_from_seed(1));
    let inner = Arc::clone(&store) as Arc<dyn ObjectStore>;
    (store, Bucket::assemble(inner, Patience::REMOTE, HedgeSettings::OFF, made))
}

#[tokio::test(start_paused = true)]
async fn a_read_is_whole_or_tried_again_and_never_short() {
    let (store, bucket) = patient_bucket();
    bucket.create(&block_key(1), Bytes::from("0123456789")).await.unwrap();
    for fault in [ReadFault::Broken, ReadFault::Short, ReadFault::BreaksOff, ReadFault::Stalls] {
        store.plan_reads(&[fault, fault]);
        assert_eq!(bucket.get(&block_key(1)).await.unwrap(), "0123456789", "{fault:?}");
        store.plan_reads(&[fault]);
        let read = bucket.read_ranges(&block_key(1), &[2..5, 8..10], 0).await.unwrap();
        assert_eq!(read.parts, ["234", "89"], "{fault:?}");
        store.plan_reads(&[fault; 30]);
        let error = bucket.get_ranges(&block_key(1), std::slice::from_ref(&(2..5))).await.unwrap_err();
        assert!(matches!(error, BucketError::Store { operation: "read", .. }), "{fault:?}: {error}");
        store.plan_reads(&[]);
        // Without a network there is no second attempt, and no short answer either.
        let plain = Bucket::from_store(Arc::clone(&store) as Arc<dyn ObjectStore>);
        if fault != ReadFault::Stalls {
            store.plan_reads(&[fault]);
            assert!(plain.get(&block_key(1)).await.is_err(), "{fault:?}");
        }
    }
    let requests = store.requests();
    assert!(bucket.get_ranges(&block_key(1), std::slice::from_ref(&(8..11))).await.is_err());
    assert_eq!(store.requests(), requests + 1, "what lies beyond the end is not asked for again");
}

#[tokio::test(start_paused = true)]
async fn a_create_ends_within_its_budget_whatever_the_store_does() {
    let (store, bucket) = patient_bucket();
    store.plan_puts(&[Fault::Lost; 100]);
    let started = tokio::time::Instant::now();
    let error = bucket.create(&block_key(1), Bytes::from("mine")).await.unwrap_err();
    assert!(matches!(error, BucketError::Unverified { attempts: 9, .. }), "{error:?}");
    assert!(started.elapsed() < BUDGET, "{:?}", started.elapsed());
    let (store, bucket) = patient_bucket();
    store.plan_puts(&[Fault::Lost; 100]);
    store.plan_reads(&[ReadFault::Stalls; 100]);
    let started = tokio::time::Instant::now();
    bucket.create(&block_key(1), Bytes::from("mine")).await.unwrap_err();
    assert!(started.elapsed() < BUDGET * 2, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_breaks_off_goes_on_where_it_ended() {
    let (store, bucket) = patient_bucket();
    for n in 0..9 {
        bucket.create(&block_key(n), Bytes::from("x")).await.unwrap();
    }
    store.break_listings_after(2);
    let listed = bucket.list("tenants/team-a").await.unwrap();
    let keys: Vec<String> = (0..9).map(|n| block_key(n).to_string()).collect();
    assert_eq!(listed.into_iter().map(|o| o.key).collect::<Vec<_>>(), keys);
    store.break_listings_after(0);
    assert!(bucket.list("tenants/team-a").await.is_err());
}

#[test]
fn thanos_yaml_is_understood() {
    let config =
        BucketConfig::from_yaml("type: FILESYSTEM\nconfig:\n  directory: /data/b\nprefix: /x/y/").unwrap();
    assert_eq!(config.to_string(), "FILESYSTEM /data/b/x/y");
    let config = BucketConfig::from_yaml(
        "type: s3\nconfig:\n  bucket: metrics\n  endpoint: 127.0.0.1:9000\n  region: r\n  insecure: true\n  \
         access_key: id\n  secret_key: hush\n  part_size: 8388608\n  trace:\n    enable: true\n  \
         put_user_metadata: {}\n  http_config:\n    idle_conn_timeout: 90s\n    max_idle_conns: 100\n  \
         sse_config:\n    type: SSE-S3\nprefix: p",
    )
    .unwrap();
    assert_eq!(config.to_string(), "S3 metrics/p at 127.0.0.1:9000");
    let debug = format!("{config:?}");
    assert!(debug.contains("<secret>") && !debug.contains("hush"), "{debug}");
    let bucket = Bucket::open(&config, &Metrics::new()).unwrap();
    assert_eq!(bucket.part_bytes, 8 << 20);
    assert_eq!(bucket.locate(&block_key(1)), format!("s3://metrics/p/{}", block_key(1)));
}

/// The section `http_config` with every key that Thanos has.
const HTTP_KEYS: &str = "  http_config:
    idle_conn_timeout: 1m30s
    response_header_timeout: 2m
    insecure_skip_verify: false
    tls_handshake_timeout: 10s
    expect_continue_timeout: 1s
    max_idle_conns: 100
    max_idle_conns_per_host: 100
    max_conns_per_host: 0
    tls_config: {ca_file: '', cert_file: '', key_file: '', server_name: '', insecure_skip_verify: false}
    disable_compression: false
";

const S3_KEYS: &str = "type: S3
prefix: ''
hedging_config: {enabled: true, up_to: 3, quantile: 0.9}
config:
  bucket: b
  endpoint: s3.eu-west-1.amazonaws.com
  region: ''
  disable_dualstack: false
  aws_sdk_auth: false
  access_key: id
  insecure: false
  signature_version2: false
  secret_key: hush
  session_token: ''
  put_user_metadata: {X-Amz-Storage-Class: STANDARD_IA, Team: x}
  trace: {enable: true}
  list_objects_version: v2
  bucket_lookup_type: auto
  send_content_md5: true
  disable_multipart: true
  part_size: 67108864
  sse_config: {type: SSE-KMS, kms_key_id: k, kms_encryption_context: {}, encryption_key: ''}
  sts_endpoint: https://sts.example.org
  max_retries: 4
";

const GCS_KEYS: &str = "type: GCS
config:
  bucket: b
  service_account: '{\"disable_oauth\": true, \"client_email\": \"\", \"private_key\": \"hush\", \"private_key_id\": \"\"}'
  use_grpc: true
  grpc_conn_pool_size: 4
  chunk_size_bytes: 1048576
  max_retries: 1
";

const AZURE_KEYS: &str = "type: AZURE
config:
  az_tenant_id: t
  client_id: c
  client_secret: hush
  storage_account: a
  storage_account_key: ''
  storage_connection_string: ''
  storage_create_container: false
  container: c
  endpoint: blob.core.windows.net
  user_assigned_id: ''
  max_retries: 3
  msi_resource: x
  reader_config: {max_retry_requests: 2}
  pipeline_config: {max_tries: 5, try_timeout: 10s, retry_delay: 1s, max_retry_delay: 20s}
";

#[test]
fn every_key_of_thanos_is_known() {
    for (keys, shown) in [
        (S3_KEYS, "S3 b at s3.eu-west-1.amazonaws.com"),
        (GCS_KEYS, "GCS b"),
        (AZURE_KEYS, "AZURE c at https://a.blob.core.windows.net"),
    ] {
        let config = BucketConfig::from_yaml(&format!("{keys}{HTTP_KEYS}")).unwrap();
        assert_eq!(config.to_string(), shown);
        assert!(!format!("{config:?}").contains("hush"), "{config:?}");
        Bucket::open(&config, &Metrics::new()).unwrap();
    }
    let open = |text: &str| Bucket::open(&BucketConfig::from_yaml(text).unwrap(), &Metrics::new()).unwrap();
    let s3 = open(S3_KEYS);
    assert_eq!(s3.attributes.len(), 2);
    assert_eq!((s3.attempts.patience.attempts_max, s3.whole_puts_only), (5, true));
    let gcs = open(GCS_KEYS);
    assert_eq!((gcs.attempts.patience.attempts_max, gcs.part_bytes), (1, 5 << 20));
    let azure = open(AZURE_KEYS).attempts.patience;
    assert_eq!((azure.attempts_max, azure.answer_within), (6, Some(Duration::from_secs(10))));
    assert_eq!((azure.pause_first, azure.pause_max), (Duration::from_secs(1), Duration::from_secs(20)));
}

#[tokio::test]
async fn a_store_without_uploads_in_parts_refuses_what_is_too_large_for_one_put() {
    let folder = tempfile::tempdir().unwrap();
    let mut bucket = Bucket::from_store(Arc::new(InMemory::new()));
    (bucket.whole_puts_only, bucket.part_bytes) = (true, 100);
    for (n, bytes) in [(1, 100), (2, 101)] {
        let file = folder.path().join(n.to_string());
        std::fs::write(&file, vec![7; bytes]).unwrap();
        let stored = bucket.create_from_file(&block_key(n), &file).await;
        assert_eq!(stored.is_ok(), bytes == 100);
        assert_eq!(bucket.head(&block_key(n)).await.unwrap().is_some(), bytes == 100);
    }
}

#[test]
fn a_key_of_the_customer_is_read_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let yaml = format!(
        "type: S3\nconfig:\n  bucket: b\n  sse_config: {{type: SSE-C, encryption_key: {}}}",
        file.display()
    );
    std::fs::write(&file, [0xfb; 31]).unwrap();
    let error = BucketConfig::from_yaml(&yaml).unwrap_err().to_string();
    assert!(error.contains("31 bytes") && error.contains("32"), "{error}");
    std::fs::write(&file, [0xfb; 32]).unwrap();
    let config = BucketConfig::from_yaml(&yaml).unwrap();
    let Backend::S3(settings) = &config.backend else { panic!("{config:?}") };
    let ServerSideEncryption::Customer(key) = &settings.encryption else { panic!("{config:?}") };
    assert_eq!(key.0, "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=");
    let bucket = Bucket::open(&config, &Metrics::new()).unwrap();
    let settings = LockSettings { mode: LockMode::Governance, retain_ms: 1_000 };
    let error = bucket.with_unchecked_lock(settings, ManualClock::new(0)).unwrap_err();
    assert!(error.to_string().contains("SSE-C"), "{error}");
}

#[test]
fn wrong_configuration_is_refused_by_key_and_with_what_is_allowed() {
    let s3 = |extra: &str| format!("type: S3\nconfig:\n  bucket: b\n  {extra}");
    let azure = |extra: &str| format!("type: AZURE\nconfig:\n  container: c\n  {extra}");
    let refused = [
        ("", "type"),
        ("type: GCS\nconfig: {}", "config.bucket"),
        ("type: SWIFT", "FILESYSTEM, S3, GCS and AZURE are allowed"),
        ("type: FILESYSTEM", "directory"),
        ("type: FILESYSTEM\nconfig: {directory: /x, dir: y}", "unknown field `dir`"),
        ("type: FILESYSTEM\nconfig: {directory: /x}\nprefix: ../y", "prefix"),
        ("type: FILESYSTEM\nconfig: {directory: /x}\nprefx: y", "unknown field `prefx`"),
        ("type: S3\nconfig: {}", "config.bucket"),
        (&s3("acces_key: x"), "unknown field `acces_key`"),
        (&s3("http_config: {proxy: x}"), "unknown field `proxy`"),
        (&s3("endpoint: http://x"), "without scheme"),
        (&s3("access_key: x"), "secret_key"),
        (&s3("signature_version2: true"), "signature_version2"),
        (&s3("part_size: 1"), "part_size"),
        (&s3("bucket_lookup_type: dns"), "virtual-hosted"),
        (&s3("sse_config: {type: SSE-D}"), "SSE-KMS"),
        (&s3("sse_config: {type: SSE-C, encryption_key: /none}"), "/none"),
        (&s3("sse_config: {type: SSE-C}\n  insecure: true"), "https"),
        (&s3("sse_config: {encryption_key: x}"), "SSE-C only"),
        (&s3("sse_config: {type: SSE-KMS}"), "kms_key_id"),
        (
            &s3("sse_config: {type: SSE-KMS, kms_key_id: k, kms_encryption_context: {a: b}}"),
            "kms_encryption_context",
        ),
        (&s3("list_objects_version: v1"), "v2"),
        (&s3("put_user_metadata: {X-Amz-Storage-Class: GLACIER}"), "GLACIER_IR"),
        (&s3("put_user_metadata: {X-Amz-Storage-Class: cheap}"), "STANDARD_IA"),
        (&s3("http_config: {tls_config: {cert_file: x}}"), "cert_file"),
        (&s3("max_retries: -1"), "`-1`"),
        (&format!("{}\nhedging_config: {{up_to: 0}}", s3("region: r")), "hedging_config.up_to"),
        (&format!("{}\nhedging_config: {{quantile: 90}}", s3("region: r")), "hedging_config.quantile"),
        ("type: GCS\nconfig: {bucket: b, service_account: x}", "service_account"),
        ("type: GCS\nconfig: {bucket: b, service_acount: x}", "unknown field `service_acount`"),
        (&azure(""), "storage_account"),
        (&azure("storage_account: a\n  storage_account_key: k\n  user_assigned_id: u"), "exclude each other"),
        (&azure("storage_account: a\n  client_id: x"), "az_tenant_id"),
        (&azure("storage_account: a\n  storage_create_container: true"), "create the container"),
        (&azure("storage_account: a\n  endpoint: https://x"), "config.endpoint"),
        (&azure("storage_account: a\n  pipeline_config: {try_timeout: soon}"), "try_timeout"),
        (&azure("storage_account: a\n  contaner: x"), "unknown field `contaner`"),
        (&azure("storage_connection_string: AccountName=a;Key=hush"), "unknown key Key"),
        (&azure("storage_connection_string: AccountName=a"), "AccountKey"),
        (&s3("http_config: {idle_conn_timeout: soon}"), "idle_conn_timeout"),
    ];
    for (yaml, told) in refused {
        let error = BucketConfig::from_yaml(yaml).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(told), "{yaml}: {error}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = Bucket::open(&BucketConfig::filesystem(file.join("bucket")), &Metrics::new()).unwrap_err();
    assert!(matches!(error, BucketError::Folder { .. }) && error.to_string().contains("file/bucket"));
}
