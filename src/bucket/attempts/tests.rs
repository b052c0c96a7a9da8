use std::sync::atomic::{AtomicU32, Ordering};

use object_store::client::HttpErrorKind;

use super::super::transport::answer;
use super::*;
use crate::runtime::random_from_seed;

fn attempts() -> Attempts {
    Attempts::new(Patience::REMOTE, random_from_seed(7), Instruments::default())
}

fn broken() -> StoreError {
    let source = HttpError::new(HttpErrorKind::Connect, std::io::Error::other("no route"));
    StoreError::Generic { store: "test", source: Box::new(source) }
}

/// Fails so many times, then succeeds; returns the outcome and how many attempts there were.
async fn run(
    of: &Attempts,
    failures: u32,
    failure: impl Fn() -> StoreError,
) -> (Result<(), StoreError>, u32) {
    let made = AtomicU32::new(0);
    let attempt = || {
        let n = made.fetch_add(1, Ordering::Relaxed);
        let outcome = if n < failures { Err(failure()) } else { Ok(()) };
        async move { outcome }
    };
    let outcome = of.run(Operation::Get, None, attempt).await;
    (outcome, made.into_inner())
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again_and_the_rest_is_not() {
    let transient = [broken(), answer(503, "SlowDown"), answer(500, "InternalError"), answer(429, "TooMany")];
    for failure in transient {
        assert!(is_transient(&failure), "{failure}");
    }
    for failure in [answer(400, "RequestTimeout"), answer(408, "")] {
        assert!(is_transient(&failure), "{failure}");
    }
    let not_found = StoreError::NotFound { path: "x".to_owned(), source: "gone".into() };
    let for_good =
        [not_found, answer(400, "InvalidArgument"), answer(501, "NotImplemented"), answer(416, "")];
    for failure in for_good {
        assert!(!is_transient(&failure), "{failure}");
    }
    let (outcome, made) = run(&attempts(), 3, || answer(503, "SlowDown")).await;
    assert!(outcome.is_ok());
    assert_eq!(made, 4);
    let (outcome, made) = run(&attempts(), 3, || answer(400, "InvalidArgument")).await;
    assert!(outcome.unwrap_err().to_string().contains("400 InvalidArgument"));
    assert_eq!(made, 1);
}

#[tokio::test(start_paused = true)]
async fn attempts_end_by_number_and_by_time() {
    let started = Instant::now();
    let (outcome, made) = run(&attempts(), u32::MAX, broken).await;
    assert!(outcome.is_err());
    assert_eq!(made, RETRIES_MAX + 1);
    assert!(started.elapsed() < BUDGET, "{:?}", started.elapsed());

    let (started, slow) = (Instant::now(), Duration::from_secs(20));
    let made = AtomicU32::new(0);
    let hanging = || async {
        made.fetch_add(1, Ordering::Relaxed);
        std::future::pending::<object_store::Result<()>>().await
    };
    let error = attempts().run(Operation::Get, Some(slow), hanging).await.unwrap_err();
    assert!(is_transient(&error) && error.to_string().contains("20s"), "{error}");
    assert_eq!(made.into_inner(), 3, "three of 20 s begin within a minute");
    assert!(started.elapsed() <= BUDGET + slow, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_are_drawn_and_heed_what_the_store_asks() {
    let of = attempts();
    for n in 1..40 {
        let longest = (PAUSE_FIRST * 2u32.pow((n - 1).min(16))).min(PAUSE_MAX);
        let pause = of.pause(n, None);
        assert!(pause >= longest / 2 && pause <= longest, "{n}: {pause:?}");
    }
    let drawn: std::collections::HashSet<Duration> = (0..20).map(|_| of.pause(5, None)).collect();
    assert!(drawn.len() > 10, "{drawn:?}");
    assert_eq!(of.pause(1, Some(Duration::from_secs(7))), Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn an_outage_uses_up_the_spare_attempts_and_they_come_back() {
    let of = attempts();
    let burst = futures::future::join_all((0..500).map(|_| run(&of, u32::MAX, broken))).await;
    let made: u32 = burst.iter().map(|(_, made)| made).sum();
    assert!((500..=700).contains(&made), "{made} of at most 4,500");
    tokio::time::advance(Duration::from_secs(100)).await;
    let (outcome, made) = run(&of, 2, broken).await;
    assert!(outcome.is_ok());
    assert_eq!(made, 3);
}

#[tokio::test]
async fn a_local_folder_is_asked_once() {
    let of = Attempts::new(Patience::LOCAL, random_from_seed(1), Instruments::default());
    assert_eq!(run(&of, 1, broken).await.1, 1);
    assert_eq!(of.deadline(), None);
    assert_eq!(of.patience.sending(1 << 40), None);
    assert_eq!(Patience::REMOTE.sending(1 << 20), Some(ANSWER_WITHIN + Duration::from_secs(4)));
}
