//! What every read API shares: finding series within a query's bounds.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tonic::service::Routes;

use super::error::StoreError;
use super::exemplars::ExemplarsApi;
use super::grpc::StoreApi;
use super::info::InfoApi;
use super::instruments::Instruments;
use super::metric_metadata::MetadataApi;
use super::series_list::SERIES_BYTES;
use super::settings::StoreSettings;
use crate::model::{ErrorKind, Labels, Matcher, TenantId, TimeRange};
use crate::runtime::{Clock, MemoryReservation, MemoryUse, Metrics, Shutdown};
use crate::select::{
    Grouping, LabelQuery, QueryBudget, SelectError, Selection, Selector, remaining_matchers,
};

/// What a query takes beside its series and batches: the pages that they are read from, and encoded messages.
const QUERY_BYTES: u64 = 4 << 20;

/// So many tenants are searched at once.
const TENANTS_AT_ONCE: usize = 4;

/// The read side of a process; clones share it.
#[derive(Debug, Clone)]
pub struct Reads(pub(super) Arc<Shared>);

/// Tells whether the process may be asked yet.
struct Ready(Arc<dyn Fn() -> bool + Send + Sync>);

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ready({})", (self.0)())
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) selector: Selector,
    pub(super) settings: StoreSettings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) instruments: Instruments,
    ready: Ready,
    shutdown: Shutdown,
    places: Arc<Semaphore>,
}

/// Series of one producer and tenant, and the labels that StoreAPI adds to each of them.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) added: Labels,
    pub(super) selection: Selection,
}

/// An answer about the labels of one producer and tenant, and the labels that StoreAPI adds to each of its series.
#[derive(Debug)]
pub(super) struct LookedUp {
    pub(super) added: Labels,
    pub(super) answer: BTreeSet<String>,
}

/// A query's place among those served at once.
#[derive(Debug)]
pub(super) struct Place {
    _turn: OwnedSemaphorePermit,
    _memory: MemoryReservation,
}

/// How long a query may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    at: Instant,
    allowed: Duration,
}

impl Reads {
    /// Prepares the read side over a selector. `ready` says whether queriers may come yet.
    #[must_use]
    pub fn new(
        selector: Selector,
        settings: StoreSettings,
        clock: Arc<dyn Clock>,
        ready: Arc<dyn Fn() -> bool + Send + Sync>,
        shutdown: Shutdown,
        metrics: &Metrics,
    ) -> Self {
        let places = settings.query_concurrency.clamp(1, Semaphore::MAX_PERMITS);
        let (places, instruments) = (Arc::new(Semaphore::new(places)), Instruments::new(metrics));
        let ready = Ready(ready);
        Self(Arc::new(Shared { selector, settings, clock, instruments, ready, shutdown, places }))
    }

    /// Returns the services `thanos.Store`, `thanos.Exemplars`, `thanos.Metadata` and `thanos.info.Info`, which serve
    /// all tenants.
    #[must_use]
    pub fn grpc_routes(&self) -> Routes {
        Routes::new(StoreApi::service(Arc::clone(&self.0)))
            .add_service(ExemplarsApi::service(Arc::clone(&self.0)))
            .add_service(MetadataApi::service(Arc::clone(&self.0)))
            .add_service(InfoApi::service(Arc::clone(&self.0)))
    }

    /// Returns `/api/v1/series`, `/api/v1/labels`, `/api/v1/label/{name}/values`, `/api/v1/query_exemplars`,
    /// `/api/v1/metadata`, `/api/v1/status/buildinfo` and `/api/v1/read`, which serve the tenant of the header.
    pub fn http_routes(&self) -> axum::Router {
        super::metadata::routes(Arc::clone(&self.0))
    }
}

impl Shared {
    pub(super) fn is_ready(&self) -> bool {
        (self.ready.0)()
    }

    /// Returns when a query must end that came now, given how long its client waits.
    pub(super) fn deadline(&self, client_waits: Option<Duration>) -> Deadline {
        let allowed = self.settings.query_timeout.min(client_waits.unwrap_or(Duration::MAX));
        // Far enough for any query, and near enough to be added to now.
        let allowed = allowed.min(Duration::from_secs(30 * 86_400));
        Deadline { at: Instant::now() + allowed, allowed }
    }

    /// Runs work until its deadline and no longer than the process.
    pub(super) async fn within<T>(
        &self,
        deadline: Deadline,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        tokio::select! {
            biased;
            () = self.shutdown.wait() => Err(StoreError::Stopping),
            () = tokio::time::sleep_until(deadline.at) => Err(StoreError::Deadline(deadline.allowed.as_millis())),
            outcome = work => outcome,
        }
    }

    /// Waits for a place among the queries that are served at once, and takes the memory that any query needs.
    pub(super) async fn place(&self) -> Result<Place, StoreError> {
        let turn = Arc::clone(&self.places).acquire_owned().await.map_err(|_| StoreError::Stopping)?;
        let memory = self.with_relief(|| async { self.reserve(QUERY_BYTES) }).await?;
        Ok(Place { _turn: turn, _memory: memory })
    }

    /// Finds what a query is about. One for which no memory is left begins once more when memory is no longer short: a
    /// cut may be under way that gives much back.
    pub(super) async fn with_relief<T, F>(&self, find: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        match find().await {
            Err(error) if error.kind() == ErrorKind::Overloaded && self.settings.memory.relief().await => {
                find().await
            }
            outcome => outcome,
        }
    }

    /// Takes memory for a query until it ends.
    pub(super) fn reserve(&self, bytes: u64) -> Result<MemoryReservation, StoreError> {
        Ok(self.settings.memory.reserve(MemoryUse::Queries, bytes)?)
    }

    /// Finds the series of all tenants, matchers on added labels included.
    pub(super) async fn select_all(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        budget: &Arc<QueryBudget>,
    ) -> Result<Vec<Found>, StoreError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let selector = &self.selector.within(budget);
        let tenant_label = self.settings.tenant_label.as_str();
        let selects = self.matching_tenants(matchers).into_iter().map(|tenant| async move {
            let own = tenant_labels(tenant_label, &tenant);
            let matchers_for =
                |external: &Labels| remaining_matchers(matchers, &external.with_external(&own, &[]));
            let grouping = Grouping::ByExternalLabels;
            let selections = selector.select(&tenant, range, &matchers_for, grouping).await?;
            let found = selections.into_iter().map(|selection| {
                let added = selection.external_labels().with_external(&own, &[]);
                Found { added, selection }
            });
            Ok::<Vec<Found>, SelectError>(found.filter(|f| !f.selection.is_empty()).collect())
        });
        // Collected first: a lazy map over borrowed closures is not general enough for a spawned future.
        let selects = futures::stream::iter(selects.collect::<Vec<_>>()).buffered(TENANTS_AT_ONCE);
        let found: Vec<Vec<Found>> = selects.try_collect().await?;
        let found: Vec<Found> = found.into_iter().flatten().collect();
        self.check_series(&found)?;
        Ok(found)
    }

    /// Returns what one query may find and fetch.
    pub(super) fn budget(&self, reads_samples: bool) -> Arc<QueryBudget> {
        QueryBudget::new(self.settings.limits, reads_samples, self.settings.memory.clone())
    }

    /// Takes the memory for a list of what was found, before it is made.
    pub(super) fn reserve_list(&self, found: &[Found]) -> Result<MemoryReservation, StoreError> {
        let series: u64 = found.iter().map(|found| found.selection.len() as u64).sum();
        self.reserve(series.saturating_mul(SERIES_BYTES))
    }

    /// Returns the tenants that a query can be about: damage of others does not concern it.
    pub(super) fn matching_tenants(&self, matchers: &[Matcher]) -> Vec<TenantId> {
        let label = self.settings.tenant_label.as_str();
        let on_tenant: Vec<&Matcher> = matchers.iter().filter(|m| m.name() == label).collect();
        let mut tenants = self.selector.tenants();
        tenants.retain(|tenant| on_tenant.iter().all(|m| m.matches(tenant.as_str())));
        tenants
    }

    /// Answers about labels for all tenants, with the labels that are added to the series of each answer; one without
    /// series is left out. Asked for the values of an added label, an answer is not about its value.
    pub(super) async fn look_up_all(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        query: &LabelQuery,
    ) -> Result<Vec<LookedUp>, StoreError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let selector = &self.selector.within(&self.budget(false));
        let tenant_label = self.settings.tenant_label.as_str();
        let look_ups = self.matching_tenants(matchers).into_iter().map(|tenant| async move {
            let own = tenant_labels(tenant_label, &tenant);
            let matchers_for =
                |external: &Labels| remaining_matchers(matchers, &external.with_external(&own, &[]));
            // Of the tenant's label only one value is possible: any label tells whether there is a series.
            let is_tenant = matches!(query, LabelQuery::Values(name) if name == tenant_label);
            let query = if is_tenant { &LabelQuery::Names } else { query };
            let found = selector.look_up(&tenant, range, &matchers_for, query).await?;
            let found = found.into_iter().map(|(external, answer)| {
                let added = external.with_external(&own, &[]);
                LookedUp { added, answer }
            });
            Ok::<Vec<LookedUp>, SelectError>(found.collect())
        });
        let look_ups = futures::stream::iter(look_ups.collect::<Vec<_>>()).buffered(TENANTS_AT_ONCE);
        let found: Vec<Vec<LookedUp>> = look_ups.try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Answers about the labels of one tenant's series, without added labels.
    pub(super) async fn look_up_one(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        query: &LabelQuery,
        budget: &Arc<QueryBudget>,
    ) -> Result<LookedUp, StoreError> {
        let answer = match range.is_empty() {
            true => BTreeSet::new(),
            false => self.selector.within(budget).look_up_own(tenant, range, matchers, query).await?,
        };
        Ok(LookedUp { added: Labels::empty(), answer })
    }

    /// Finds the series of one tenant, equal label sets of different producers as one.
    pub(super) async fn select_one(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        budget: &Arc<QueryBudget>,
    ) -> Result<Vec<Found>, StoreError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let matchers_for = |_: &Labels| Some(matchers.to_vec());
        let selector = self.selector.within(budget);
        let selections = selector.select(tenant, range, &matchers_for, Grouping::Merged).await?;
        let found = selections.into_iter().map(|selection| Found { added: Labels::empty(), selection });
        let found: Vec<Found> = found.filter(|f| !f.selection.is_empty()).collect();
        self.check_series(&found)?;
        Ok(found)
    }

    fn check_series(&self, found: &[Found]) -> Result<(), StoreError> {
        let allowed = self.settings.limits.series_max;
        if allowed > 0 && found.iter().map(|f| f.selection.len()).sum::<usize>() > allowed {
            return Err(SelectError::TooManySeries(allowed).into());
        }
        Ok(())
    }

    /// Refuses more samples than one query may read.
    pub(super) fn check_samples(&self, samples_max: u64) -> Result<(), StoreError> {
        let allowed = self.settings.limits.samples_max;
        if allowed > 0 && samples_max > allowed {
            return Err(SelectError::TooManySamples(allowed).into());
        }
        Ok(())
    }
}

/// Returns the label set that names a tenant.
pub(super) fn tenant_labels(tenant_label: &str, tenant: &TenantId) -> Labels {
    Labels::from_pairs([(tenant_label, tenant.as_str())]).unwrap_or_else(|_| Labels::empty())
}
