//! Wrong, missing and rotated keys: nothing is stored plain, and nothing opens by chance.

use std::path::{Path, PathBuf};
use std::time::Duration;

use age::secrecy::ExposeSecret;

use super::scene::check_known;
use crate::support::{
    Archiver, ArchiverSetup, LOAD_METRIC, Load, LocalBucket, RestoreCommand, TsdbOptions, TsdbServer,
    archive_folder, assert_code, files_below, installed, now_ms, path_text, time_text,
};

/// A key pair in two files.
struct Keys {
    recipients: PathBuf,
    identity: PathBuf,
}

fn keys(folder: &Path, name: &str) -> Keys {
    let pair = age::x25519::Identity::generate();
    let (recipients, identity) =
        (folder.join(format!("{name}.recipients")), folder.join(format!("{name}.key")));
    std::fs::write(&recipients, format!("{}\n", pair.to_public())).unwrap();
    std::fs::write(&identity, format!("{}\n", pair.to_string().expose_secret())).unwrap();
    Keys { recipients, identity }
}

fn seal_flag(keys: &Keys) -> String {
    format!("--encryption.recipients-file={}", keys.recipients.display())
}

fn open_flag(keys: &Keys) -> String {
    format!("--encryption.identity-file={}", keys.identity.display())
}

/// Archives a few seconds of a server with the given flags; returns a time at which it knew `load`.
async fn archive_a_while(
    server: &TsdbServer,
    bucket: &LocalBucket,
    flags: &[&str],
) -> (i64, crate::support::Book) {
    let archiver = ArchiverSetup::new(server, &bucket.config()).flags(flags).start().await;
    let load = Load::start(server.remote_write(), 5, Duration::from_millis(100));
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let book = load.stop().await;
    archiver.catch_up().await;
    let at_ms = now_ms();
    archiver.catch_up().await;
    archiver.stop();
    (at_ms, book)
}

async fn opens(restore: &RestoreCommand, at_ms: i64, book: &crate::support::Book) {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("data");
    restore.as_of(at_ms, &to);
    let restored = TsdbServer::opened(&to).await.samples().await;
    check_known(book, &restored, at_ms, "with the right key");
}

fn refuses(restore: &RestoreCommand, at_ms: i64, what: &str) {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("data");
    let output = restore.output("run", &["--as-of", &time_text(at_ms), "--to", path_text(&to), "--yes"]);
    assert!(output.status.code().is_some_and(|code| code != 0), "{what}: {}", output.status);
    assert!(!to.exists(), "{what}: a directory appeared");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--encryption.identity-file"), "{what}: says what to do: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_missing_wrong_or_rotated_fail_closed() {
    let test = "keys_that_are_missing_wrong_or_rotated_fail_closed";
    if !installed(test, &["prometheus", "promtool"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (first, second, wrong) =
        (keys(folder.path(), "first"), keys(folder.path(), "second"), keys(folder.path(), "wrong"));
    let bucket = LocalBucket::new();
    let mut server = TsdbServer::new(TsdbOptions::default());
    server.start().await;
    let (first_ms, first_book) =
        archive_a_while(&server, &bucket, &[&seal_flag(&first), &open_flag(&first)]).await;
    let plain = RestoreCommand::new(&bucket.config());
    opens(&plain.clone().flags(&[&open_flag(&first)]), first_ms, &first_book).await;
    refuses(&plain, first_ms, "no key");
    refuses(&plain.clone().flags(&[&open_flag(&wrong)]), first_ms, "a wrong key");

    let rotated = [seal_flag(&second), open_flag(&first), open_flag(&second)];
    let rotated: Vec<&str> = rotated.iter().map(String::as_str).collect();
    let (second_ms, mut book) = archive_a_while(&server, &bucket, &rotated).await;
    book.batches.extend(first_book.batches);
    refuses(&plain.clone().flags(&[&open_flag(&first)]), second_ms, "only the key of before");
    refuses(&plain.clone().flags(&[&open_flag(&second)]), second_ms, "only the new key");
    let both = plain.clone().flags(&[&open_flag(&first), &open_flag(&second)]);
    opens(&both, second_ms, &book).await;
    refuses_to_go_on_plain(&server, &bucket).await;
    nothing_is_plain(bucket.path());
    archive_a_while(&server, &bucket, &["--encryption.continue-plaintext"]).await;
    // Of what is plain now nothing is lost with a key, and the newest decides.
    archive_a_while(&server, &bucket, &[]).await;
    server.stop();
}

async fn refuses_to_go_on_plain(server: &TsdbServer, bucket: &LocalBucket) {
    let archiver = ArchiverSetup::new(server, &bucket.config()).launch();
    let (code, log) = ended(archiver).await;
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("--encryption.recipients-file"), "says what to do: {log}");
}

/// Waits until an archiver ends by itself.
async fn ended(mut archiver: Archiver) -> (Option<i32>, String) {
    for _ in 0..200 {
        if let Some(ended) = archiver.ended() {
            return (ended.code(), archiver.process.log());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not end: {}", archiver.process.log());
}

/// Everything but the catalog is sealed, and the metric's name is nowhere.
fn nothing_is_plain(bucket: &Path) {
    let root = archive_folder(bucket);
    for path in files_below(&root) {
        let stored = std::fs::read(&path).unwrap();
        let content = zstd::decode_all(&stored[..]).unwrap_or(stored);
        let telling = content.windows(LOAD_METRIC.len()).any(|w| w == LOAD_METRIC.as_bytes());
        assert!(!telling, "{}: tells a label", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archiver_that_cannot_encrypt_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = LocalBucket::new();
    let server = TsdbServer::new(TsdbOptions::default());
    std::fs::create_dir_all(server.data_dir().join("wal")).unwrap();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    for file in [empty, folder.path().join("absent")] {
        let flag = format!("--encryption.recipients-file={}", file.display());
        let archiver = ArchiverSetup::new(&server, &bucket.config()).flags(&[&flag]).launch();
        let (code, log) = ended(archiver).await;
        assert!(code.is_some_and(|code| code != 0), "{code:?}: {log}");
        assert!(log.contains(path_text(&file)), "{log}");
    }
    assert!(files_below(bucket.path()).is_empty(), "nothing was stored");
    let output = RestoreCommand::new(&bucket.config()).output("status", &[]);
    assert_code(&output, 3, "there is no archive");
}
