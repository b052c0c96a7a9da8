//! `thanos.info.Info` over gRPC: what this process serves.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::error::StoreError;
use super::grpc::status;
use super::reads::{Shared, tenant_labels};
use crate::model::{Labels, error_chain};
use crate::wire::store_api::info::info_server::{Info, InfoServer};
use crate::wire::store_api::info::{
    ExemplarsInfo, InfoRequest, InfoResponse, MetricMetadataInfo, StoreInfo, TsdbInfo,
};
use crate::wire::store_api::{Label, LabelSet};

/// `thanos.info.Info` over all tenants.
#[derive(Debug)]
pub(super) struct InfoApi(pub(super) Arc<Shared>);

impl InfoApi {
    pub(super) fn service(shared: Arc<Shared>) -> InfoServer<Self> {
        InfoServer::new(Self(shared))
    }
}

#[tonic::async_trait]
impl Info for InfoApi {
    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        // An error keeps queriers away until the next time they ask.
        if !self.0.is_ready() {
            return Err(status(&StoreError::NotReady));
        }
        Ok(Response::new(self.0.info().await))
    }
}

impl Shared {
    async fn info(&self) -> InfoResponse {
        let (min_time, max_time) = self.times();
        let label_sets = self.label_sets().await;
        let tsdb_infos =
            label_sets.iter().map(|labels| TsdbInfo { labels: Some(labels.clone()), min_time, max_time });
        let component = if self.settings.head_max_age_ms.is_some() { "receive" } else { "store" };
        InfoResponse {
            component_type: component.to_owned(),
            store: Some(StoreInfo {
                min_time,
                max_time,
                supports_sharding: true,
                supports_without_replica_labels: true,
                tsdb_infos: tsdb_infos.collect(),
            }),
            metric_metadata: Some(MetricMetadataInfo {}),
            exemplars: Some(ExemplarsInfo { min_time, max_time }),
            label_sets,
            ..InfoResponse::default()
        }
    }

    /// Returns the times that may be asked for, both inclusive. Heads take samples up to `max_age` back at any
    /// moment and keep them until readers find them in blocks; blocks may gain newer samples at any moment.
    fn times(&self) -> (i64, i64) {
        let accepted = self.settings.head_max_age_ms.map(|age| self.clock.now_ms().saturating_sub(age));
        // Heads before blocks: what moves from one to the other between the two looks is seen.
        let held = [self.selector.heads_min_time_ms(), self.selector.blocks_min_time_ms()];
        match held.into_iter().chain([accepted]).flatten().min() {
            None => (i64::MAX, i64::MIN),
            Some(min) => (min, i64::MAX),
        }
    }

    /// Returns the labels that series of each tenant and producer carry. One tenant's damage neither silences it, as
    /// nobody would be told of it, nor the others.
    async fn label_sets(&self) -> Vec<LabelSet> {
        let mut sets: Vec<Labels> = Vec::new();
        for tenant in self.selector.tenants() {
            let own = tenant_labels(&self.settings.tenant_label, &tenant);
            match self.selector.external_labels(&tenant).await {
                Ok(external) => {
                    sets.extend(external.iter().map(|external| external.with_external(&own, &[])));
                }
                Err(error) => {
                    let error = error_chain(&error);
                    tracing::warn!(%tenant, error, "cannot tell a tenant's external labels, announcing its own label");
                    sets.push(own);
                }
            }
        }
        sets.sort();
        sets.dedup();
        sets.iter().map(label_set).collect()
    }
}

pub(super) fn label_set(labels: &Labels) -> LabelSet {
    let label = |(name, value): (&str, &str)| Label { name: name.to_owned(), value: value.to_owned() };
    LabelSet { labels: labels.iter().map(label).collect() }
}
