//! When a series reaches a limit: a disk that fills, a budget that runs out.
use super::{ForecastOptions, ForecastPoint, Horizon, forecast};
use crate::error::{Error, Result};

/// When the limit is reached; `None` in a field: not within the horizon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhaustion {
    /// When the forecast reaches it, ns UTC.
    pub ts: Option<i64>,
    /// When the nearer end of the interval reaches it: not expected before.
    pub earliest: Option<i64>,
    /// When the farther end of the interval reaches it: expected by then.
    pub latest: Option<i64>,
}

/// What rounding may take away from a forecast, as a share of the capacity.
const ROUNDING: f64 = 1e-12;

/// When a series (as for [`forecast`]) first reaches `capacity`, from the side that its first value stands on: when it
/// stands there or beyond already, that is the last row. `Ok(None)` with fewer points than any method needs.
///
/// # Errors
/// As [`forecast`], and for a capacity that is not finite.
pub fn time_to_exhaustion(
    ts: &[i64],
    values: &[f64],
    capacity: f64,
    horizon: Horizon,
    options: &ForecastOptions,
) -> Result<Option<Exhaustion>> {
    if !capacity.is_finite() {
        return Err(Error::Invalid(format!("a capacity of {capacity} is never reached, give a number")));
    }
    let Some(points) = forecast(ts, values, horizon, options)? else { return Ok(None) };
    let mut rows = ts.iter().zip(values).filter(|row| row.1.is_finite());
    let (Some((_, &first)), Some((&now, &last))) = (rows.next(), rows.next_back()) else { return Ok(None) };
    let rising = first < capacity || (first == capacity && last < capacity);
    let rounding = ROUNDING * capacity.abs();
    let reached = |value: f64| if rising { value >= capacity - rounding } else { value <= capacity + rounding };
    if reached(last) {
        return Ok(Some(Exhaustion { ts: Some(now), earliest: Some(now), latest: Some(now) }));
    }
    let first = |end: fn(&ForecastPoint) -> f64| points.iter().find(|&p| reached(end(p))).map(|p| p.ts);
    let (lo, hi) = (first(|p| p.lo), first(|p| p.hi));
    let (earliest, latest) = if rising { (hi, lo) } else { (lo, hi) };
    Ok(Some(Exhaustion { ts: first(|p| p.value), earliest, latest }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000_000;

    fn of(values: &[f64], capacity: f64, steps: usize) -> Option<Exhaustion> {
        let ts: Vec<i64> = (0..values.len() as i64).map(|i| i * HOUR).collect();
        let options = ForecastOptions { method: Some("drift".into()), ..Default::default() };
        time_to_exhaustion(&ts, values, capacity, Horizon::Steps(steps), &options).unwrap()
    }

    #[test]
    fn a_filling_and_an_emptying_disk_meet_their_ends() {
        let wave = |i: usize| 0.3 * ((i * 37 % 11) as f64 / 5.0 - 1.0);
        let up: Vec<f64> = (0..100).map(|i| 10.0 + 0.5 * i as f64 + wave(i)).collect();
        let found = of(&up, 64.5, 40).unwrap();
        // 10 + 0.5 i = 64.5 at i = 109
        let hours = found.ts.unwrap() / HOUR;
        assert!((107..=111).contains(&hours), "{found:?}");
        assert!(found.earliest < found.ts && found.ts < found.latest, "{found:?}");
        let down: Vec<f64> = up.iter().map(|v| 100.0 - v).collect();
        assert_eq!(of(&down, 35.5, 40), Some(found));
    }

    #[test]
    fn what_is_beyond_the_horizon_is_not_said() {
        let up: Vec<f64> = (0..50).map(f64::from).collect();
        assert_eq!(of(&up, 1e6, 10), Some(Exhaustion { ts: None, earliest: None, latest: None }));
        let here = Some(49 * HOUR);
        assert_eq!(of(&up, 49.0, 10), Some(Exhaustion { ts: here, earliest: here, latest: here }));
        assert_eq!(of(&up[..2], 60.0, 10), None);
    }

    #[test]
    fn what_is_beyond_the_capacity_has_reached_it() {
        let up: Vec<f64> = (0..50).map(f64::from).collect();
        let here = Some(49 * HOUR);
        assert_eq!(of(&up, 30.0, 10), Some(Exhaustion { ts: here, earliest: here, latest: here }));
        let down: Vec<f64> = up.iter().map(|v| -v).collect();
        assert_eq!(of(&down, -30.0, 10), Some(Exhaustion { ts: here, earliest: here, latest: here }));
    }

    #[test]
    fn a_constant_reaches_nothing_but_itself() {
        let here = Some(39 * HOUR);
        assert_eq!(of(&[4.0; 40], 5.0, 10), Some(Exhaustion { ts: None, earliest: None, latest: None }));
        assert_eq!(of(&[4.0; 40], 4.0, 10), Some(Exhaustion { ts: here, earliest: here, latest: here }));
    }

    #[test]
    fn a_line_reaches_its_end_to_the_step() {
        let up: Vec<f64> = (0..100).map(f64::from).collect();
        for steps in 1..40 {
            let found = of(&up, f64::from(99 + steps), 40).unwrap();
            assert_eq!(found.ts, Some((99 + i64::from(steps)) * HOUR), "{steps}");
        }
    }

    #[test]
    fn a_capacity_must_be_a_number() {
        for capacity in [f64::NAN, f64::INFINITY] {
            let error = time_to_exhaustion(&[], &[], capacity, Horizon::Steps(1), &ForecastOptions::default());
            assert!(error.is_err());
        }
    }
}
