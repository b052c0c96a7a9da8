//! Everything as DuckDB sees it in the files.

use std::collections::BTreeMap;

use super::made::{BOTH, FLOATS, HISTOGRAMS};
use super::model::{ANY_NAN, Exemplars, Held, Model, Point};
use super::read::{said, text_bits};
use super::wire::{Exemplar, Histogram, Metadata, Span};
use crate::support::{LabelPairs, Python, STALE_BITS, SampleSet, Setup, label_pairs};

const TENANT: &str = "default-tenant";

/// The numbers of one histogram: count, sum, and the counts of its buckets from the lowest bound up, as bits of
/// doubles. A stale marker has none.
type Numbers = Option<(u64, u64, Vec<u64>)>;

fn metric_of(labels: &LabelPairs) -> &str {
    &labels.iter().find(|(name, _)| name == "__name__").unwrap().1
}

fn labels(metric: &str, number: &str) -> LabelPairs {
    label_pairs(&[("__name__", metric), ("job", "made"), ("number", number)])
}

/// Returns the bits of a number that DuckDB printed as `BIT`.
fn bit_text(text: &str) -> u64 {
    u64::from_str_radix(text, 2).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Returns absolute counts of buckets, as bits of doubles.
fn bucket_counts(spans: &[Span], deltas: &[i64], counts: &[u64]) -> Vec<u64> {
    let absolute = deltas.iter().scan(0, |count: &mut i64, delta| {
        *count += delta;
        Some((*count as f64).to_bits())
    });
    let all: Vec<u64> = absolute.chain(counts.iter().copied()).collect();
    assert_eq!(all.len(), spans.iter().map(|span| span.length as usize).sum::<usize>());
    all
}

fn numbers(h: &Histogram) -> Numbers {
    if h.sum == STALE_BITS {
        return None;
    }
    let whole = |count: Option<u64>| count.map(|count| (count as f64).to_bits());
    let count = whole(h.count_int).or(h.count_float).unwrap();
    let zero = whole(h.zero_count_int).or(h.zero_count_float).unwrap();
    let mut buckets = bucket_counts(&h.negative_spans, &h.negative_deltas, &h.negative_counts);
    buckets.reverse();
    buckets.extend((f64::from_bits(zero) != 0.0).then_some(zero));
    buckets.extend(bucket_counts(&h.positive_spans, &h.positive_deltas, &h.positive_counts));
    Some((count, h.sum, buckets))
}

struct Files<'a> {
    python: &'a Python,
    setup: &'a Setup,
    views: String,
}

impl Files<'_> {
    fn rows(&self, query: &str) -> Vec<Vec<String>> {
        self.python.duckdb_rows(&self.views, query, self.setup.folder())
    }

    fn check_floats(&self, model: &Model) {
        let mut expected = SampleSet::default();
        let floats =
            model.series.iter().filter(|(labels, held)| metric_of(labels) == FLOATS && !held.is_empty());
        for (labels, held) in floats {
            let bits = |held: &Held| match held.point {
                Point::Float(bits) => bits,
                Point::Histogram(_) => panic!("a series of floats"),
            };
            expected.append(labels.clone(), held.iter().map(|(ts_ms, held)| (*ts_ms, bits(held))));
        }
        let mut found = self.python.duckdb_samples(self.setup, TENANT);
        found.series.retain(|labels, _| metric_of(labels) == FLOATS);
        expected.assert_same(&found, "DuckDB, floats");
    }

    /// Where a float and a histogram have one time SQL has both, so only series of histograms alone are compared.
    fn check_histograms(&self, model: &Model) {
        let rows = self.rows(&format!(
            "SELECT number, epoch_ms(ts), \"count\"::BIT::VARCHAR, \"sum\"::BIT::VARCHAR, \
             list_aggregate(list_transform(buckets, lambda b: b.\"count\"::BIT::VARCHAR), 'string_agg', ' ') \
             FROM histograms WHERE __name__ = '{HISTOGRAMS}'"
        ));
        let mut found = BTreeMap::new();
        for row in &rows {
            let numbers = (row[3] != "None").then(|| {
                let buckets = row[4].split_whitespace().map(bit_text).collect();
                (bit_text(&row[2]), bit_text(&row[3]), buckets)
            });
            let at = (labels(HISTOGRAMS, &row[0]), row[1].parse::<i64>().unwrap());
            assert!(found.insert(at.clone(), numbers).is_none(), "{at:?} came twice");
        }
        let mut expected = BTreeMap::new();
        for (labels, held) in model.series.iter().filter(|(labels, _)| metric_of(labels) == HISTOGRAMS) {
            for (ts_ms, held) in held {
                let Point::Histogram(histogram) = &held.point else { panic!("a series of histograms") };
                expected.insert((labels.clone(), *ts_ms), numbers(histogram));
            }
        }
        assert!(expected.len() > 100, "there is something to compare");
        for (at, numbers) in &expected {
            assert_eq!(found.get(at), Some(numbers), "DuckDB, histogram {at:?}");
        }
        assert_eq!(found.len(), expected.len(), "DuckDB has no other histograms");
    }

    /// Blocks that overlap hold several samples for one time: that which stays has its start timestamp among theirs.
    fn check_starts(&self, model: &Model) {
        let starts = |view: &str, metric: &str| {
            self.rows(&format!(
                "SELECT '{metric}', number, epoch_ms(t), string_agg(coalesce(epoch_ms(s), 0), ' ') FROM \
                 (SELECT number, unnest(_ts) AS t, unnest(_st) AS s FROM {view} WHERE __name__ = '{metric}' \
                 AND _st IS NOT NULL) GROUP BY ALL"
            ))
        };
        let mut found: BTreeMap<(LabelPairs, i64), Vec<i64>> = BTreeMap::new();
        for row in starts("block_rows", FLOATS).into_iter().chain(starts("histogram_rows", HISTOGRAMS)) {
            let starts = row[3].split(' ').map(|start| start.parse().unwrap()).collect();
            found.insert((labels(&row[0], &row[1]), row[2].parse().unwrap()), starts);
        }
        let mut compared = 0;
        for (labels, held) in model.series.iter().filter(|(labels, _)| metric_of(labels) != BOTH) {
            for (ts_ms, held) in held.iter().filter(|(_, held)| held.start_ms != 0) {
                let starts = found.get(&(labels.clone(), *ts_ms));
                let kept = starts.is_some_and(|starts| starts.contains(&held.start_ms));
                assert!(kept, "{labels:?} at {ts_ms} started {}: {starts:?}", held.start_ms);
                compared += 1;
            }
        }
        assert!(compared > 100, "{compared} start timestamps were compared");
    }

    fn check_exemplars(&self, model: &Model) {
        let rows = self.rows(
            "SELECT __name__, number, epoch_ms(ts), value::VARCHAR, trace_id, span_id, \
             coalesce(to_json(exemplar_labels)::VARCHAR, '{}') FROM exemplars",
        );
        let mut found = Exemplars::new();
        for row in rows {
            let more: BTreeMap<String, String> = serde_json::from_str(&row[6]).unwrap();
            let mut own: LabelPairs = more.into_iter().collect();
            let ids = [("trace_id", &row[4]), ("span_id", &row[5])];
            let ids = ids.into_iter().filter(|(_, id)| *id != "None");
            own.extend(ids.map(|(name, id)| (name.to_owned(), id.clone())));
            own.sort();
            let bits = match row[3].as_str() {
                "-nan" => ANY_NAN,
                text => text_bits(text),
            };
            let one = Exemplar { ts_ms: row[2].parse().unwrap(), labels: own, bits };
            found.entry(labels(&row[0], &row[1])).or_default().push(one);
        }
        // Blocks that hold the same exemplar, sent twice, show it twice.
        found.values_mut().for_each(|exemplars| {
            exemplars.sort();
            exemplars.dedup();
        });
        let mut expected = model.exemplars();
        expected.values_mut().for_each(Vec::dedup);
        assert_eq!(found, expected, "DuckDB, exemplars");
    }

    fn check_metadata(&self, model: &Model) {
        let rows = self.rows("SELECT family, \"type\", help, unit FROM metadata ORDER BY family, since");
        let mut found: BTreeMap<String, Vec<Metadata>> = BTreeMap::new();
        for row in rows {
            found.entry(row[0].clone()).or_default().push(said(&row[1], &row[2], &row[3]));
        }
        assert_eq!(found, model.metadata, "DuckDB, metadata");
    }
}

/// Compares all that is in blocks with the model.
pub(super) fn check(python: &Python, setup: &Setup, model: &Model) {
    let views = setup.command(&["sql-view", "--engine", "duckdb", "--tenant", TENANT]);
    let files = Files { python, setup, views };
    files.check_floats(model);
    files.check_histograms(model);
    files.check_starts(model);
    files.check_exemplars(model);
    files.check_metadata(model);
}
