//! Exemplars: `thanos.Exemplars` over all tenants, and `/api/v1/query_exemplars` for the tenant of the header.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::{Request as HttpRequest, State};
use axum::response::Response as HttpResponse;
use futures::Stream;
use serde::Serialize;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};

use super::error::StoreError;
use super::grpc::client_waits;
use super::info::label_set;
use super::json::{self, LabelObject};
use super::parameters::{Hiding, is_empty};
use super::query_selectors::query_selectors;
use super::reads::{Shared, tenant_labels};
use crate::model::{Exemplar, Labels, Matcher, TenantId, TimeRange, normalize_exemplars};
use crate::select::{SelectError, remaining_matchers};
use crate::wire::store_api::exemplars_server::{Exemplars, ExemplarsServer};
use crate::wire::store_api::{self as messages, ExemplarsRequest, ExemplarsResponse};

/// Exemplars by the label set of their series.
type BySeries = BTreeMap<Labels, Vec<Exemplar>>;

/// `thanos.Exemplars` over all tenants.
#[derive(Debug)]
pub(super) struct ExemplarsApi(pub(super) Arc<Shared>);

impl ExemplarsApi {
    pub(super) fn service(shared: Arc<Shared>) -> ExemplarsServer<Self> {
        ExemplarsServer::new(Self(shared))
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(messages::REQUEST_BYTES_MAX)
    }
}

/// Reads the selectors of an expression; each must ask for something.
fn selectors(query: &str) -> Result<Vec<Vec<Matcher>>, StoreError> {
    let name = "query";
    let selectors = query_selectors(query).map_err(|source| StoreError::Selector { name, source })?;
    match selectors.iter().any(|matchers| is_empty(matchers)) {
        true => Err(StoreError::EmptySelector(name)),
        false => Ok(selectors),
    }
}

impl Shared {
    async fn selectors(&self, query: String) -> Result<Vec<Vec<Matcher>>, StoreError> {
        // Expressions are compiled here.
        self.selector.cpu().run(move || selectors(&query)).await?
    }

    /// Finds the exemplars of all tenants; series get external labels and the tenant's.
    async fn exemplars_of_all(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<BySeries, StoreError> {
        let selector = self.selector.within(&self.budget(true));
        let mut all = BySeries::new();
        for matchers in selectors {
            for tenant in self.matching_tenants(matchers) {
                let own = tenant_labels(&self.settings.tenant_label, &tenant);
                let matchers_for =
                    |external: &Labels| remaining_matchers(matchers, &external.with_external(&own, &[]));
                for found in selector.exemplars(&tenant, range, &matchers_for).await? {
                    let added = found.external_labels.with_external(&own, &[]);
                    let labels = found.labels.with_external(&added, &[]);
                    all.entry(labels).or_default().extend(found.exemplars);
                    self.check_exemplar_series(&all)?;
                }
            }
        }
        Ok(normalized(all))
    }

    /// Finds the exemplars of one tenant, without added labels.
    async fn exemplars_of_one(
        &self,
        tenant: &TenantId,
        selectors: &[Vec<Matcher>],
        (range, hidden): (TimeRange, &[String]),
    ) -> Result<BySeries, StoreError> {
        let selector = self.selector.within(&self.budget(true));
        let mut all = BySeries::new();
        for matchers in selectors {
            let matchers_for = |_: &Labels| Some(matchers.clone());
            for found in selector.exemplars(tenant, range, &matchers_for).await? {
                let labels = found.labels.with_external(&Labels::empty(), hidden);
                all.entry(labels).or_default().extend(found.exemplars);
                self.check_exemplar_series(&all)?;
            }
        }
        Ok(normalized(all))
    }

    fn check_exemplar_series(&self, found: &BySeries) -> Result<(), StoreError> {
        let allowed = self.settings.limits.series_max;
        if allowed > 0 && found.len() > allowed {
            return Err(SelectError::TooManySeries(allowed).into());
        }
        Ok(())
    }
}

fn normalized(mut all: BySeries) -> BySeries {
    all.values_mut().for_each(normalize_exemplars);
    all.retain(|_, exemplars| !exemplars.is_empty());
    all
}

#[tonic::async_trait]
impl Exemplars for ExemplarsApi {
    type ExemplarsStream = Pin<Box<dyn Stream<Item = Result<ExemplarsResponse, Status>> + Send>>;

    async fn exemplars(
        &self,
        request: Request<ExemplarsRequest>,
    ) -> Result<Response<Self::ExemplarsStream>, Status> {
        let (shared, waits, request) = (&self.0, client_waits(&request), request.into_inner());
        let work = async {
            let selectors = shared.selectors(request.query).await?;
            let range = TimeRange::from_inclusive(request.start, request.end);
            let all = shared.with_relief(|| shared.exemplars_of_all(&selectors, range)).await?;
            shared.instruments.served("Exemplars", all.len() as u64, 0);
            let answers = all.iter().map(|(labels, exemplars)| Ok(data_message(labels, exemplars)));
            let answers: Self::ExemplarsStream = Box::pin(futures::stream::iter(answers.collect::<Vec<_>>()));
            Ok(answers)
        };
        shared.call("Exemplars", waits, work).await
    }
}

fn data_message(labels: &Labels, exemplars: &[Exemplar]) -> ExemplarsResponse {
    let exemplars = exemplars.iter().map(|exemplar| messages::Exemplar {
        labels: Some(label_set(&exemplar.labels)),
        value: exemplar.value,
        timestamp: exemplar.ts_ms,
    });
    let data =
        messages::ExemplarData { series_labels: Some(label_set(labels)), exemplars: exemplars.collect() };
    ExemplarsResponse { result: Some(messages::exemplars_response::Result::Data(data)) }
}

#[derive(Serialize)]
struct SeriesObject {
    #[serde(rename = "seriesLabels")]
    series_labels: LabelObject,
    exemplars: Vec<ExemplarObject>,
}

#[derive(Serialize)]
struct ExemplarObject {
    labels: LabelObject,
    value: String,
    /// In seconds.
    timestamp: f64,
}

/// `/api/v1/query_exemplars`.
pub(super) async fn query_exemplars(State(shared): State<Arc<Shared>>, request: HttpRequest) -> HttpResponse {
    let work = async {
        let (tenant, form) = shared.form(request).await?;
        let query = form.first("query").unwrap_or_default().to_owned();
        let range = form.range()?;
        if range.is_empty() {
            let allowed = "a time after \"start\"";
            let value = form.first("end").unwrap_or_default().to_owned();
            return Err(StoreError::Parameter { name: "end", value, allowed });
        }
        let hidden = Hiding::parse(&form)?.labels(&shared.settings.replica_labels);
        let selectors = shared.selectors(query).await?;
        let find = || shared.exemplars_of_one(&tenant, &selectors, (range, &hidden));
        let all = shared.with_relief(find).await?;
        shared.instruments.served("query_exemplars", all.len() as u64, 0);
        Ok(shared.selector.cpu().run(move || json::success(&objects(all), false)).await?)
    };
    shared.answer("query_exemplars", work).await
}

fn objects(all: BySeries) -> Vec<SeriesObject> {
    let exemplar = |exemplar: Exemplar| ExemplarObject {
        labels: LabelObject(exemplar.labels),
        value: json::float(exemplar.value),
        timestamp: exemplar.ts_ms as f64 / 1_000.0,
    };
    let series = all.into_iter().map(|(labels, exemplars)| SeriesObject {
        series_labels: LabelObject(labels),
        exemplars: exemplars.into_iter().map(exemplar).collect(),
    });
    series.collect()
}
