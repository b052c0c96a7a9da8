//! Label names and values, of label columns alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};

use super::error::SelectError;
use super::selection::Source;
use super::selector::{Asked, BLOCKS_AT_ONCE, Selector};
use crate::block::BlockReader;
use crate::model::{Labels, Matcher, TenantId, TimeRange};

/// What is asked about labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelQuery {
    /// The names of all labels.
    Names,
    /// The values of one label.
    Values(String),
}

impl LabelQuery {
    /// Adds what one series contributes.
    fn collect(&self, labels: &Labels, answer: &mut BTreeSet<String>) {
        let mut add = |text: &str| {
            if !answer.contains(text) {
                answer.insert(text.to_owned());
            }
        };
        match self {
            Self::Names => labels.iter().for_each(|(name, _)| add(name)),
            Self::Values(name) => labels.get(name).into_iter().for_each(add),
        }
    }

    async fn ask(
        &self,
        reader: &BlockReader,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<BTreeSet<String>, crate::block::BlockError> {
        match self {
            Self::Names => reader.label_names(matchers, range).await,
            Self::Values(name) => reader.label_values(name, matchers, range).await,
        }
    }
}

impl Selector {
    /// Answers for the own labels of a tenant's series that have samples in `range`, per set of external labels; a set
    /// without series is left out. An external label stands above a series' own: asked for its values, a set answers
    /// with what says that it has series, not with values. `matchers_for` is asked as in [`Selector::select`].
    ///
    /// # Errors
    /// Blocks that cannot be read, and more than a query may find.
    pub async fn look_up(
        &self,
        tenant: &TenantId,
        range: TimeRange,
        matchers_for: &(dyn Fn(&Labels) -> Option<Vec<Matcher>> + Send + Sync),
        query: &LabelQuery,
    ) -> Result<BTreeMap<Labels, BTreeSet<String>>, SelectError> {
        let query_of = |external: &Labels| match query {
            LabelQuery::Values(name) if external.get(name).is_some() => LabelQuery::Names,
            _ => query.clone(),
        };
        let found = self.look_up_sources(tenant, range, matchers_for, &query_of).await?;
        let mut answer: BTreeMap<Labels, BTreeSet<String>> = BTreeMap::new();
        for (external, mut found) in found.into_iter().filter(|(_, found)| !found.is_empty()) {
            answer.entry(external).or_default().append(&mut found);
        }
        Ok(answer)
    }

    /// Answers for the own labels of a tenant's series that have samples in `range`, whatever their external labels.
    ///
    /// # Errors
    /// Blocks that cannot be read, and more than a query may find.
    pub async fn look_up_own(
        &self,
        tenant: &TenantId,
        range: TimeRange,
        matchers: &[Matcher],
        query: &LabelQuery,
    ) -> Result<BTreeSet<String>, SelectError> {
        let matchers_for = |_: &Labels| Some(matchers.to_vec());
        let found = self.look_up_sources(tenant, range, &matchers_for, &|_| query.clone()).await?;
        Ok(found.into_iter().flat_map(|(_, found)| found).collect())
    }

    async fn look_up_sources(
        &self,
        tenant: &TenantId,
        range: TimeRange,
        matchers_for: &(dyn Fn(&Labels) -> Option<Vec<Matcher>> + Send + Sync),
        query_of: &(dyn Fn(&Labels) -> LabelQuery + Send + Sync),
    ) -> Result<Vec<(Labels, BTreeSet<String>)>, SelectError> {
        let mut asked: Vec<(Labels, Asked)> = Vec::new();
        for (external, source) in self.sources(tenant, range).await? {
            let Some(matchers) = matchers_for(&external) else { continue };
            if source.can_match(&matchers) {
                asked.push((external, (source, Arc::new(matchers))));
            }
        }
        let look_ups = asked.into_iter().map(|(external, (source, matchers))| async move {
            let query = query_of(&external);
            let found = self.look_up_in(tenant, &source, (&matchers, range), &query).await?;
            Ok::<_, SelectError>((external, found))
        });
        futures::stream::iter(look_ups.collect::<Vec<_>>()).buffered(BLOCKS_AT_ONCE).try_collect().await
    }

    async fn look_up_in(
        &self,
        tenant: &TenantId,
        source: &Source,
        (matchers, range): (&Arc<Vec<Matcher>>, TimeRange),
        query: &LabelQuery,
    ) -> Result<BTreeSet<String>, SelectError> {
        let (asked, matchers_of_job) = (query.clone(), Arc::clone(matchers));
        match source {
            Source::Head(head) => {
                let head = Arc::clone(head);
                let collect = move || {
                    let mut answer = BTreeSet::new();
                    let series = head.select(&matchers_of_job, range);
                    series.iter().for_each(|s| asked.collect(&s.labels, &mut answer));
                    answer
                };
                Ok(self.cpu().run(collect).await?)
            }
            Source::Tsdb(block) => {
                let block = Arc::clone(block);
                let collect = move || {
                    let mut answer = BTreeSet::new();
                    let series = block.select(&matchers_of_job, range)?;
                    series.iter().for_each(|(labels, ..)| asked.collect(labels, &mut answer));
                    Ok(answer)
                };
                self.cpu().run(collect).await?
            }
            Source::Unopened(entry) => {
                let reader = self.open(tenant, entry).await?;
                let found = query.ask(&reader, matchers, range).await;
                found.map_err(|source| SelectError::of_block(entry.id, source))
            }
        }
    }
}
