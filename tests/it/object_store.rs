//! The bucket on S3, Google Cloud Storage and Azure, with everything that goes wrong on the way there.

use std::time::{Duration, Instant};

use bytes::Bytes;
use perennial::bucket::{Bucket, BucketConfig, BucketError, Created, LockMode, LockSettings, ObjectKey};
use perennial::model::{ErrorKind, TenantId, Ulid};
use perennial::runtime::{ManualClock, Metrics, random_from_seed};

use crate::support::{FakeStore, Fault, FaultProxy, Protocol, Python, S3Server, Setup, client};

const BUCKET: &str = "perennial";
const FOLDER: &str = "tenants/team-a";

fn key(n: u128) -> ObjectKey {
    ObjectKey::block(&TenantId::new("team-a").unwrap(), Ulid(n))
}

/// A bucket on S3; `more` are further lines of the section `config`.
fn open_s3(endpoint: &str, more: &str) -> (Bucket, Metrics) {
    let metrics = Metrics::new();
    let yaml = format!("{}{more}", S3Server::objstore_config_of(endpoint, BUCKET));
    (Bucket::open(&BucketConfig::from_yaml(&yaml).unwrap(), &metrics).unwrap(), metrics)
}

fn value_of(metrics: &Metrics, name: &str) -> u64 {
    let text = metrics.render();
    let lines = text.lines().filter(|line| line.split([' ', '{']).next() == Some(name));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

struct Scene {
    _server: S3Server,
    proxy: FaultProxy,
    direct: Bucket,
}

impl Scene {
    async fn new(test: &str) -> Option<Self> {
        let python = Python::find(test)?;
        let server = S3Server::start(&python).await;
        let proxy = FaultProxy::start(&server.endpoint()).await;
        let (direct, _) = open_s3(&server.endpoint(), "");
        Some(Self { _server: server, proxy, direct })
    }
}

/// Everything that may happen to a request; what is told later than never counts as well.
fn faults() -> Vec<Fault> {
    let pause = Duration::from_millis(200);
    let mut faults = vec![
        Fault::Unavailable,
        Fault::Refused,
        Fault::Reset,
        Fault::ReplyLost,
        Fault::ReplyCut,
        Fault::ReplyReset,
        Fault::Slow(pause),
        Fault::Trickle(pause),
    ];
    faults.extend([408, 409, 412, 429, 500, 502, 504].map(Fault::Answer));
    faults
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_is_verified_under_every_fault() {
    let Some(scene) = Scene::new("a_create_is_verified_under_every_fault").await else { return };
    let (bucket, _) = open_s3(&scene.proxy.endpoint(), "");
    for (n, fault) in (1..).zip(faults()) {
        scene.proxy.plan(&[fault]);
        let bytes = Bytes::from(format!("mine {n}"));
        let created = bucket.create(&key(n), bytes.clone()).await;
        assert_eq!(created.unwrap_or_else(|e| panic!("{fault:?}: {e:?}")), Created::Stored, "{fault:?}");
        assert_eq!(scene.direct.get(&key(n)).await.unwrap(), bytes, "{fault:?}");
        scene.proxy.plan(&[fault]);
        let again = bucket.create(&key(n), Bytes::from("another's")).await;
        assert_eq!(
            again.unwrap_or_else(|e| panic!("{fault:?}: {e:?}")),
            Created::Conflict(bytes.clone()),
            "{fault:?}"
        );
        assert_eq!(scene.direct.get(&key(n)).await.unwrap(), bytes, "{fault:?}");
    }
    let seen = scene.proxy.hit();
    assert_eq!(seen, 2 * faults().len() as u64, "every fault was met");
    scene.proxy.plan(&[]);
    bucket.probe_conditional_create(&random_from_seed(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_gives_all_bytes_or_fails_under_every_fault() {
    let Some(scene) = Scene::new("a_read_gives_all_bytes_or_fails_under_every_fault").await else { return };
    let (bucket, metrics) = open_s3(&scene.proxy.endpoint(), "");
    let content: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    scene.direct.create(&key(1), content.clone().into()).await.unwrap();
    for n in 2..=7 {
        scene.direct.create(&key(n), Bytes::from("x")).await.unwrap();
    }
    let listed = scene.direct.list(FOLDER).await.unwrap();
    assert_eq!(listed.len(), 7);
    let of_reads = faults().into_iter().filter(|f| !matches!(f, Fault::Answer(409 | 412)));
    for fault in of_reads {
        scene.proxy.plan(&[fault]);
        assert_eq!(bucket.get(&key(1)).await.unwrap(), content, "{fault:?}");
        scene.proxy.plan(&[fault]);
        let parts = bucket.get_ranges(&key(1), std::slice::from_ref(&(100_000..300_000))).await.unwrap();
        assert_eq!(parts[0], content[100_000..300_000], "{fault:?}");
        scene.proxy.plan(&[fault]);
        assert_eq!(bucket.head(&key(1)).await.unwrap().unwrap().size_bytes, 400_000, "{fault:?}");
        scene.proxy.plan(&[fault]);
        assert_eq!(bucket.list(FOLDER).await.unwrap(), listed, "{fault:?}");
        scene.proxy.plan(&[fault]);
        assert_eq!(bucket.list_after(FOLDER, &key(3)).await.unwrap(), listed[3..], "{fault:?}");
    }
    assert!(value_of(&metrics, "perennial_bucket_retries_total") >= 40);
    // A store that gives less than it was asked for, and says so, is not believed.
    scene.proxy.set(Fault::ShortRange);
    assert!(bucket.get_ranges(&key(1), std::slice::from_ref(&(0..1_000))).await.is_err());
    scene.proxy.set(Fault::None);
    assert!(
        bucket.get_ranges(&key(1), std::slice::from_ref(&(399_000..400_001))).await.is_err(),
        "beyond the end"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_goes_up_under_every_fault() {
    let Some(scene) = Scene::new("a_large_file_goes_up_under_every_fault").await else { return };
    let (bucket, _) = open_s3(&scene.proxy.endpoint(), "");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("block");
    let content: Vec<u8> = (0..1_500_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&file, &content).unwrap();
    let of_parts = [Fault::Unavailable, Fault::Reset, Fault::ReplyLost, Fault::ReplyCut, Fault::Answer(500)];
    for (n, fault) in (1..).zip(of_parts) {
        // Head, begin, two parts, end: one fault at each.
        scene.proxy.plan(&[fault, Fault::None, fault, fault, fault]);
        let stored = bucket.create_from_file(&key(n), &file).await;
        stored.unwrap_or_else(|e| panic!("{fault:?}: {e:?}"));
        scene.proxy.plan(&[]);
        assert_eq!(scene.direct.get(&key(n)).await.unwrap(), content, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_succeed_fails_at_once_and_an_outage_within_its_budget() {
    let test = "what_cannot_succeed_fails_at_once_and_an_outage_within_its_budget";
    let Some(scene) = Scene::new(test).await else { return };
    let (bucket, metrics) = open_s3(&scene.proxy.endpoint(), "  max_retries: 3\n");
    scene.direct.create(&key(1), Bytes::from("x")).await.unwrap();
    for status in [400, 401, 403, 501] {
        scene.proxy.set(Fault::Answer(status));
        let before = scene.proxy.requests();
        let error = bucket.get(&key(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{status}: {error}");
        assert_eq!(scene.proxy.requests() - before, 1, "{status} is asked once");
    }
    for status in [401, 403] {
        scene.proxy.set(Fault::Answer(status));
        let before = scene.proxy.requests();
        bucket.create(&key(2), Bytes::from("x")).await.unwrap_err();
        assert_eq!(scene.proxy.requests() - before, 1, "{status} is asked once");
    }
    scene.proxy.set(Fault::None);
    scene.proxy.plan(&[Fault::Answer(501)]);
    let error = bucket.probe_conditional_create(&random_from_seed(1)).await.unwrap_err();
    assert!(matches!(error, BucketError::NoConditionalCreate { .. }), "{error:?}");
    scene.proxy.plan(&[Fault::Answer(400)]);
    let error = bucket.create(&key(2), Bytes::from("x")).await.unwrap_err();
    assert!(matches!(error, BucketError::Store { operation: "create", .. }), "{error:?}");
    let text = format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string));
    assert!(text.contains("400 Refused: try later"), "{text}");

    let one = key(1);
    scene.proxy.set(Fault::Unavailable);
    let (started, before) = (Instant::now(), scene.proxy.requests());
    let failed = futures::future::join_all((0..60).map(|_| bucket.get(&one))).await;
    assert!(failed.iter().all(Result::is_err));
    assert!(value_of(&metrics, "perennial_bucket_retries_spared_total") > 5, "the spare attempts ran out");
    let requests = scene.proxy.requests() - before;
    let allowed = 60 + 100 + started.elapsed().as_secs() * 2;
    assert!(requests <= allowed, "{requests} requests, {allowed} allowed");
    scene.proxy.set(Fault::None);
    assert_eq!(bucket.get(&key(1)).await.unwrap(), "x", "it works as soon as the store does");
    assert_eq!(value_of(&metrics, "objstore_bucket_operation_failures_total"), {
        value_of(&metrics, "perennial_bucket_operation_failures_total")
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_hangs_is_overtaken_by_a_second_request() {
    let Some(scene) = Scene::new("a_read_that_hangs_is_overtaken_by_a_second_request").await else { return };
    scene.direct.create(&key(1), Bytes::from("0123456789")).await.unwrap();
    let hangs = Fault::Slow(Duration::from_secs(20));
    let (hedged, metrics) = open_s3(&scene.proxy.endpoint(), "");
    scene.proxy.plan(&[hangs]);
    let started = Instant::now();
    assert_eq!(hedged.get_ranges(&key(1), std::slice::from_ref(&(2..5))).await.unwrap(), ["234"]);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(value_of(&metrics, "perennial_bucket_hedges_total"), 1);
    assert_eq!(value_of(&metrics, "perennial_bucket_hedge_wins_total"), 1);

    let patient = "  http_config: {response_header_timeout: 2s}\nhedging_config: {enabled: false}\n";
    let (alone, metrics) = open_s3(&scene.proxy.endpoint(), patient);
    scene.proxy.plan(&[hangs]);
    let started = Instant::now();
    assert_eq!(alone.get(&key(1)).await.unwrap(), "0123456789");
    assert!(started.elapsed() >= Duration::from_secs(2), "the time-out came first");
    assert_eq!(value_of(&metrics, "perennial_bucket_hedges_total"), 0);
    assert_eq!(value_of(&metrics, "perennial_bucket_retries_total"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_stored_in_the_class_and_with_the_encryption_asked_for() {
    let test = "objects_are_stored_in_the_class_and_with_the_encryption_asked_for";
    let Some(python) = Python::find(test) else { return };
    let server = S3Server::start(&python).await;
    let more = "  put_user_metadata: {X-Amz-Storage-Class: STANDARD_IA, team: storage}\n  \
                sse_config: {type: SSE-S3}\n";
    let (bucket, metrics) = open_s3(&server.endpoint(), more);
    let folder = tempfile::tempdir().unwrap();
    bucket.create(&key(1), Bytes::from("one put")).await.unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, vec![7; 6 << 20]).unwrap();
    bucket.create_from_file(&key(2), &file).await.unwrap();
    check_headers(&server, BUCKET, &[1, 2]).await;
    bucket.announce().await;
    let text = metrics.render();
    let info = "perennial_bucket_info{provider=\"S3\",versioning=\"unknown\",object_lock=\"off\",\
                storage_class=\"STANDARD_IA\"} 1";
    assert!(text.contains(&info.replace("unknown", "off")) || text.contains(info), "{text}");

    // A create that locks goes another way to the store.
    server.make_locking_bucket("locking").await;
    let yaml = format!("{}{more}", S3Server::objstore_config_of(&server.endpoint(), "locking"));
    let locking = Bucket::open(&BucketConfig::from_yaml(&yaml).unwrap(), &Metrics::new()).unwrap();
    let settings = LockSettings { mode: LockMode::Governance, retain_ms: 3_600_000 };
    let locking = locking.with_lock(settings, ManualClock::new(4_102_444_800_000)).await.unwrap();
    locking.create(&key(3), Bytes::from("locked")).await.unwrap();
    check_headers(&server, "locking", &[3]).await;
}

async fn check_headers(server: &S3Server, bucket: &str, numbers: &[u128]) {
    for n in numbers {
        let url = format!("http://{}/{bucket}/{}", server.endpoint(), key(*n));
        // The server looks for a signature and not at it.
        let signed = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, \
                      Signature=00";
        let head = client().head(url).header("authorization", signed).send().await.unwrap();
        let found = |name: &str| head.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
        assert_eq!(found("x-amz-storage-class").as_deref(), Some("STANDARD_IA"), "{n}");
        assert_eq!(found("x-amz-meta-team").as_deref(), Some("storage"), "{n}");
        assert_eq!(found("x-amz-server-side-encryption").as_deref(), Some("AES256"), "{n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_tells_what_the_bucket_does() {
    let Some(python) = Python::find("the_program_tells_what_the_bucket_does") else { return };
    let server = S3Server::start(&python).await;
    server.make_locking_bucket("locking").await;
    let config = S3Server::objstore_config_of(&server.endpoint(), "locking");
    let setup = Setup::standalone().bucket(&config);
    let found: serde_json::Value =
        serde_json::from_str(&setup.command(&["bucket", "info", "--output", "json"])).unwrap();
    assert_eq!(found["provider"], "S3");
    assert_eq!(found["location"], "s3://locking/");
    assert_eq!((&found["versioning"], &found["object_lock"]), (&"on".into(), &"on".into()));
    assert_eq!(found["conditional_create"], "not tried");
    let table = setup.command(&["bucket", "info", "--probe"]);
    assert!(table.contains("works") && table.contains("object lock"), "{table}");
}

/// Opens a fake behind a proxy, by the YAML that Thanos would be given.
async fn open_fake(protocol: Protocol) -> (FakeStore, FaultProxy, Bucket) {
    let root = if protocol == Protocol::Gcs { "metrics" } else { "account/metrics" };
    let store = FakeStore::start(protocol, root).await;
    let proxy = FaultProxy::start(store.endpoint()).await;
    let yaml = match protocol {
        Protocol::Gcs => format!(
            "type: GCS\nprefix: deep/p\nconfig:\n  bucket: metrics\n  use_grpc: true\n  chunk_size_bytes: 5242880\n  \
             service_account: |-\n    {{\"gcs_base_url\": \"http://{}\", \"disable_oauth\": true, \
             \"client_email\": \"\", \"private_key\": \"\", \"private_key_id\": \"\"}}\n",
            proxy.endpoint()
        ),
        Protocol::Azure => format!(
            "type: AZURE\nprefix: deep/p\nconfig:\n  container: metrics\n  storage_connection_string: \
             \"AccountName=account;AccountKey=c2VjcmV0;BlobEndpoint=http://{}/account/\"\n  pipeline_config:\n    \
             retry_delay: 10ms\n",
            proxy.endpoint()
        ),
    };
    let bucket = Bucket::open(&BucketConfig::from_yaml(&yaml).unwrap(), &Metrics::new()).unwrap();
    (store, proxy, bucket)
}

#[tokio::test(flavor = "multi_thread")]
async fn google_and_azure_create_read_list_and_delete_as_s3_does() {
    for protocol in [Protocol::Gcs, Protocol::Azure] {
        let (store, proxy, bucket) = open_fake(protocol).await;
        bucket.probe_conditional_create(&random_from_seed(1)).await.unwrap();
        assert_eq!(store.names(), Vec::<String>::new(), "the probe is gone");
        for n in 1..=8 {
            let bytes = Bytes::from(format!("content of {n}"));
            assert_eq!(bucket.create(&key(n), bytes.clone()).await.unwrap(), Created::Stored);
            let other = bucket.create(&key(n), Bytes::from("other")).await.unwrap();
            assert_eq!(other, Created::Conflict(bytes), "{protocol:?}");
        }
        assert_eq!(store.names()[0], format!("deep/p/{}", key(1)), "{protocol:?}");
        assert_eq!(bucket.get(&key(3)).await.unwrap(), "content of 3");
        assert_eq!(bucket.get_ranges(&key(3), &[0..7, 8..10, 11..12]).await.unwrap(), ["content", "of", "3"]);
        assert!(bucket.get_ranges(&key(3), std::slice::from_ref(&(10..13))).await.is_err(), "beyond the end");
        let listed = bucket.list(FOLDER).await.unwrap();
        assert_eq!(
            listed.iter().map(|o| o.key.clone()).collect::<Vec<_>>(),
            (1..=8).map(|n| key(n).to_string()).collect::<Vec<_>>()
        );
        assert_eq!(bucket.list_after(FOLDER, &key(4)).await.unwrap(), listed[4..], "{protocol:?}");
        for _ in 0..2 {
            bucket.delete(&key(8)).await.unwrap();
        }
        assert_eq!(bucket.head(&key(8)).await.unwrap(), None);
        assert!(matches!(bucket.get(&key(8)).await, Err(BucketError::NotFound { .. })));
        for (n, fault) in (100..).zip(faults()) {
            proxy.plan(&[fault]);
            let bytes = Bytes::from(format!("mine {n}"));
            let created = bucket.create(&key(n), bytes.clone()).await;
            assert_eq!(created.unwrap_or_else(|e| panic!("{protocol:?} {fault:?}: {e:?}")), Created::Stored);
            assert_eq!(bucket.get(&key(n)).await.unwrap(), bytes, "{protocol:?} {fault:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("large");
        let content: Vec<u8> = (0..5_000_000u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(&file, &content).unwrap();
        proxy.plan(&[]);
        for _ in 0..2 {
            bucket.create_from_file(&key(9), &file).await.unwrap();
        }
        assert_eq!(bucket.get(&key(9)).await.unwrap(), content, "{protocol:?}");
        let scheme = if protocol == Protocol::Gcs { "gs" } else { "az" };
        assert_eq!(bucket.locate(&key(9)), format!("{scheme}://metrics/deep/p/{}", key(9)));
    }
}
