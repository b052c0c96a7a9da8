//! Type, help and unit of metric families: `thanos.Metadata` over all tenants, `/api/v1/metadata` for the tenant of the
//! header.
//!
//! A family's list starts with what was received last and has every other that was ever received once. With
//! `history=true` HTTP shows each change with the time from which it was received.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::{Request as HttpRequest, State};
use axum::response::Response as HttpResponse;
use futures::Stream;
use serde::Serialize;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};

use super::grpc::client_waits;
use super::json;
use super::parameters::{parse_bool, parse_count};
use super::reads::Shared;
use crate::model::{MetadataEntry, TenantId, normalize_metadata};
use crate::select::SelectError;
use crate::wire::store_api::metadata_server::{Metadata, MetadataServer};
use crate::wire::store_api::{
    Meta, MetricMetadata, MetricMetadataEntry, MetricMetadataRequest, MetricMetadataResponse,
    PartialResponseStrategy, REQUEST_BYTES_MAX, metric_metadata_response,
};

/// Entries by family, the newest first.
type ByFamily = BTreeMap<String, Vec<MetadataEntry>>;

/// `thanos.Metadata` over all tenants.
#[derive(Debug)]
pub(super) struct MetadataApi(pub(super) Arc<Shared>);

impl MetadataApi {
    pub(super) fn service(shared: Arc<Shared>) -> MetadataServer<Self> {
        MetadataServer::new(Self(shared))
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(REQUEST_BYTES_MAX)
    }
}

/// Groups entries by family, each with its newest first, and keeps so many families; all below 0, as in Prometheus.
fn by_family(mut entries: Vec<MetadataEntry>, limit: i64) -> ByFamily {
    normalize_metadata(&mut entries);
    let mut families = ByFamily::new();
    for entry in entries.into_iter().rev() {
        families.entry(entry.family.clone()).or_default().push(entry);
    }
    if let Ok(limit) = usize::try_from(limit) {
        while families.len() > limit {
            families.pop_last();
        }
    }
    families
}

/// Leaves of equal entries the newest.
fn distinct(entries: &mut Vec<MetadataEntry>) {
    let mut kept: Vec<MetadataEntry> = Vec::new();
    for entry in entries.drain(..) {
        if kept.iter().all(|newer| newer.metadata != entry.metadata) {
            kept.push(entry);
        }
    }
    *entries = kept;
}

#[tonic::async_trait]
impl Metadata for MetadataApi {
    type MetricMetadataStream = Pin<Box<dyn Stream<Item = Result<MetricMetadataResponse, Status>> + Send>>;

    async fn metric_metadata(
        &self,
        request: Request<MetricMetadataRequest>,
    ) -> Result<Response<Self::MetricMetadataStream>, Status> {
        let (shared, waits, request) = (&self.0, client_waits(&request), request.into_inner());
        let work = async {
            let metric = (!request.metric.is_empty()).then_some(request.metric.as_str());
            let may_lack = request.partial_response_strategy() == PartialResponseStrategy::Warn;
            let (mut entries, mut answers) = (Vec::new(), Vec::new());
            for tenant in shared.selector.tenants() {
                match shared.selector.metadata(&tenant, metric).await {
                    Ok(found) => entries.extend(found),
                    Err(error) if may_lack => answers.push(Ok(warning(&tenant, &error))),
                    Err(error) => return Err(error.into()),
                }
            }
            let limit = request.limit.into();
            answers.push(Ok(shared.selector.cpu().run(move || message(by_family(entries, limit))).await?));
            let answers: Self::MetricMetadataStream = Box::pin(futures::stream::iter(answers));
            Ok(answers)
        };
        shared.call("MetricMetadata", waits, work).await
    }
}

/// The request names no tenant: one that cannot be read must not hide the others.
fn warning(tenant: &TenantId, error: &SelectError) -> MetricMetadataResponse {
    let text = format!("the metadata of tenant {tenant} is missing: {error}");
    MetricMetadataResponse { result: Some(metric_metadata_response::Result::Warning(text)) }
}

fn message(families: ByFamily) -> MetricMetadataResponse {
    let metadata: HashMap<String, MetricMetadataEntry> = families
        .into_iter()
        .map(|(family, mut entries)| {
            distinct(&mut entries);
            let metas = entries.into_iter().map(|entry| Meta {
                r#type: entry.metadata.kind.name().to_owned(),
                help: entry.metadata.help,
                unit: entry.metadata.unit,
            });
            (family, MetricMetadataEntry { metas: metas.collect() })
        })
        .collect();
    let metadata = metric_metadata_response::Result::Metadata(MetricMetadata { metadata });
    MetricMetadataResponse { result: Some(metadata) }
}

#[derive(Serialize)]
struct MetadataObject {
    r#type: &'static str,
    help: String,
    unit: String,
    /// In seconds; only where the history is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<f64>,
}

/// `/api/v1/metadata`.
pub(super) async fn metadata(State(shared): State<Arc<Shared>>, request: HttpRequest) -> HttpResponse {
    let work = async {
        let (tenant, form) = shared.form(request).await?;
        let number = |name| form.first(name).map_or(Ok(-1), |text| parse_count(name, text));
        let (limit, per_metric) = (number("limit")?, number("limit_per_metric")?);
        let history = form.first("history").map_or(Ok(false), |text| parse_bool("history", text))?;
        let entries = shared.selector.metadata(&tenant, form.first("metric")).await?;
        let render = move || {
            let objects: BTreeMap<String, Vec<MetadataObject>> = by_family(entries, limit)
                .into_iter()
                .map(|(family, entries)| (family, family_objects(entries, history, per_metric)))
                .collect();
            json::success(&objects, false)
        };
        Ok(shared.selector.cpu().run(render).await?)
    };
    shared.answer("metadata", work).await
}

fn family_objects(mut entries: Vec<MetadataEntry>, history: bool, per_metric: i64) -> Vec<MetadataObject> {
    if !history {
        distinct(&mut entries);
    }
    // As in Prometheus, where 0 is no limit here.
    if let Ok(limit @ 1..) = usize::try_from(per_metric) {
        entries.truncate(limit);
    }
    let object = |entry: MetadataEntry| MetadataObject {
        r#type: entry.metadata.kind.name(),
        help: entry.metadata.help,
        unit: entry.metadata.unit,
        since: history.then_some(entry.since_ms as f64 / 1_000.0),
    };
    entries.into_iter().map(object).collect()
}
