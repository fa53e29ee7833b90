//! Analogues: the days most like the last one, and what followed them.
//!
//! Nearest neighbours over the series' own past (Lorenz 1969; Martínez et al. 2019): windows of one season that end at
//! the same place of the season as the series does, compared without their level, later values counting more. What
//! followed the nearest is put on the present level and averaged.
use super::backtest::Span;
use super::seasons::Seasons;

/// Neighbours averaged, and the fewest there must be to choose from.
const NEIGHBOURS: usize = 5;
const WINDOWS_MIN: usize = 3;
/// Weight of the oldest value of a window; that of the newest is 1.
const OLDEST: f64 = 0.5;
/// Windows looked at, the newest.
const WINDOWS_MAX: usize = 1_000;

/// `None` without a season, or with too few of them.
pub(super) fn followed(values: &[f64], seasons: &Seasons, spans: &[Span]) -> Option<Vec<Vec<f64>>> {
    let &period = seasons.within(spans.first()?.origin).first()?;
    spans.iter().map(|span| one(&values[..span.origin], period, span.steps)).collect()
}

fn one(past: &[f64], period: usize, steps: usize) -> Option<Vec<f64>> {
    let n = past.len();
    let last = &past[n - period..];
    let level = mean(last);
    // the first end, counted back in seasons, with `steps` known values after it
    let first = steps.div_ceil(period);
    let ends: Vec<usize> = (first..n / period).take(WINDOWS_MAX).map(|back| n - back * period).collect();
    if ends.len() < WINDOWS_MIN {
        return None;
    }
    let mut windows: Vec<(f64, f64, usize)> = ends
        .into_iter()
        .map(|end| {
            let window = &past[end - period..end];
            let other = mean(window);
            let distance = window.iter().zip(last).enumerate().map(|(i, (a, b))| {
                let weight = OLDEST + (1.0 - OLDEST) * (i + 1) as f64 / period as f64;
                let apart = (a - other) - (b - level);
                weight * apart * apart
            });
            (distance.sum::<f64>() / period as f64, other, end)
        })
        .collect();
    // stable: of equal ones the newest
    windows.sort_by(|a, b| a.0.total_cmp(&b.0));
    windows.truncate(NEIGHBOURS);
    // exact repetitions share all the weight there is
    let floor = 1e-12 * (1.0 + level * level);
    let all: f64 = windows.iter().map(|w| 1.0 / w.0.max(floor)).sum();
    let mut next = vec![0.0; steps];
    for (distance, other, end) in windows {
        let weight = 1.0 / distance.max(floor) / all;
        next.iter_mut().zip(&past[end..]).for_each(|(sum, v)| *sum += weight * (v - other + level));
    }
    Some(next)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_after_a_day_like_this_is_repeated_on_the_present_level() {
        // two kinds of day in an order without a period of their own: after an odd day comes a calm one
        let kinds = [0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 1];
        let day =
            |kind: i32, hour: usize| if kind == 1 { [9.0, 1.0, 5.0, 3.0][hour] } else { [1.0, 2.0, 3.0, 2.0][hour] };
        let values: Vec<f64> = kinds.iter().flat_map(|&kind| (0..4).map(move |hour| 10.0 + day(kind, hour))).collect();
        let seasons = Seasons::find(&values, Some(4), 1);
        let next = followed(&values, &seasons, &[Span { origin: values.len(), steps: 4 }]).unwrap().remove(0);
        // all windows like the last one have its level
        for (hour, v) in next.iter().enumerate() {
            assert!((v - (10.0 + day(0, hour))).abs() < 1e-6, "{next:?}");
        }
    }

    #[test]
    fn without_a_season_or_enough_of_them_nothing_is_like_anything() {
        let values: Vec<f64> = (0..40).map(|i| f64::from(i % 10)).collect();
        let whole = [Span { origin: 40, steps: 5 }];
        assert_eq!(followed(&values, &Seasons::default(), &whole), None);
        let seasons = Seasons::find(&values, Some(10), 1);
        assert!(followed(&values, &seasons, &whole).is_some());
        assert_eq!(followed(&values, &seasons, &[Span { origin: 40, steps: 15 }]), None);
    }
}
