//! One tenant's damaged catalog: it is announced, queries about it fail, and the other tenants are served.

use futures::TryStreamExt;
use tonic::{Code, Request, Status};

use super::kinds::{Kinds, with_exemplars, with_metadata};
use super::store_api::{everything, label_set, matcher, series};
use super::*;
use crate::block::SeriesRun;
use crate::store::exemplars::ExemplarsApi;
use crate::store::metric_metadata::MetadataApi;
use crate::wire::store_api::exemplars_server::Exemplars;
use crate::wire::store_api::metadata_server::Metadata as _;
use crate::wire::store_api::metric_metadata_response::Result as Found;
use crate::wire::store_api::{
    ExemplarsRequest, MetricMetadataRequest, PartialResponseStrategy, SeriesRequest, label_matcher,
};

/// Team A has all kinds, team B samples of three windows.
async fn fixture(is_damaged: impl Fn(&str) -> bool) -> Fixture {
    let (mut producers, exemplars) = with_exemplars();
    let (_, metadata) = with_metadata();
    let samples = [0, 30_000, 60_000].map(|seconds| Sample::new(ms(seconds), 1.0)).to_vec();
    let series = vec![SeriesRun { labels: labels(&[("__name__", "up")]), samples }];
    producers.push(Producer { tenant: team("team-b"), external: labels(&[("cluster", "lab")]), series });
    let kinds = Kinds { exemplars: exemplars.exemplars, metadata: metadata.metadata, ..Kinds::default() };
    Fixture::damaged(producers, kinds, is_damaged).await
}

async fn series_of(fixture: &Fixture, tenant: &str) -> Result<usize, Code> {
    let matchers = vec![matcher(label_matcher::Type::Eq, "tenant_id", tenant)];
    let found = series(fixture, SeriesRequest { matchers, ..everything() }).await;
    found.map(|found| found.len()).map_err(|status| status.code())
}

async fn exemplars(fixture: &Fixture, query: &str) -> Result<usize, Code> {
    let (query, start, end) = (query.to_owned(), i64::MIN, i64::MAX);
    let request = ExemplarsRequest { query, start, end, ..ExemplarsRequest::default() };
    let api = ExemplarsApi(Arc::clone(&fixture.reads.0));
    let code = |status: Status| status.code();
    let stream = api.exemplars(Request::new(request)).await.map_err(code)?.into_inner();
    Ok(stream.try_collect::<Vec<_>>().await.map_err(code)?.len())
}

/// Returns the families and the warnings.
async fn metadata(
    fixture: &Fixture,
    strategy: PartialResponseStrategy,
) -> Result<(usize, Vec<String>), Code> {
    let partial_response_strategy = strategy.into();
    let request = MetricMetadataRequest { limit: -1, partial_response_strategy, ..Default::default() };
    let api = MetadataApi(Arc::clone(&fixture.reads.0));
    let stream = api.metric_metadata(Request::new(request)).await.map_err(|status| status.code())?;
    let (mut families, mut warnings) = (0, Vec::new());
    for answer in stream.into_inner().try_collect::<Vec<_>>().await.map_err(|status| status.code())? {
        match answer.result.unwrap() {
            Found::Metadata(found) => families += found.metadata.len(),
            Found::Warning(text) => warnings.push(text),
        }
    }
    Ok((families, warnings))
}

/// Checks what holds however the catalog of team B is damaged.
async fn check(fixture: &Fixture) {
    let sets: Vec<Labels> =
        info::ask(fixture).await.label_sets.iter().map(|set| label_set(&set.labels)).collect();
    let of_a = labels(&[("cluster", "lab"), ("replica", "a"), ("tenant_id", "team-a")]);
    assert_eq!(sets, [of_a, labels(&[("tenant_id", "team-b")])]);

    assert_eq!(series_of(fixture, "team-a").await, Ok(1));
    assert_eq!(series_of(fixture, "team-b").await, Err(Code::DataLoss));

    assert_eq!(exemplars(fixture, "latency{tenant_id=\"team-a\"}").await, Ok(2));
    assert_eq!(
        exemplars(fixture, "latency{tenant_id=\"team-a\"} + other{tenant_id=\"team-a\"}").await,
        Ok(3)
    );
    assert_eq!(exemplars(fixture, "latency{tenant_id=\"team-b\"}").await, Err(Code::DataLoss));
    assert_eq!(exemplars(fixture, "latency").await, Err(Code::DataLoss), "an answer must not lack a tenant");

    let (families, warnings) = metadata(fixture, PartialResponseStrategy::Warn).await.unwrap();
    assert_eq!((families, warnings.len()), (2, 1));
    assert!(warnings[0].contains("team-b"), "{warnings:?}");
    assert_eq!(metadata(fixture, PartialResponseStrategy::Abort).await, Err(Code::DataLoss));
}

#[tokio::test]
async fn a_tenant_none_of_whose_catalog_versions_read_is_announced_for_all_time() {
    let fixture = fixture(|key| key.starts_with("tenants/team-b/catalog/0")).await;
    check(&fixture).await;
    let store = info::ask(&fixture).await.store.unwrap();
    assert_eq!((store.min_time, store.max_time), (i64::MIN, i64::MAX));
}

#[tokio::test]
async fn a_tenant_with_a_damaged_catalog_part_is_announced_by_its_label() {
    let fixture = fixture(|key| key.starts_with("tenants/team-b/catalog/parts/")).await;
    check(&fixture).await;
    // The version says which times the part is of.
    assert_eq!(info::ask(&fixture).await.store.unwrap().min_time, ms(0));
}
