//! An object store whose process stands still: requests are neither refused nor answered, and those that wait may be
//! carried out long after their sender gave up.

use std::time::{Duration, Instant};

use super::book::Book;
use super::outage::{flush_in_the_end, outage, wait_for};
use crate::support::{Python, S3Server, Setup};

/// A write that needs no bucket is answered well within this.
const PROMPT: Duration = Duration::from_secs(10);

/// A write that waits for the bucket is refused within this: the time that one put of the log has, and room.
const REFUSED_WITHIN: Duration = Duration::from_secs(60);

/// The server's bucket, with less patience than usual, so that a short outage also sees requests given up.
fn config(server: &S3Server) -> String {
    format!("{}  http_config:\n    response_header_timeout: 3s\n", server.objstore_config())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_stands_still_writes_are_acknowledged_and_read_back_and_nothing_is_lost() {
    let test = "while_the_store_stands_still_writes_are_acknowledged_and_read_back_and_nothing_is_lost";
    let Some(python) = Python::find(test) else { return };
    let server = S3Server::start(&python).await;
    let flags = ["--head.cut-interval=2s", "--catalog.refresh=1s", "--query.timeout=5s"];
    let setup = Setup::role("receive").bucket(&config(&server)).flags(&flags);
    let perennial = setup.start().await;
    let mut before = Book::of("before_total", &setup, 20);
    before.send_well(20).await;
    perennial.flush().await;

    server.pause();
    let mut during = Book::new(&setup, 40);
    let (stopped, mut slowest, mut check_at) = (Instant::now(), Duration::ZERO, Duration::from_secs(1));
    while stopped.elapsed() < outage() {
        let sent = Instant::now();
        during.send_well(20).await;
        slowest = slowest.max(sent.elapsed());
        if stopped.elapsed() >= check_at {
            check_at *= 2;
            during.check(&setup, "while the store stands still").await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(slowest < PROMPT, "a write took {slowest:?}");
    wait_for(&setup, "perennial_pending_bytes", Duration::from_secs(200), |bytes| bytes > 0.0).await;
    during.check(&setup, "of blocks that wait, while the store stands still").await;
    perennial.kill();
    let started = Instant::now();
    let perennial = setup.start().await;
    println!("it was ready after {:?} while the store stood still", started.elapsed());
    during.check(&setup, "after a restart, while the store stands still").await;
    during.send_well(20).await;

    server.resume();
    flush_in_the_end(&perennial).await;
    wait_for(&setup, "perennial_log_bytes", Duration::from_secs(60), |bytes| bytes < 20_000.0).await;
    perennial.stop();
    check_in_blocks(&server, &[&before, &during]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_a_bucket_that_stands_still_acknowledges_nothing_and_goes_on_by_itself() {
    let test = "a_log_in_a_bucket_that_stands_still_acknowledges_nothing_and_goes_on_by_itself";
    let Some(python) = Python::find(test) else { return };
    let server = S3Server::start(&python).await;
    let flags =
        ["--log.kind=object", "--log.flush-interval=50ms", "--receive.name=r", "--catalog.refresh=1s"];
    let setup = Setup::role("receive").bucket(&config(&server)).flags(&flags);
    let setup = setup.flags(&["--query.timeout=5s", "--head.cut-interval=1h"]);
    let perennial = setup.start().await;
    let mut book = Book::new(&setup, 20);
    for _ in 0..5 {
        book.send_well(20).await;
    }

    server.pause();
    let (stopped, acknowledged, mut refused) = (Instant::now(), book.acknowledged(), 0);
    while stopped.elapsed() < outage() {
        let sent = Instant::now();
        let ack = book.send(20).await.expect("the connection holds");
        assert_eq!(ack.status, 503, "nothing can be stored: {}", ack.body);
        assert!(ack.retry_after.is_some() && sent.elapsed() < REFUSED_WITHIN, "{:?}", sent.elapsed());
        refused += 1;
        book.check(&setup, "what was acknowledged before, while the store stands still").await;
    }
    assert!(refused > 0, "writes were refused");
    assert_eq!(book.acknowledged(), acknowledged);

    server.resume();
    book.send_until(204, 20, Duration::from_secs(120)).await;
    perennial.kill();
    // Nothing on this machine outlives the process: what was acknowledged is in the bucket or nowhere.
    std::fs::remove_dir_all(setup.data_dir()).unwrap();
    let perennial = setup.start().await;
    check_in_blocks(&server, &[&book]).await;
    for _ in 0..5 {
        book.send_well(20).await;
    }
    flush_in_the_end(&perennial).await;
    perennial.stop();
    check_in_blocks(&server, &[&book]).await;
}

/// Checks books against the bucket alone.
async fn check_in_blocks(server: &S3Server, books: &[&Book]) {
    let store = Setup::role("store").bucket(&server.objstore_config());
    let serving = store.start().await;
    for book in books {
        book.check(&store, "from blocks").await;
    }
    serving.stop();
}
