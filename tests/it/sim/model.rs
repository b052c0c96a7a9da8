//! What was sent, what was acknowledged, and so what every reader must find.

use std::collections::BTreeMap;

use super::node::SeriesRead;
use perennial::model::{Labels, Sample, TenantId};

/// Processes that take writes, as bits; see [`super::node::Serving::bit`].
pub(super) type Receivers = u128;

/// What is known of the samples of one timestamp.
#[derive(Debug, Default)]
struct Cell {
    /// Everything that was ever sent, to whom.
    sent: Vec<(Receivers, Sample)>,
    /// What must be readable where all of these receivers are.
    promised: Vec<(Receivers, Sample)>,
}

/// What was written by all writers.
#[derive(Debug, Default)]
pub(super) struct Model(BTreeMap<TenantId, BTreeMap<Labels, BTreeMap<i64, Cell>>>);

/// What was promised at a moment.
#[derive(Debug)]
pub(super) struct Promises(BTreeMap<Labels, BTreeMap<i64, Vec<(Receivers, Sample)>>>);

/// What a read must find.
pub(super) type Expected = BTreeMap<Labels, BTreeMap<i64, Sample>>;

impl Promises {
    /// Returns what must be found where these receivers can be read.
    pub(super) fn kept_by(&self, receivers: Receivers) -> Expected {
        let mut expected = Expected::new();
        for (labels, cells) in &self.0 {
            let winners = cells.iter().filter_map(|(ts_ms, promised)| {
                let kept = promised.iter().filter(|(by, _)| by & !receivers == 0);
                Some((*ts_ms, kept.map(|(_, sample)| *sample).reduce(Sample::winner)?))
            });
            let winners: BTreeMap<i64, Sample> = winners.collect();
            if !winners.is_empty() {
                expected.insert(labels.clone(), winners);
            }
        }
        expected
    }
}

impl Model {
    fn cell(&mut self, tenant: &TenantId, labels: &Labels, ts_ms: i64) -> &mut Cell {
        let series = self.0.entry(tenant.clone()).or_default().entry(labels.clone()).or_default();
        series.entry(ts_ms).or_default()
    }

    /// Records that a request leaves for a receiver: from here on its samples may appear.
    pub(super) fn send(&mut self, tenant: &TenantId, to: Receivers, batch: &[(Labels, Vec<Sample>)]) {
        for (labels, sample) in each(batch) {
            let sent = &mut self.cell(tenant, labels, sample.ts_ms).sent;
            match sent.iter_mut().find(|(_, known)| *known == sample) {
                Some((receivers, _)) => *receivers |= to,
                None => sent.push((to, sample)),
            }
        }
    }

    /// Records that a request was acknowledged: from here on its samples must be there.
    pub(super) fn acknowledge(&mut self, tenant: &TenantId, by: Receivers, batch: &[(Labels, Vec<Sample>)]) {
        for (labels, sample) in each(batch) {
            self.cell(tenant, labels, sample.ts_ms).promised.push((by, sample));
        }
    }

    /// Returns what is promised now, whoever can keep it.
    pub(super) fn promises(&self, tenant: &TenantId) -> Promises {
        let series = self.0.get(tenant).into_iter().flatten();
        let promised = series.map(|(labels, cells)| {
            let cells = cells.iter().filter(|(_, cell)| !cell.promised.is_empty());
            (labels.clone(), cells.map(|(ts_ms, cell)| (*ts_ms, cell.promised.clone())).collect())
        });
        Promises(promised.collect())
    }

    /// Compares a read with what was expected when it began, and with all that was sent until now. What was seen
    /// once must not go again, so it counts as promised from here on.
    pub(super) fn check(
        &mut self,
        tenant: &TenantId,
        expected: &Expected,
        read: &SeriesRead,
    ) -> Result<(), String> {
        let nothing = BTreeMap::new();
        for (labels, samples) in read {
            if let Some(pair) = samples.windows(2).find(|pair| pair[0].ts_ms >= pair[1].ts_ms) {
                return Err(format!("{labels:?}: out of order or twice: {pair:?}"));
            }
            let wanted = expected.get(labels).unwrap_or(&nothing);
            for sample in samples {
                let cell = self.cell(tenant, labels, sample.ts_ms);
                let Some((receivers, _)) = cell.sent.iter().find(|(_, sent)| sent == sample) else {
                    return Err(format!("{labels:?}: {sample:?} was never written"));
                };
                let receivers = *receivers;
                if let Some(wanted) = wanted.get(&sample.ts_ms)
                    && wanted.winner(*sample) != *sample
                {
                    return Err(format!("{labels:?}: {sample:?} in place of the acknowledged {wanted:?}"));
                }
                if !cell.promised.iter().any(|(_, known)| known == sample) {
                    cell.promised.push((receivers, *sample));
                }
            }
        }
        let found: BTreeMap<&Labels, &Vec<Sample>> = read.iter().map(|(labels, all)| (labels, all)).collect();
        for (labels, wanted) in expected {
            let samples = found.get(labels).map_or(&[] as &[Sample], |samples| samples.as_slice());
            let lost = |ts_ms: &i64| samples.binary_search_by_key(ts_ms, |sample| sample.ts_ms).is_err();
            let lost: Vec<&Sample> = wanted.iter().filter(|(ts_ms, _)| lost(ts_ms)).map(|(_, s)| s).collect();
            if let Some(first) = lost.first() {
                return Err(format!("{labels:?}: {} samples are gone, the first is {first:?}", lost.len()));
            }
        }
        Ok(())
    }

    pub(super) fn tenants(&self) -> Vec<TenantId> {
        self.0.keys().cloned().collect()
    }

    /// Counts timestamps with an acknowledged sample.
    pub(super) fn promised(&self) -> usize {
        let cells = self.0.values().flat_map(BTreeMap::values).flat_map(BTreeMap::values);
        cells.filter(|cell| !cell.promised.is_empty()).count()
    }
}

fn each(batch: &[(Labels, Vec<Sample>)]) -> impl Iterator<Item = (&Labels, Sample)> {
    batch.iter().flat_map(|(labels, samples)| samples.iter().map(move |sample| (labels, *sample)))
}
