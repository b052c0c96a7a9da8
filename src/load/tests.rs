use std::collections::HashSet;

use super::*;
use crate::wire::remote_write::{Limits, Part, walk};

fn settings(series: usize, churn_steps: u64, seed: u64) -> LoadSettings {
    LoadSettings { series, churn_steps, seed }
}

#[test]
fn series_differ_and_stay_the_same_without_churn() {
    let load = Load::new(settings(2_000, 0, 1));
    let sets: HashSet<_> = (0..2_000).map(|number| load.labels(number, 0)).collect();
    assert_eq!(sets.len(), 2_000);
    assert!((0..2_000).all(|number| load.labels(number, 0) == load.labels(number, 1_000)));
}

#[test]
fn with_churn_every_series_is_replaced_once_in_so_many_steps() {
    let load = Load::new(settings(1_000, 10, 1));
    for number in 0..1_000 {
        let lives: HashSet<_> = (0..100).map(|step| load.labels(number, step)).collect();
        assert!((10..=11).contains(&lives.len()), "series {number} had {} label sets", lives.len());
    }
    let replaced = (0..1_000).filter(|number| load.labels(*number, 5) != load.labels(*number, 6)).count();
    assert!((20..400).contains(&replaced), "{replaced} series are replaced at one step");
}

#[test]
fn equal_seeds_send_equal_requests_and_others_do_not() {
    for protocol in [Protocol::V1, Protocol::V2] {
        let body = |seed| {
            Load::new(settings(500, 0, seed)).request(protocol, 0..500, (3, 1_700_000_000_000)).unwrap().body
        };
        assert_eq!(body(1), body(1));
        assert_ne!(body(1), body(2));
    }
}

#[test]
fn a_request_holds_one_sample_of_each_series() {
    for protocol in [Protocol::V1, Protocol::V2] {
        let load = Load::new(settings(300, 0, 1));
        let request = load.request(protocol, 100..300, (7, 1_700_000_000_000)).unwrap();
        assert_eq!(request.samples, 200);
        let mut body = Vec::new();
        snappy::decode_into(&request.body, 1 << 24, &mut body).unwrap();
        let mut number = 100;
        let totals = walk(protocol, &body, &Limits::default(), |series| {
            let Part::Series(series) = series else { panic!("a series is refused") };
            assert_eq!(series.labels.canonical(&Limits::default()).unwrap(), load.labels(number, 7));
            assert_eq!(series.samples[0].value.to_bits(), load.value(number, 7).to_bits());
            number += 1;
        });
        assert_eq!((totals.unwrap().samples, number), (200, 300));
    }
}
