//! Finding the series that match.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};

use super::budget::{QueryBudget, SelectLimits};
use super::cache::ReadCache;
use super::error::SelectError;
use super::local_blocks::LocalBlocks;
use super::readers::BlockReaders;
use super::selection::{Found, Selection, Source};
use super::tsdb_blocks::{TsdbBlocks, TsdbSeries};
use super::view::CatalogView;
use crate::block::BlockReader;
use crate::bucket::Bucket;
use crate::catalog::{BlockEntry, BlockKind};
use crate::head::{Head, HeadSeries, Heads};
use crate::model::{Labels, METRIC_NAME, MatchKind, Matcher, Resolution, TenantId, TimeRange, Ulid};
use crate::runtime::Cpu;

/// So many blocks are searched at once.
pub(super) const BLOCKS_AT_ONCE: usize = 8;

/// Whether series of different producers stay apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grouping {
    /// One selection per set of external labels.
    ByExternalLabels,
    /// One selection; equal label sets of different producers are one series.
    Merged,
}

/// A source and the matchers that remain for it.
pub(super) type Asked = (Source, Arc<Vec<Matcher>>);

/// Finds series in heads and blocks; clones share everything.
#[derive(Debug, Clone)]
pub struct Selector {
    heads: Option<(Arc<Heads>, Labels)>,
    local: Option<Arc<LocalBlocks>>,
    view: Option<Arc<CatalogView>>,
    /// Opens what the view names.
    readers: Option<BlockReaders>,
    directory: Option<DataDirectory>,
    cpu: Cpu,
    limits: SelectLimits,
    /// Set in the copy that serves one query.
    budget: Option<Arc<QueryBudget>>,
}

/// A Prometheus data directory, shown as the blocks of one tenant.
#[derive(Debug, Clone)]
struct DataDirectory {
    blocks: Arc<TsdbBlocks>,
    tenant: TenantId,
    external_labels: Labels,
}

impl Selector {
    /// Makes a selector over the heads of this process (with its external labels), the blocks of the catalogs, or
    /// both.
    #[must_use]
    pub fn new(
        heads: Option<(Arc<Heads>, Labels)>,
        view: Option<Arc<CatalogView>>,
        bucket: Bucket,
        cpu: Cpu,
        (limits, cache): (SelectLimits, Arc<ReadCache>),
    ) -> Self {
        let readers = Some(BlockReaders::new(bucket, cpu.clone(), cache));
        Self { heads, local: None, view, readers, directory: None, cpu, limits, budget: None }
    }

    /// Makes a selector over a Prometheus data directory, whose series are a tenant's and have external labels.
    #[must_use]
    pub fn over_directory(
        blocks: Arc<TsdbBlocks>,
        (tenant, external_labels): (TenantId, Labels),
        cpu: Cpu,
        limits: SelectLimits,
    ) -> Self {
        let directory = Some(DataDirectory { blocks, tenant, external_labels });
        Self { heads: None, local: None, view: None, readers: None, directory, cpu, limits, budget: None }
    }

    /// Also finds series in blocks that wait in files for their commit.
    #[must_use]
    pub fn with_local_blocks(self, local: &Arc<LocalBlocks>) -> Self {
        let readers = self.readers.map(|readers| readers.with_local_blocks(Arc::clone(local)));
        Self { local: Some(Arc::clone(local)), readers, ..self }
    }

    /// Returns the selector for one query, which ends as soon as it is beyond its budget.
    #[must_use]
    pub fn within(&self, budget: &Arc<QueryBudget>) -> Self {
        Self { budget: Some(Arc::clone(budget)), ..self.clone() }
    }

    /// Returns the compute threads.
    #[must_use]
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// Returns what bounds the query that this copy serves.
    pub(super) fn budget(&self) -> Option<&Arc<QueryBudget>> {
        self.budget.as_ref()
    }

    /// Returns all tenants, sorted.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantId> {
        let mut tenants = self.heads.as_ref().map_or_else(Vec::new, |(heads, _)| heads.tenants());
        tenants.extend(self.local.iter().flat_map(|local| local.tenants()));
        tenants.extend(self.view.iter().flat_map(|view| view.tenants()));
        tenants.extend(self.directory.iter().map(|directory| directory.tenant.clone()));
        tenants.sort();
        tenants.dedup();
        tenants
    }

    /// Returns the sets of external labels that a tenant's samples carry.
    ///
    /// # Errors
    /// A catalog, or a part of it, that cannot be read: there may be further sets.
    pub async fn external_labels(&self, tenant: &TenantId) -> Result<Vec<Labels>, SelectError> {
        if let Some(unreadable) = self.view.as_ref().and_then(|view| view.unreadable(tenant)) {
            return Err(unreadable);
        }
        let mut sets: Vec<Labels> = Vec::new();
        if let Some((heads, external)) = &self.heads
            && !heads.of_tenant(tenant).is_empty()
        {
            sets.push(external.clone());
        }
        if let Some(directory) = self.directory_of(tenant) {
            sets.push(directory.external_labels.clone());
        }
        for block in self.local.iter().flat_map(|local| local.of_tenant(tenant)) {
            if !sets.contains(&block.external_labels) {
                sets.push(block.external_labels.clone());
            }
        }
        if let Some(snapshot) = self.view.as_ref().and_then(|view| view.snapshot(tenant)) {
            for block in snapshot.blocks().await? {
                if !sets.contains(&block.external_labels) {
                    sets.push(block.external_labels.clone());
                }
            }
        }
        Ok(sets)
    }

    /// Returns the time of the first sample or exemplar in heads, where there are any.
    #[must_use]
    pub fn heads_min_time_ms(&self) -> Option<i64> {
        self.heads.as_ref().and_then(|(heads, _)| heads.min_time_ms())
    }

    /// Returns the time of the first sample in blocks, where there are any; those of a catalog that does not read may
    /// be of any time.
    #[must_use]
    pub fn blocks_min_time_ms(&self) -> Option<i64> {
        if self.view.as_ref().is_some_and(|view| view.has_unreadable()) {
            return Some(i64::MIN);
        }
        if let Some(directory) = &self.directory {
            return Some(directory.blocks.range().start_ms);
        }
        let local = self.local.as_ref().and_then(|local| local.min_time_ms());
        let view = self.view.iter();
        let snapshots = view.flat_map(|view| view.tenants().into_iter().filter_map(|t| view.snapshot(&t)));
        let first = snapshots.filter_map(|snapshot| {
            let version = snapshot.version();
            let parts = version.parts.iter().map(|part| part.min_time_ms);
            version.blocks.iter().map(|block| block.min_time_ms).chain(parts).min()
        });
        first.chain(local).min()
    }

    /// Returns the time of each of a tenant's blocks with raw samples.
    ///
    /// # Errors
    /// A catalog part that cannot be read.
    pub async fn raw_ranges(&self, tenant: &TenantId) -> Result<Vec<TimeRange>, SelectError> {
        let Some(snapshot) = self.view.as_ref().and_then(|view| view.snapshot(tenant)) else {
            return Ok(Vec::new());
        };
        let blocks = snapshot.blocks().await?;
        Ok(blocks.iter().filter(|block| is_raw(block)).map(|block| block.range()).collect())
    }

    /// Finds the series of a tenant that have samples in `range`. `matchers_for` is asked once per set of external
    /// labels and returns the matchers that remain for the series' own labels, or `None` where none can match.
    ///
    /// # Errors
    /// Blocks that cannot be read, and more series than a query may select.
    pub async fn select(
        &self,
        tenant: &TenantId,
        range: TimeRange,
        matchers_for: &(dyn Fn(&Labels) -> Option<Vec<Matcher>> + Send + Sync),
        grouping: Grouping,
    ) -> Result<Vec<Selection>, SelectError> {
        let mut groups: BTreeMap<Labels, Vec<Asked>> = BTreeMap::new();
        for (external, source) in self.sources(tenant, range).await? {
            let Some(matchers) = matchers_for(&external) else { continue };
            if source.can_match(&matchers) {
                let group = if grouping == Grouping::Merged { Labels::empty() } else { external };
                groups.entry(group).or_default().push((source, Arc::new(matchers)));
            }
        }
        let mut selections = Vec::new();
        for (external, sources) in groups {
            let finds = sources.iter().map(|(source, matchers)| self.find(tenant, source, matchers, range));
            let finds = futures::stream::iter(finds.collect::<Vec<_>>()).buffered(BLOCKS_AT_ONCE);
            let found: Vec<Found> = finds.try_collect().await?;
            let range_of_group = (external, range);
            let selection = self.cpu.run(move || Selection::merge(range_of_group, found)).await?;
            selections.push(selection.with_cpu(self.cpu.clone()));
        }
        self.check_limits(&selections)?;
        Ok(selections)
    }

    /// Heads first, local blocks second, the catalog last: see the module's invariants.
    pub(super) async fn sources(
        &self,
        tenant: &TenantId,
        range: TimeRange,
    ) -> Result<Vec<(Labels, Source)>, SelectError> {
        let mut sources = Vec::new();
        let heads = self.heads_of(tenant).into_iter();
        sources.extend(heads.map(|(external, head)| (external, Source::Head(head))));
        if let Some(DataDirectory { blocks, external_labels, .. }) = self.directory_of(tenant) {
            let blocks = blocks.of_range(range).map(|block| Source::Tsdb(Arc::clone(block)));
            sources.extend(blocks.map(|block| (external_labels.clone(), block)));
        }
        for block in self.blocks_in(tenant, range).await?.into_iter().filter(|block| is_raw(block)) {
            sources.push((block.external_labels.clone(), Source::Unopened(block)));
        }
        Ok(sources)
    }

    /// Returns the blocks of every kind, those in local files first.
    pub(super) async fn blocks_in(
        &self,
        tenant: &TenantId,
        range: TimeRange,
    ) -> Result<Vec<Arc<BlockEntry>>, SelectError> {
        let mut blocks = self.local.as_ref().map_or_else(Vec::new, |local| local.in_range(tenant, range));
        if let Some(unreadable) = self.view.as_ref().and_then(|view| view.unreadable(tenant)) {
            return Err(unreadable);
        }
        if let Some(snapshot) = self.view.as_ref().and_then(|view| view.snapshot(tenant)) {
            let served: HashSet<Ulid> = blocks.iter().map(|block| block.id).collect();
            let listed = snapshot.blocks_in(range).await?;
            blocks.extend(listed.into_iter().filter(|block| !served.contains(&block.id)));
        }
        Ok(blocks)
    }

    /// Returns the tenant's heads in this process, and their external labels.
    pub(super) fn heads_of(&self, tenant: &TenantId) -> Vec<(Labels, Arc<Head>)> {
        let Some((heads, external)) = &self.heads else { return Vec::new() };
        heads.of_tenant(tenant).into_iter().map(|head| (external.clone(), head)).collect()
    }

    /// Returns what opens blocks.
    pub(super) fn readers(&self) -> &BlockReaders {
        self.readers.as_ref().expect("blocks come from a view or local files, which have readers")
    }

    fn directory_of(&self, tenant: &TenantId) -> Option<&DataDirectory> {
        self.directory.as_ref().filter(|directory| directory.tenant == *tenant)
    }

    async fn find(
        &self,
        tenant: &TenantId,
        source: &Source,
        matchers: &Arc<Vec<Matcher>>,
        range: TimeRange,
    ) -> Result<Found, SelectError> {
        match source {
            Source::Head(head) => {
                let (head, matchers) = (Arc::clone(head), Arc::clone(matchers));
                let budget = self.budget.clone();
                let find = move || {
                    let series = head.select(&matchers, range);
                    admit(
                        budget.as_deref(),
                        series.iter().map(|s| (&s.labels, s.samples_max as u64, size_of::<HeadSeries>())),
                    )?;
                    Ok(Found::in_head(series, head))
                };
                self.cpu.run(find).await?
            }
            Source::Unopened(entry) => {
                let reader = self.open(tenant, entry).await?;
                let rows = reader.find_rows(matchers, range).await;
                let rows = rows.map_err(|source| SelectError::of_block(entry.id, source))?;
                Ok(Found::in_block(rows, reader, entry))
            }
            Source::Tsdb(block) => {
                let (block, matchers) = (Arc::clone(block), Arc::clone(matchers));
                let budget = self.budget.clone();
                let find = move || {
                    let series = block.select(&matchers, range)?;
                    admit(
                        budget.as_deref(),
                        series.iter().map(|(labels, _, samples)| {
                            (labels, *samples, size_of::<TsdbSeries>() + labels.as_bytes().len())
                        }),
                    )?;
                    Ok(Found::in_tsdb(series, block))
                };
                self.cpu.run(find).await?
            }
        }
    }

    /// Opens a block for this query.
    pub(super) async fn open(
        &self,
        tenant: &TenantId,
        entry: &BlockEntry,
    ) -> Result<BlockReader, SelectError> {
        self.readers().open(tenant, entry, self.budget.as_ref()).await
    }

    fn check_limits(&self, selections: &[Selection]) -> Result<(), SelectError> {
        let SelectLimits { series_max, samples_max, .. } = self.limits;
        if series_max > 0 && selections.iter().map(Selection::len).sum::<usize>() > series_max {
            return Err(SelectError::TooManySeries(series_max));
        }
        if samples_max > 0 && selections.iter().map(Selection::samples_max).sum::<u64>() > samples_max {
            return Err(SelectError::TooManySamples(samples_max));
        }
        Ok(())
    }
}

/// Counts series against a query's budget, where it has one.
pub(super) fn admit<'a>(
    budget: Option<&QueryBudget>,
    mut series: impl Iterator<Item = (&'a Labels, u64, usize)>,
) -> Result<(), SelectError> {
    let Some(budget) = budget else { return Ok(()) };
    series.try_for_each(|(labels, samples, bytes)| budget.find(labels, samples, bytes as u64))
}

impl Source {
    /// Returns whether a block's metric names leave room for a match.
    pub(super) fn can_match(&self, matchers: &[Matcher]) -> bool {
        match self {
            Self::Head(_) | Self::Tsdb(_) => true,
            Self::Unopened(entry) => may_match(matchers, entry),
        }
    }
}

fn is_raw(block: &BlockEntry) -> bool {
    let has_samples = matches!(block.kind, BlockKind::Samples | BlockKind::Histograms);
    has_samples && block.resolution == Resolution::Raw
}

/// Returns whether a block's metric names leave room for a match.
pub(super) fn may_match(matchers: &[Matcher], entry: &BlockEntry) -> bool {
    matchers.iter().all(|m| metric_in_range(m, entry))
}

fn metric_in_range(matcher: &Matcher, entry: &BlockEntry) -> bool {
    matcher.name() != METRIC_NAME
        || matcher.kind() != MatchKind::Equal
        || (entry.metric_min.as_str() <= matcher.value() && matcher.value() <= entry.metric_max.as_str())
}

/// Evaluates the matchers on added labels, which stand above a series' own, and returns the others; `None` where
/// one of them does not match.
#[must_use]
pub fn remaining_matchers(matchers: &[Matcher], added: &Labels) -> Option<Vec<Matcher>> {
    let mut own = Vec::with_capacity(matchers.len());
    for matcher in matchers {
        match added.get(matcher.name()) {
            None => own.push(matcher.clone()),
            Some(value) if matcher.matches(value) => {}
            Some(_) => return None,
        }
    }
    Some(own)
}
