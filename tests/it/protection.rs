//! Locks and versions of objects, against an S3 server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use perennial::bucket::{
    Bucket, BucketConfig, BucketError, Created, Lock, LockDefault, LockMode, LockSettings, ObjectKey,
    ObjectLock, Protection,
};
use perennial::model::{ErrorKind, TenantId, Ulid};
use perennial::runtime::{Clock, ManualClock, Metrics, SystemClock, random_from_seed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Python, S3Server};

const BUCKET: &str = "locking";
/// Long enough for a busy machine to meet the lock, short enough to wait for its end.
const RETAIN_MS: i64 = 4_000;
const HOUR_MS: i64 = 3_600_000;
/// 2100-01-01, with a part of a second: locks end on whole seconds and never early.
const NOW_MS: i64 = 4_102_444_800_123;

fn key(n: u128) -> ObjectKey {
    ObjectKey::block(&TenantId::new("team-a").unwrap(), Ulid(n))
}

fn open(endpoint: &str, bucket: &str, prefix: &str) -> Bucket {
    let yaml = format!("{}prefix: {prefix:?}\n", S3Server::objstore_config_of(endpoint, bucket));
    Bucket::open(&BucketConfig::from_yaml(&yaml).unwrap(), &Metrics::new()).unwrap()
}

fn hour(mode: LockMode) -> LockSettings {
    LockSettings { mode, retain_ms: HOUR_MS }
}

async fn server(test: &str) -> Option<S3Server> {
    let python = Python::find(test)?;
    let server = S3Server::start(&python).await;
    server.make_locking_bucket(BUCKET).await;
    Some(server)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_object_is_created_once_and_stays() {
    let Some(server) = server("a_locked_object_is_created_once_and_stays").await else { return };
    for (prefix, mode) in [("", LockMode::Compliance), ("deep/prefix", LockMode::Governance)] {
        let plain = open(&server.endpoint(), BUCKET, prefix);
        let bucket = plain.clone().with_lock(hour(mode), ManualClock::new(NOW_MS)).await.unwrap();
        let bytes = Bytes::from_static(b"one");
        assert_eq!(bucket.create(&key(1), bytes.clone()).await.unwrap(), Created::Stored);
        let lock = Lock { mode, until_ms: NOW_MS - 123 + 1_000 + HOUR_MS };
        assert_eq!(bucket.lock_of(&key(1)).await.unwrap(), Some(lock));
        assert_eq!(bucket.create(&key(1), bytes.clone()).await.unwrap(), Created::Stored);
        let other = bucket.create(&key(1), Bytes::from_static(b"two")).await.unwrap();
        assert_eq!(other, Created::Conflict(bytes.clone()));

        let held = bucket.delete_versions(&key(1)).await.unwrap_err();
        assert!(matches!(held, BucketError::Held { until_ms, .. } if until_ms == lock.until_ms), "{held}");
        assert_eq!(held.kind(), ErrorKind::Locked);
        assert!(held.to_string().contains("2100-01-01T01:00:01Z"), "{held}");
        assert_eq!(plain.get(&key(1)).await.unwrap(), bytes);
        bucket.probe_conditional_create(&random_from_seed(1)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_collection_deletes_every_version_once_the_lock_ended() {
    let Some(server) = server("garbage_collection_deletes_every_version_once_the_lock_ended").await else {
        return;
    };
    let clock = SystemClock::new();
    let plain = open(&server.endpoint(), BUCKET, "");
    let settings = LockSettings { mode: LockMode::Compliance, retain_ms: RETAIN_MS };
    let bucket = plain.clone().with_lock(settings, Arc::clone(&clock) as Arc<dyn Clock>).await.unwrap();
    bucket.create(&key(2), Bytes::from_static(b"short")).await.unwrap();
    let created_ms = clock.now_ms();
    plain.create(&key(20), Bytes::from_static(b"a neighbour")).await.unwrap();
    bucket.delete_versions(&key(2)).await.unwrap_err();
    bucket.delete(&key(2)).await.unwrap();
    assert!(bucket.head(&key(2)).await.unwrap().is_none(), "hidden behind a delete marker");

    assert!(versions(&server).await.contains("DeleteMarker"));
    let lock_end = created_ms + RETAIN_MS + 1_000;
    while clock.now_ms() <= lock_end {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bucket.delete_versions(&key(2)).await.unwrap();
    bucket.delete_versions(&key(2)).await.unwrap();
    assert!(!versions(&server).await.contains(&key(2).to_string()), "nothing is left");
    assert!(plain.head(&key(20)).await.unwrap().is_some());
}

async fn versions(server: &S3Server) -> String {
    let url = format!("http://{}/{BUCKET}?versions", server.endpoint());
    crate::support::client().get(url).send().await.unwrap().text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_extended_and_never_shortened() {
    let Some(server) = server("a_lock_is_extended_and_never_shortened").await else { return };
    let bucket = open(&server.endpoint(), BUCKET, "p");
    bucket.create(&key(3), Bytes::from_static(b"three")).await.unwrap();
    assert_eq!(bucket.lock_of(&key(3)).await.unwrap(), None);
    let lock = |mode, until_ms| Lock { mode, until_ms };
    let first = lock(LockMode::Governance, 4_102_444_800_000);
    assert_eq!(bucket.extend_lock(&key(3), first).await.unwrap(), first);
    let shorter = lock(LockMode::Governance, 4_102_444_700_000);
    assert_eq!(bucket.extend_lock(&key(3), shorter).await.unwrap(), first);
    let longer = lock(LockMode::Compliance, 4_102_444_900_000);
    let kept_mode = lock(LockMode::Governance, longer.until_ms);
    assert_eq!(bucket.extend_lock(&key(3), longer).await.unwrap(), kept_mode);
    assert_eq!(bucket.lock_of(&key(3)).await.unwrap(), Some(kept_mode));
    let missing = bucket.extend_lock(&key(4), first).await.unwrap_err();
    assert!(matches!(missing, BucketError::NotFound { .. }), "{missing}");
    // A create that finds its bytes stored without a lock adds it.
    let locking =
        bucket.clone().with_lock(hour(LockMode::Compliance), ManualClock::new(NOW_MS)).await.unwrap();
    bucket.create(&key(5), Bytes::from_static(b"five")).await.unwrap();
    assert_eq!(locking.create(&key(5), Bytes::from_static(b"five")).await.unwrap(), Created::Stored);
    assert!(bucket.lock_of(&key(5)).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_is_locked_once_it_is_whole() {
    let Some(server) = server("a_large_file_is_locked_once_it_is_whole").await else { return };
    let bucket = open(&server.endpoint(), BUCKET, "");
    let bucket = bucket.with_lock(hour(LockMode::Compliance), ManualClock::new(NOW_MS)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (n, bytes) in [(6, 100), (7, 6 << 20)] {
        let file = folder.path().join(n.to_string());
        std::fs::write(&file, vec![7; bytes]).unwrap();
        for _ in 0..2 {
            bucket.create_from_file(&key(n), &file).await.unwrap();
        }
        assert_eq!(bucket.get(&key(n)).await.unwrap().len(), bytes);
        assert!(bucket.lock_of(&key(n)).await.unwrap().is_some(), "{bytes} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bucket_protects_is_found_out() {
    let Some(server) = server("what_a_bucket_protects_is_found_out").await else { return };
    let rule = "<ObjectLockConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><ObjectLockEnabled>Enabled\
                </ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>30</Days>\
                </DefaultRetention></Rule></ObjectLockConfiguration>";
    let locking = open(&server.endpoint(), BUCKET, "");
    let found = locking.protection().await.unwrap();
    assert_eq!(found, Protection { versioning: Some(true), object_lock: ObjectLock::On(None) });
    server.put(&format!("{BUCKET}?object-lock"), &[], rule).await;
    let default = LockDefault { mode: LockMode::Governance, days: 30 };
    assert_eq!(locking.protection().await.unwrap().object_lock, ObjectLock::On(Some(default)));

    let line = lossy_line(&server, Arc::default()).await;
    let plain = open(&line, "perennial", "");
    let found = plain.protection().await.unwrap();
    assert_eq!(found, Protection { versioning: Some(false), object_lock: ObjectLock::Off });
    let folder = tempfile::tempdir().unwrap();
    let local = Bucket::open(&BucketConfig::filesystem(folder.path()), &Metrics::new()).unwrap();
    let found = local.protection().await.unwrap();
    assert_eq!(found, Protection { versioning: None, object_lock: ObjectLock::Unsupported });
    for bucket in [plain, local] {
        bucket.create(&key(8), Bytes::from_static(b"eight")).await.unwrap();
        assert_eq!(bucket.lock_of(&key(8)).await.unwrap(), None);
        let lock = Lock { mode: LockMode::Compliance, until_ms: NOW_MS };
        let error = bucket.extend_lock(&key(8), lock).await.unwrap_err();
        assert!(matches!(error, BucketError::NoObjectLock { .. }), "{error}");
        bucket.delete_versions(&key(8)).await.unwrap();
        assert!(bucket.head(&key(8)).await.unwrap().is_none());
        let refused = bucket.with_lock(hour(LockMode::Compliance), ManualClock::new(0)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
    }
}

/// Names an element as Amazon does where moto does not, in as many bytes.
fn as_amazon_answers(reply: &mut [u8]) {
    let (found, right) = (b"GetBucketVersioningResponse", b"VersioningConfiguration    ");
    for at in 0..reply.len().saturating_sub(found.len()) {
        if reply[at..].starts_with(found) {
            reply[at..at + right.len()].copy_from_slice(right);
        }
    }
}

/// Passes bytes on to a server, and loses as many replies as it is told to.
async fn lossy_line(server: &S3Server, losing: Arc<AtomicU32>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, server) = (listener.local_addr().unwrap().to_string(), server.endpoint());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let upstream = TcpStream::connect(&server).await.unwrap();
            let losing = Arc::clone(&losing);
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = upstream.into_split();
                let requests =
                    tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
                let mut reply = vec![0; 64 << 10];
                while let Ok(length @ 1..) = from_server.read(&mut reply).await {
                    as_amazon_answers(&mut reply[..length]);
                    let lost = losing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
                    if lost.is_ok() || to_client.write_all(&reply[..length]).await.is_err() {
                        break;
                    }
                }
                requests.abort();
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_create_whose_reply_was_lost_is_found_stored() {
    let Some(server) = server("a_locked_create_whose_reply_was_lost_is_found_stored").await else { return };
    let losing = Arc::new(AtomicU32::new(0));
    let line = lossy_line(&server, Arc::clone(&losing)).await;
    let bucket = open(&line, BUCKET, "");
    let bucket = bucket.with_lock(hour(LockMode::Compliance), ManualClock::new(NOW_MS)).await.unwrap();
    for lost in 1..4 {
        losing.store(lost, Ordering::SeqCst);
        let n = 100 + u128::from(lost);
        let created = bucket.create(&key(n), Bytes::from(format!("number {n}"))).await.unwrap();
        assert_eq!(created, Created::Stored);
        assert_eq!(losing.load(Ordering::SeqCst), 0, "replies were lost");
        assert!(bucket.lock_of(&key(n)).await.unwrap().is_some());
    }
}
