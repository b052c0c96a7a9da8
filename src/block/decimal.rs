//! Exact decimals: values that are an integer divided by a power of ten, bit for bit.

/// The powers of ten by which scaled integers are divided; all are exact doubles.
pub(super) const POWERS_OF_TEN: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Scaled integers stay below 2^53, where every integer is an exact double.
const SCALED_MAX: f64 = 9_007_199_254_740_992.0;

/// Returns the integer whose division by the power gives back the very bits of `value`.
#[inline]
fn scale_exactly(value: f64, power: f64) -> Option<i64> {
    let product = value * power;
    // NaN fails every comparison.
    let within = product.abs() < SCALED_MAX;
    let whole = if within { product as i64 } else { 0 };
    // To the nearest integer, without the library call that `round` is on older processors.
    let rest = product - whole as f64;
    let scaled = whole + i64::from(rest >= 0.5) - i64::from(rest <= -0.5);
    // -0.0 fails the comparison of bits: an integer zero has no sign.
    (within && scaled.abs() < SCALED_MAX as i64 && (scaled as f64 / power).to_bits() == value.to_bits())
        .then_some(scaled)
}

/// Finds the least scale at which all values are exact, and appends the scaled integers.
///
/// Returns `None`, with nothing appended, where there is no such scale. A value exact at one scale stays exact at a
/// higher one while its integer is below 2^53: the quotient is the same number, and division rounds it the same.
pub(super) fn scale_values(values: &[f64], scaled: &mut Vec<i64>) -> Option<u8> {
    let start = scaled.len();
    let mut scale = 0;
    scaled.reserve(values.len());
    for value in values {
        let integer = scale_exactly(*value, POWERS_OF_TEN[scale]).or_else(|| {
            let (higher, integer) = next_scale(*value, scale)?;
            raise(&mut scaled[start..], higher - scale)?;
            scale = higher;
            Some(integer)
        });
        match integer {
            Some(integer) => scaled.push(integer),
            None => {
                scaled.truncate(start);
                return None;
            }
        }
    }
    u8::try_from(scale).ok()
}

/// Returns the next scale at which a value is exact, with its integer.
fn next_scale(value: f64, scale: usize) -> Option<(usize, i64)> {
    let higher = POWERS_OF_TEN.iter().enumerate().skip(scale + 1);
    higher.into_iter().find_map(|(scale, power)| Some((scale, scale_exactly(value, *power)?)))
}

/// Multiplies integers by 10^by; `None` where one leaves the range.
fn raise(integers: &mut [i64], by: usize) -> Option<()> {
    let factor = POWERS_OF_TEN[by] as i64;
    for integer in integers {
        *integer = integer.checked_mul(factor).filter(|raised| raised.abs() < SCALED_MAX as i64)?;
    }
    Some(())
}
