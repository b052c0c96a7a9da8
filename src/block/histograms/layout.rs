//! What the samples of a row share.

use crate::model::{FloatHistogram, Histogram, HistogramSample, NativeHistogram, Span, is_stale};

/// Where the buckets of one side lie.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Side {
    pub(super) spans: Vec<Span>,
    /// How many buckets there are; another number than that of the spans where a sender contradicts itself.
    pub(super) buckets: usize,
    /// The buckets' places, ascending; `None` where `spans` are not the shortest that cover them.
    places: Option<Vec<i64>>,
}

impl Side {
    pub(super) fn new(spans: &[Span], buckets: usize) -> Self {
        let places =
            places_of(spans, buckets).filter(|places| shortest_spans(places).as_deref() == Some(spans));
        Self { spans: spans.to_vec(), buckets, places }
    }

    /// Returns whether a sample with these spans has exactly the buckets of this side.
    fn is(&self, spans: &[Span], buckets: usize) -> bool {
        self.buckets == buckets && self.spans == spans
    }

    /// Returns the union of two sides, if one exists.
    fn union(&self, other: &Self) -> Option<Self> {
        let (ours, theirs) = (self.places.as_ref()?, other.places.as_ref()?);
        let mut places = [ours.as_slice(), theirs.as_slice()].concat();
        places.sort_unstable();
        places.dedup();
        let spans = shortest_spans(&places)?;
        Some(Self { spans, buckets: places.len(), places: Some(places) })
    }

    /// Returns for each bucket of a sample with these spans its number on this side; `None` where the sample has
    /// exactly these buckets.
    pub(super) fn numbers_of(&self, spans: &[Span], buckets: usize) -> Option<Vec<usize>> {
        if self.is(spans, buckets) {
            return None;
        }
        let ours = self.places.as_deref().unwrap_or_default();
        let theirs = places_of(spans, buckets).unwrap_or_default();
        let mut next = 0;
        let number = |place: &i64| {
            next += ours[next..].iter().position(|p| p == place)?;
            Some(next)
        };
        Some(theirs.iter().filter_map(number).collect())
    }
}

/// Returns the places of buckets; `None` where spans and number of buckets contradict each other.
pub(super) fn places_of(spans: &[Span], buckets: usize) -> Option<Vec<i64>> {
    let total = spans.iter().try_fold(0u64, |sum, span| sum.checked_add(u64::from(span.length)))?;
    if usize::try_from(total).ok()? != buckets {
        return None;
    }
    let mut places = Vec::with_capacity(buckets);
    let mut next = 0i64;
    for span in spans {
        next = next.checked_add(i64::from(span.offset))?;
        let end = next.checked_add(i64::from(span.length))?;
        places.extend(next..end);
        next = end;
    }
    Some(places)
}

/// Returns the fewest spans that cover places; `None` where they do not ascend or are further apart than a span can say.
pub(super) fn shortest_spans(places: &[i64]) -> Option<Vec<Span>> {
    let mut spans: Vec<Span> = Vec::new();
    let mut end = 0i64;
    for place in places {
        match spans.last_mut() {
            Some(_) if *place < end => return None,
            Some(last) if *place == end => last.length = last.length.checked_add(1)?,
            _ => spans.push(Span { offset: i32::try_from(place.checked_sub(end)?).ok()?, length: 1 }),
        }
        end = place.checked_add(1)?;
    }
    Some(spans)
}

/// The fields of a histogram that a row has once, and its sides.
#[derive(Debug, Clone)]
pub(super) struct Shape<'a> {
    pub(super) float: bool,
    schema: i32,
    zero_threshold: f64,
    custom_values: &'a [f64],
    pub(super) positive: (&'a [Span], usize),
    pub(super) negative: (&'a [Span], usize),
}

impl<'a> Shape<'a> {
    pub(super) fn of(histogram: &'a NativeHistogram) -> Self {
        match histogram {
            NativeHistogram::Int(h) => Self {
                float: false,
                schema: h.schema,
                zero_threshold: h.zero_threshold,
                custom_values: &h.custom_values,
                positive: (&h.positive_spans, h.positive_buckets.len()),
                negative: (&h.negative_spans, h.negative_buckets.len()),
            },
            NativeHistogram::Float(h) => Self {
                float: true,
                schema: h.schema,
                zero_threshold: h.zero_threshold,
                custom_values: &h.custom_values,
                positive: (&h.positive_spans, h.positive_buckets.len()),
                negative: (&h.negative_spans, h.negative_buckets.len()),
            },
        }
    }

    pub(super) fn buckets(&self) -> usize {
        self.positive.1 + self.negative.1
    }
}

/// Returns the stale marker that is nothing else.
pub(super) fn bare(float: bool, sum: f64, counter_reset_hint: u8) -> NativeHistogram {
    match float {
        false => {
            NativeHistogram::Int(Box::new(Histogram { counter_reset_hint, sum, ..Histogram::default() }))
        }
        true => {
            let bare = FloatHistogram { counter_reset_hint, sum, ..FloatHistogram::default() };
            NativeHistogram::Float(Box::new(bare))
        }
    }
}

/// Returns whether a sample is a stale marker and nothing else.
pub(super) fn is_bare(sample: &HistogramSample) -> bool {
    let (float, sum, hint) = match &sample.histogram {
        NativeHistogram::Int(h) => (false, h.sum, h.counter_reset_hint),
        NativeHistogram::Float(h) => (true, h.sum, h.counter_reset_hint),
    };
    is_stale(sum) && sample.histogram == bare(float, sum, hint)
}

/// What the samples of a row share.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    pub(super) float: bool,
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) custom_values: Vec<f64>,
    pub(super) positive: Side,
    pub(super) negative: Side,
}

impl Layout {
    pub(super) fn new(shape: &Shape<'_>) -> Self {
        Self {
            float: shape.float,
            schema: shape.schema,
            zero_threshold: shape.zero_threshold,
            custom_values: shape.custom_values.to_vec(),
            positive: Side::new(shape.positive.0, shape.positive.1),
            negative: Side::new(shape.negative.0, shape.negative.1),
        }
    }

    pub(super) fn buckets(&self) -> usize {
        self.positive.buckets + self.negative.buckets
    }

    /// Returns whether a sample has exactly this layout.
    pub(super) fn is(&self, shape: &Shape<'_>) -> bool {
        self.agrees(shape)
            && self.positive.is(shape.positive.0, shape.positive.1)
            && self.negative.is(shape.negative.0, shape.negative.1)
    }

    /// Returns the layout that holds both this one's samples and another one, if there is such a layout.
    pub(super) fn union(&self, shape: &Shape<'_>) -> Option<Self> {
        if !self.agrees(shape) {
            return None;
        }
        let side = |ours: &Side, (spans, buckets): (&[Span], usize)| match ours.is(spans, buckets) {
            true => Some(ours.clone()),
            false => ours.union(&Side::new(spans, buckets)),
        };
        let positive = side(&self.positive, shape.positive)?;
        let negative = side(&self.negative, shape.negative)?;
        Some(Self { positive, negative, ..self.clone() })
    }

    fn agrees(&self, shape: &Shape<'_>) -> bool {
        let mut bounds = self.custom_values.iter().zip(shape.custom_values);
        self.float == shape.float
            && self.schema == shape.schema
            && self.zero_threshold.to_bits() == shape.zero_threshold.to_bits()
            && self.custom_values.len() == shape.custom_values.len()
            && bounds.all(|(ours, theirs)| ours.to_bits() == theirs.to_bits())
    }
}
