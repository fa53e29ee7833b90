//! Rates of counters and differences of gauges, extrapolated to the borders of the window as Prometheus does.
use super::super::window::Window;

pub(super) fn rate(window: &Window<'_>) -> Option<f64> {
    extrapolated(window, true).map(|increase| increase / (window.range_ms as f64 / 1000.0))
}

pub(super) fn increase(window: &Window<'_>) -> Option<f64> {
    extrapolated(window, true)
}

pub(super) fn delta(window: &Window<'_>) -> Option<f64> {
    extrapolated(window, false)
}

/// The difference over the window.
fn extrapolated(window: &Window<'_>, is_counter: bool) -> Option<f64> {
    let last = window.len() - 1;
    if last == 0 {
        return None;
    }
    let first = window.values[0];
    let mut difference = window.values[last] - first;
    if is_counter && has_reset(window.values) {
        for pair in window.values.windows(2) {
            if pair[1] < pair[0] {
                difference += pair[0];
            }
        }
    }
    let from_zero = (is_counter && difference > 0.0 && first >= 0.0).then_some((first, difference));
    Some(difference * extrapolation(window, (window.ts_ms[0], window.ts_ms[last], last), from_zero))
}

/// What a difference between samples is multiplied by to be one over the window; `first_ms`, `last_ms` and how many
/// intervals lie between. Where samples begin or end farther from the border than an interval and a tenth, half an interval
/// is added instead of the whole gap; a counter (its first value and its increase) is never taken below zero.
pub(super) fn extrapolation(
    window: &Window<'_>,
    (first_ms, last_ms, intervals): (i64, i64, usize),
    from_zero: Option<(f64, f64)>,
) -> f64 {
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let mut to_start = seconds(first_ms - (window.end_ms - window.range_ms));
    let mut to_end = seconds(window.end_ms - last_ms);
    let sampled = seconds(last_ms - first_ms);
    let between = sampled / intervals as f64;
    let threshold = between * 1.1;
    if to_start >= threshold {
        to_start = between / 2.0;
    }
    if let Some((first, increase)) = from_zero {
        let to_zero = sampled * (first / increase);
        if to_zero < to_start {
            to_start = to_zero;
        }
    }
    if to_end >= threshold {
        to_end = between / 2.0;
    }
    (sampled + to_start + to_end) / sampled
}

/// Whether a value is less than the one before: without a way out in the middle, so that several are compared at once.
fn has_reset(values: &[f64]) -> bool {
    values.iter().zip(&values[1..]).fold(false, |found, (old, new)| found | (new < old))
}

pub(super) fn irate(window: &Window<'_>) -> Option<f64> {
    let (old, new, seconds) = newest_pair(window)?;
    // After a reset the counter has counted `new` since.
    Some(if new < old { new } else { new - old } / seconds)
}

pub(super) fn idelta(window: &Window<'_>) -> Option<f64> {
    newest_pair(window).map(|(old, new, _)| new - old)
}

/// The two newest values and the seconds between them.
fn newest_pair(window: &Window<'_>) -> Option<(f64, f64, f64)> {
    let [.., old, new] = window.values else { return None };
    let [.., old_ms, new_ms] = window.ts_ms else { return None };
    (new_ms != old_ms).then(|| (*old, *new, (new_ms - old_ms) as f64 / 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window<'a>(ts_ms: &'a [i64], values: &'a [f64], end_ms: i64, range_ms: i64) -> Window<'a> {
        Window { ts_ms, values, end_ms, range_ms, now_ms: end_ms, step: 0 }
    }

    #[test]
    fn a_counter_reset_counts_from_zero() {
        let (ts, values) = ([10_000, 20_000, 30_000, 40_000], [10.0, 20.0, 5.0, 15.0]);
        // 10 up, reset, 5, 10 up: 25 over 30 s; 10 s are missing at the start, which is a tenth more than one sample or less.
        assert_eq!(increase(&window(&ts, &values, 40_000, 40_000)), Some(25.0 * (40.0 / 30.0)));
    }

    #[test]
    fn one_sample_has_no_rate() {
        assert_eq!(rate(&window(&[1], &[1.0], 10, 10)), None);
        assert_eq!(irate(&window(&[1], &[1.0], 10, 10)), None);
    }

    #[test]
    fn a_young_counter_is_not_taken_below_zero() {
        let (ts, values) = ([50_000, 60_000], [1.0, 11.0]);
        let increase = increase(&window(&ts, &values, 60_000, 15_000));
        assert_eq!(increase, Some(10.0 * (11.0 / 10.0)));
    }
}
