use std::cell::RefCell;

use object_store::Error;

use super::super::transport::answer;
use super::*;

const DEFAULT: HedgeSettings = HedgeSettings::DEFAULT;
const QUICK: Duration = Duration::from_millis(30);
const SLOW: Duration = Duration::from_secs(10);

fn hedges(settings: HedgeSettings) -> Hedges {
    Hedges::new(settings, Instruments::default())
}

/// Runs one read whose requests take so long each, in the order they are sent; returns the answer, how many requests
/// were sent, and the time it took.
async fn read(of: &Hedges, takes: &[Duration]) -> (u32, u32, Duration) {
    let started = Instant::now();
    let sent = RefCell::new(0u32);
    let request = || {
        *sent.borrow_mut() += 1;
        let number = *sent.borrow();
        let time = takes[usize::try_from(number - 1).unwrap().min(takes.len() - 1)];
        async move {
            tokio::time::sleep(time).await;
            Ok::<u32, Error>(number)
        }
    };
    let answered = of.race(Operation::GetRanges, request).await.unwrap();
    (answered, sent.into_inner(), started.elapsed())
}

async fn used_to(settings: HedgeSettings) -> Hedges {
    let of = hedges(settings);
    for _ in 0..100 {
        assert_eq!(read(&of, &[QUICK]).await.1, 1);
    }
    of
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_overtaken_by_a_second_request() {
    let of = used_to(DEFAULT).await;
    let (answered, sent, time) = read(&of, &[SLOW, QUICK]).await;
    assert_eq!((answered, sent), (2, 2));
    assert!(time < QUICK * 3, "{time:?}");
    let (answered, sent, _) = read(&of, &[SLOW, SLOW, QUICK]).await;
    assert_eq!((answered, sent), (3, 3));
    let (_, sent, _) = read(&of, &[SLOW]).await;
    assert_eq!(sent, 3, "no more than up_to");
}

#[tokio::test(start_paused = true)]
async fn before_answers_are_known_and_when_turned_off_reads_are_not_hurried() {
    let of = hedges(DEFAULT);
    assert_eq!(read(&of, &[DELAY_UNKNOWN / 2]).await.1, 1);
    assert_eq!(read(&of, &[SLOW, QUICK]).await, (2, 2, DELAY_UNKNOWN + QUICK));
    assert_eq!(read(&hedges(HedgeSettings::OFF), &[SLOW]).await, (1, 1, SLOW));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_slow_for_all_is_not_asked_twice_as_much() {
    let of = used_to(DEFAULT).await;
    let mut sent = 0;
    for n in 0..1_000u32 {
        // Slower and slower, so that each answer comes later than most before it.
        sent += read(&of, &[QUICK * (n + 2)]).await.1;
    }
    assert!(sent <= 1_000 + 50 + 10, "{sent} requests for 1,000 reads");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_at_once_unless_another_request_is_under_way() {
    let of = used_to(HedgeSettings { requests_max: 2, ..DEFAULT }).await;
    let outcomes = RefCell::new(vec![(QUICK * 4, Some(7)), (QUICK * 2, None)]);
    let request = || {
        let (time, value) = outcomes.borrow_mut().pop().unwrap();
        async move {
            tokio::time::sleep(time).await;
            value.ok_or_else(|| answer(503, "SlowDown"))
        }
    };
    assert_eq!(of.race(Operation::Get, request).await.unwrap(), 7, "the second request still answers");
    let alone = || async { Err::<(), _>(answer(503, "SlowDown")) };
    assert!(of.race(Operation::Get, alone).await.is_err());
    let hopeless = RefCell::new(0);
    let request = || {
        *hopeless.borrow_mut() += 1;
        let time = if *hopeless.borrow() == 1 { SLOW } else { QUICK };
        async move {
            tokio::time::sleep(time).await;
            Err::<(), _>(answer(400, "InvalidArgument"))
        }
    };
    let started = Instant::now();
    assert!(of.race(Operation::Get, request).await.is_err());
    assert!(started.elapsed() < SLOW, "what no request can answer is not waited for");
}
