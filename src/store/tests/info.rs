//! What Info announces: nobody is asked for what it leaves out.

use tonic::{Code, Request};

use super::store_api::{everything, label_set, producers, series};
use super::*;
use crate::store::info::InfoApi;
use crate::wire::store_api::info::info_server::Info;
use crate::wire::store_api::info::{InfoRequest, InfoResponse};

pub(super) async fn ask(fixture: &Fixture) -> InfoResponse {
    let info = InfoApi(Arc::clone(&fixture.reads.0));
    info.info(Request::new(InfoRequest {})).await.unwrap().into_inner()
}

async fn times(fixture: &Fixture) -> (i64, i64) {
    let store = ask(fixture).await.store.unwrap();
    (store.min_time, store.max_time)
}

#[tokio::test]
async fn info_names_the_label_sets_and_times_once_ready() {
    for place in Place::ALL {
        let settings = StoreSettings {
            head_max_age_ms: (place != Place::Blocks).then_some(600_000),
            ..fixture::settings()
        };
        let fixture = Fixture::with(place, producers(), settings).await;
        let info = InfoApi(Arc::clone(&fixture.reads.0));
        fixture.ready.store(false, std::sync::atomic::Ordering::SeqCst);
        let refused = info.info(Request::new(InfoRequest {})).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
        fixture.ready.store(true, std::sync::atomic::Ordering::SeqCst);
        let answer = info.info(Request::new(InfoRequest {})).await.unwrap().into_inner();
        assert_eq!(answer.component_type, if place == Place::Blocks { "store" } else { "receive" });
        let sets: Vec<Labels> = answer.label_sets.iter().map(|s| label_set(&s.labels)).collect();
        let set = |tenant: &str| labels(&[("cluster", "lab"), ("replica", "a"), ("tenant_id", tenant)]);
        assert_eq!(sets, [set("team-a"), set("team-b")], "{place:?}");
        let store = answer.store.unwrap();
        // Now is one hour after the first sample and heads take what is ten minutes old, but still hold the first.
        assert_eq!((store.min_time, store.max_time), (ms(0), i64::MAX), "{place:?}");
        assert!(store.supports_sharding && store.supports_without_replica_labels);
        assert_eq!(store.tsdb_infos.len(), 2);
        let exemplars = answer.exemplars.unwrap();
        assert_eq!((exemplars.min_time, exemplars.max_time), (store.min_time, store.max_time));
        assert!(answer.metric_metadata.is_some());
        assert!(answer.rules.is_none() && answer.targets.is_none() && answer.query.is_none());
    }
}

#[tokio::test]
async fn an_empty_store_announces_a_time_range_that_nobody_asks_for() {
    let settings = StoreSettings { head_max_age_ms: None, ..fixture::settings() };
    let fixture = Fixture::with(Place::Blocks, Vec::new(), settings).await;
    assert_eq!(times(&fixture).await, (i64::MAX, i64::MIN));
    assert!(series(&fixture, everything()).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_heads_hold_is_announced_until_it_is_released_however_old_it_grows() {
    let max_age_ms = 600_000;
    let settings = StoreSettings { head_max_age_ms: Some(max_age_ms), ..fixture::settings() };
    let fixture = Fixture::with(Place::Heads, producers(), settings).await;
    fixture.clock.advance_ms(10 * max_age_ms);
    let accepted = fixture.clock.now_ms() - max_age_ms;
    assert_eq!(times(&fixture).await, (ms(0), i64::MAX), "in active heads");
    let frozen = fixture.heads.freeze();
    assert_eq!(times(&fixture).await, (ms(0), i64::MAX), "in frozen heads");
    frozen.iter().for_each(|head| fixture.heads.release(head));
    assert_eq!(times(&fixture).await, (accepted, i64::MAX), "what may come still");
}
