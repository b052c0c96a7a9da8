//! Exact decimals: values that are an integer divided by a power of ten, bit for bit.

/// The powers of ten by which scaled integers are divided; all are exact doubles.
pub(super) const POWERS_OF_TEN: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Scaled integers stay below 2^53, where every integer is an exact double.
const SCALED_MAX: f64 = 9_007_199_254_740_992.0;

/// Returns the integer whose division by the power gives back the very bits of `value`.
#[inline]
fn scale_exactly(value: f64, power: f64) -> Option<i64> {
    let scaled = (value * power).round_ties_even();
    // NaN fails the first comparison, -0.0 the second: an integer zero has no sign.
    (scaled.abs() < SCALED_MAX && ((scaled as i64) as f64 / power).to_bits() == value.to_bits())
        .then_some(scaled as i64)
}

/// Finds one scale at which all values are exact, and appends the scaled integers.
///
/// Returns `None`, with nothing appended, where there is no such scale. The scale is the least one at which each
/// value seen so far was exact: a value exact at a lower scale stays exact at a higher one while it is below 2^53,
/// since quotient and correct rounding are the same.
pub(super) fn scale_values(values: &[f64], scaled: &mut Vec<i64>) -> Option<u8> {
    let mut scale = 0;
    for value in values {
        while scale_exactly(*value, POWERS_OF_TEN[scale]).is_none() {
            scale += 1;
            if scale == POWERS_OF_TEN.len() {
                return None;
            }
        }
    }
    let start = scaled.len();
    let power = POWERS_OF_TEN[scale];
    scaled.reserve(values.len());
    for value in values {
        match scale_exactly(*value, power) {
            Some(integer) => scaled.push(integer),
            None => {
                scaled.truncate(start);
                return None;
            }
        }
    }
    u8::try_from(scale).ok()
}
