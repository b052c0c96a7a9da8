//! The memory budget, under more than fits it.

use std::time::{Duration, Instant};

use crate::support::{Answer, Perennial, Series, Setup, label_pairs, now_ms};

const SENDERS: usize = 4;
const REQUESTS: usize = 60;
const SERIES_A_REQUEST: usize = 500;
const LIMIT_BYTES: u64 = 320 << 20;

/// A label value that makes a series take much memory.
fn padding(number: usize) -> String {
    format!("{number:08}").repeat(125)
}

/// Sends series that nobody sent before, again and again until they are taken; returns how often they were refused.
async fn flood(setup: &Setup, sender: usize, time_ms: i64) -> usize {
    let (remote, mut refused) = (setup.remote_write(), 0);
    for request in 0..REQUESTS {
        let series: Vec<Series> = (0..SERIES_A_REQUEST)
            .map(|number| {
                let number = (sender * REQUESTS + request) * SERIES_A_REQUEST + number;
                let (text, padding) = (number.to_string(), padding(number));
                let labels = [("__name__", "flood"), ("a", &padding), ("b", &padding), ("number", &text)];
                Series { labels: label_pairs(&labels), samples: vec![(time_ms, 1f64.to_bits())] }
            })
            .collect();
        let started = Instant::now();
        loop {
            match remote.send(&series).await.map(|ack| ack.status) {
                Ok(204) => break,
                Ok(503) => refused += 1,
                other => panic!("{other:?}"),
            }
            assert!(started.elapsed() < Duration::from_secs(120), "refused for two minutes");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
    refused
}

fn assert_within_the_limit(perennial: &Perennial) {
    let peak = perennial.process.memory_bytes("VmHWM");
    println!("peak {} MiB of {} MiB", peak >> 20, LIMIT_BYTES >> 20);
    assert!(peak < LIMIT_BYTES, "peak {} MiB\n{}", peak >> 20, perennial.process.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_new_series_stays_within_the_budget_and_loses_nothing() {
    let setup = Setup::standalone().flags(&["--memory-limit=320MiB", "--head.cut-interval=1h"]);
    let perennial = setup.start().await;
    let time_ms = now_ms();
    let floods = (0..SENDERS).map(|sender| flood(&setup, sender, time_ms));
    let refused: usize = futures::future::join_all(floods).await.into_iter().sum();
    println!("{refused} requests refused");
    assert_within_the_limit(&perennial);
    assert!(perennial.process.log().contains("cutting early"), "pressure cuts the head");
    let mut found = 0;
    // In slices: the labels alone are larger than one answer may be.
    for digit in 0..10 {
        let ends = format!(".*{digit}");
        let matchers = [(0, "__name__", "flood"), (2, "number", ends.as_str())];
        let answer = setup.remote_read().matching(&matchers, 0, i64::MAX / 2, Answer::Streamed).await;
        found += answer.series.len();
    }
    assert_eq!(found, SENDERS * REQUESTS * SERIES_A_REQUEST);
    assert_within_the_limit(&perennial);
    perennial.stop();
}
