//! An object store that is away, for as long as it likes.

use std::time::{Duration, Instant};

use super::book::Book;
use crate::support::{Fault, FaultProxy, Perennial, Python, S3Server, Setup, client, get_text};

/// How long the store is away: minutes in a soak, less in a test.
pub(super) fn outage() -> Duration {
    Duration::from_secs(std::env::var("PERENNIAL_OUTAGE_SECONDS").map_or(12, |n| n.parse().unwrap()))
}

/// Returns a figure of `/metrics`.
async fn figure(setup: &Setup, name: &str) -> f64 {
    let text = get_text(&setup.url("/metrics")).await;
    let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name}")).rsplit(' ').next().unwrap().parse().unwrap()
}

/// Waits until a figure of `/metrics` is as wanted.
pub(super) async fn wait_for(setup: &Setup, name: &str, limit: Duration, wanted: impl Fn(f64) -> bool) {
    let started = Instant::now();
    loop {
        let found = figure(setup, name).await;
        if wanted(found) {
            return;
        }
        assert!(started.elapsed() < limit, "{name} is {found} after {limit:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Cuts until the bucket has everything: an attempt that began while it was away may still fail.
pub(super) async fn flush_in_the_end(perennial: &Perennial) {
    for _ in 0..10 {
        if perennial.try_flush().await.unwrap().0 == 200 {
            return;
        }
    }
    perennial.flush().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_away_a_receiver_takes_writes_serves_them_and_even_starts() {
    let test = "while_the_store_is_away_a_receiver_takes_writes_serves_them_and_even_starts";
    let Some(python) = Python::find(test) else { return };
    let server = S3Server::start(&python).await;
    let proxy = FaultProxy::start(&server.endpoint()).await;
    let config = S3Server::objstore_config_of(&proxy.endpoint(), "perennial");
    let setup =
        Setup::role("receive").bucket(&config).flags(&["--head.cut-interval=3s", "--catalog.refresh=1s"]);
    let setup = setup.flags(&["--query.timeout=5s"]);
    let perennial = setup.start().await;
    let mut book = Book::new(&setup, 40);
    book.send_well(20).await;
    perennial.flush().await;

    proxy.set(Fault::Refused);
    let started = Instant::now();
    while started.elapsed() < outage() {
        book.send_well(20).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    wait_for(&setup, "perennial_pending_bytes", Duration::from_secs(200), |bytes| bytes > 0.0).await;
    perennial.kill();
    let perennial = setup.start().await;
    book.send_well(20).await;
    let sent_before = book.acknowledged();
    book.send_well(20).await;
    assert!(book.acknowledged() > sent_before);

    proxy.set(Fault::None);
    flush_in_the_end(&perennial).await;
    wait_for(&setup, "perennial_log_bytes", Duration::from_secs(60), |bytes| bytes < 20_000.0).await;
    perennial.stop();
    let store = Setup::role("store").bucket(&config);
    let serving = store.start().await;
    book.check(&store, "from the bucket, after the outage").await;
    serving.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standalone_that_starts_without_its_store_takes_writes_and_answers_queries_when_it_is_back() {
    let test = "a_standalone_that_starts_without_its_store_takes_writes_and_answers_queries_when_it_is_back";
    let Some(python) = Python::find(test) else { return };
    let server = S3Server::start(&python).await;
    let proxy = FaultProxy::start(&server.endpoint()).await;
    let config = S3Server::objstore_config_of(&proxy.endpoint(), "perennial");
    let setup = Setup::standalone().bucket(&config).flags(&["--catalog.refresh=1s"]);
    let perennial = setup.start().await;
    let mut book = Book::new(&setup, 10);
    book.send_well(20).await;
    perennial.flush().await;
    book.send_well(20).await;
    perennial.kill();

    proxy.set(Fault::Refused);
    let perennial = setup.start().await;
    book.send_well(20).await;
    let answer = client().get(setup.url("/api/v1/labels")).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 503, "blocks must not be missed silently");
    proxy.set(Fault::None);
    let started = Instant::now();
    while client().get(setup.url("/api/v1/labels")).send().await.unwrap().status().as_u16() != 200 {
        assert!(started.elapsed() < Duration::from_secs(150), "queries are not served again");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    book.check(&setup, "once the catalogs are read").await;
    flush_in_the_end(&perennial).await;
    book.check(&setup, "from blocks").await;
    perennial.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_bound_on_local_growth_writes_are_answered_429_until_the_store_is_back() {
    let test = "beyond_the_bound_on_local_growth_writes_are_answered_429_until_the_store_is_back";
    let Some(python) = Python::find(test) else { return };
    let server = S3Server::start(&python).await;
    let proxy = FaultProxy::start(&server.endpoint()).await;
    let config = S3Server::objstore_config_of(&proxy.endpoint(), "perennial");
    let flags = ["--receive.local-bytes-max=1MiB", "--head.cut-interval=5s", "--catalog.refresh=1s"];
    let setup = Setup::role("receive").bucket(&config).flags(&flags).flags(&["--query.timeout=5s"]);
    let perennial = setup.start().await;
    let mut book = Book::new(&setup, 50);
    proxy.set(Fault::Refused);
    let refused = book.send_until(429, 100, Duration::from_secs(120)).await;
    assert_eq!(refused.retry_after.as_deref(), Some("30"));
    assert!(refused.body.contains("--receive.local-bytes-max"), "{}", refused.body);
    let on_disk =
        figure(&setup, "perennial_log_bytes").await + figure(&setup, "perennial_pending_bytes").await;
    assert!(
        on_disk < 8.0 * f64::from(1 << 20),
        "{on_disk} bytes: the bound holds within what one look misses"
    );
    proxy.set(Fault::None);
    flush_in_the_end(&perennial).await;
    book.send_until(204, 10, Duration::from_secs(60)).await;
    flush_in_the_end(&perennial).await;
    perennial.stop();
    let store = Setup::role("store").bucket(&config);
    let serving = store.start().await;
    book.check(&store, "what was acknowledged before, and after").await;
    serving.stop();
}
