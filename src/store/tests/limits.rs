//! Answers that end before their series do.

use super::fixture::settings;
use super::store_api::{everything, frames, label_set};
use super::*;
use crate::block::SeriesRun;
use crate::store::series_list::BATCH_SERIES;
use crate::wire::store_api::SeriesRequest;

fn one_sample(pairs: &[(&str, &str)]) -> SeriesRun {
    SeriesRun { labels: labels(pairs), samples: vec![Sample::new(ms(0), 1.0)] }
}

#[tokio::test]
async fn a_limit_of_a_whole_batch_keeps_both_replicas_of_the_last_series() {
    let mut series: Vec<SeriesRun> =
        (1..BATCH_SERIES).map(|i| one_sample(&[("__name__", "many"), ("i", &format!("{i:05}"))])).collect();
    series.extend(["a", "b"].map(|replica| one_sample(&[("__name__", "twice"), ("replica", replica)])));
    let producer = Producer { tenant: team("team-a"), external: Labels::empty(), series };
    let fixture = Fixture::with(Place::Heads, vec![producer], settings()).await;
    for limit in [BATCH_SERIES as i64, BATCH_SERIES as i64 + 1] {
        let without_replica_labels = vec!["replica".to_owned()];
        let request = SeriesRequest { limit, without_replica_labels, ..everything() };
        let sent = frames(&fixture, request).await.unwrap().concat();
        let last: Vec<Labels> = sent.iter().rev().take(2).map(|s| label_set(&s.labels)).collect();
        let twice = labels(&[("__name__", "twice"), ("tenant_id", "team-a")]);
        assert_eq!((sent.len(), last), (BATCH_SERIES + 1, vec![twice.clone(), twice]), "limit {limit}");
    }
}
