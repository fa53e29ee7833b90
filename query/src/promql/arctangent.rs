//! The arctangent to the last bit of Prometheus's, which is that of its language's library and differs in some last bits from
//! the C library's: a deviation of nearly equal angles shows them.
//!
//! Source: Cephes (Moshier), `atan.c`: a rational function of degree 4 / 5 up to 0.66, and two reductions of the argument.
#![allow(clippy::excessive_precision, reason = "as published")]
use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI};

/// What π/2 has beyond its nearest double.
const MORE_BITS: f64 = 6.123233995736765886130e-17;
/// tan(3π/8).
const TAN_3_PI_8: f64 = 2.41421356237309504880;

const P: [f64; 5] = [
    -8.750608600031904122785e-01,
    -1.615753718733365076637e+01,
    -7.500855792314704667340e+01,
    -1.228866684490136173410e+02,
    -6.485021904942025371773e+01,
];
const Q: [f64; 5] = [
    2.485846490142306297962e+01,
    1.650270098316988542046e+02,
    4.328810604912902668951e+02,
    4.853903996359136964868e+02,
    1.945506571482613964425e+02,
];

/// Up to 0.66.
fn near_zero(x: f64) -> f64 {
    let z = x * x;
    let p = P[1..].iter().fold(P[0], |sum, p| sum * z + p);
    let q = Q[1..].iter().fold(z + Q[0], |sum, q| sum * z + q);
    x * (z * p / q) + x
}

/// The arctangent of `x`, radians.
pub(super) fn atan(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() {
        return x;
    }
    let magnitude = x.abs();
    let angle = if magnitude <= 0.66 {
        near_zero(magnitude)
    } else if magnitude > TAN_3_PI_8 {
        FRAC_PI_2 - near_zero(1.0 / magnitude) + MORE_BITS
    } else {
        FRAC_PI_4 + near_zero((magnitude - 1.0) / (magnitude + 1.0)) + 0.5 * MORE_BITS
    };
    angle.copysign(x)
}

/// The angle of the point (`x`, `y`), radians from -π to π.
pub(super) fn atan2(y: f64, x: f64) -> f64 {
    // Zeros, infinities and NaN are exact everywhere.
    if !(y.is_finite() && x.is_finite()) || y == 0.0 || x == 0.0 {
        return y.atan2(x);
    }
    let angle = atan(y / x);
    match x < 0.0 {
        true if angle <= 0.0 => angle + PI,
        true => angle - PI,
        false => angle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_are_those_of_the_c_library_but_for_the_last_bits() {
        let near = |a: f64, b: f64| (a - b).abs() <= 4.0 * f64::EPSILON * b.abs().max(f64::MIN_POSITIVE);
        for i in -4000..4000 {
            let x = f64::from(i) * 0.0137;
            assert!(near(atan(x), x.atan()), "{x}: {} {}", atan(x), x.atan());
            for y in [-1e11, -2.5, -1e-9, 0.0, 1e-9, 0.3, 7e10] {
                assert!(near(atan2(y, x), y.atan2(x)), "{y}, {x}: {} {}", atan2(y, x), y.atan2(x));
            }
        }
        for x in [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, f64::MAX] {
            assert_eq!(atan(x).to_bits(), x.atan().to_bits(), "{x}");
        }
        assert!(atan(f64::NAN).is_nan() && atan2(f64::NAN, 1.0).is_nan());
        // Where the quotient is too small for a double its sign is lost.
        assert_eq!(atan2(-1e-320, -1e300), PI);
    }
}
