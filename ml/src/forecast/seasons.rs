//! The seasons of a series and the series without them.
use crate::season;
use augurs::mstl::stlrs;

const DAY_NS: i64 = 86_400_000_000_000;
/// Lengths that people live by: a day, a week, a year.
const CALENDAR_NS: [i64; 3] = [DAY_NS, 7 * DAY_NS, 365 * DAY_NS + DAY_NS / 4];
/// Longest season of the calendar that is tried, in steps.
const CALENDAR_MAX: usize = 1_000;
/// Share of the rest's variance that such a season must predict out of sample. Less than is asked of a length that
/// was picked from many.
const CALENDAR_STRENGTH_MIN: f64 = 0.1;

/// Season lengths in steps, ascending, at most two.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seasons {
    periods: Vec<usize>,
}

impl Seasons {
    /// The given season and another if the data show it, or what the data show. The second is one of the calendar's if
    /// it predicts anything, otherwise the strongest.
    pub(crate) fn find(values: &[f64], given: Option<usize>, step_ns: i64) -> Self {
        let n = values.len();
        let whole = |found: Option<(f64, f64)>| found.map(|(period, _)| period.round() as usize).filter(|&p| p >= 2);
        let first = match given {
            Some(period) => Some(period).filter(|&p| p >= 2 && 2 * p <= n),
            None => whole(season::strongest(values)).or_else(|| calendar(values, step_ns, &[])),
        };
        let Some(first) = first else { return Self::default() };
        let mut periods = vec![first];
        let rest = without_pattern(values, first);
        let strongest = || whole(season::strongest(&rest)).filter(|&p| p != first && 3 * p <= n);
        // nothing is left of the days once the weeks that they make up are taken out
        let part = calendar(values, step_ns, &periods).filter(|&p| p < first && first % p == 0);
        if let Some(second) = part.or_else(|| calendar(&rest, step_ns, &periods)).or_else(strongest) {
            periods.push(second);
        }
        periods.sort_unstable();
        Self { periods }
    }

    /// Adds one, if it is new.
    pub(super) fn add(&mut self, period: usize) {
        if let Err(place) = self.periods.binary_search(&period) {
            self.periods.insert(place, period);
        }
    }

    /// Puts the week beside a day that stands alone, once three of them were seen: what is learnt from lags of it
    /// can turn out to be nothing, and its evidence is weak as long as there are few.
    pub(super) fn with_week(mut self, n: usize, step_ns: i64) -> Self {
        if let [day] = self.periods[..]
            && i128::from(step_ns) * day as i128 == i128::from(DAY_NS)
            && 3 * 7 * day <= n
        {
            self.add(7 * day);
        }
        self
    }

    /// Those that have been seen twice in `n` values.
    pub(crate) fn within(&self, n: usize) -> &[usize] {
        let count = self.periods.iter().take_while(|&&p| 2 * p <= n).count();
        &self.periods[..count]
    }

    /// The longest one seen in full, 1 if none.
    pub(super) fn longest_in(&self, n: usize) -> usize {
        self.within(n).last().copied().unwrap_or(1)
    }
}

/// The season of the calendar, none of `known`, that predicts most of the values out of sample.
fn calendar(values: &[f64], step_ns: i64, known: &[usize]) -> Option<usize> {
    CALENDAR_NS
        .into_iter()
        .map(|length| (length as f64 / step_ns.max(1) as f64).round() as usize)
        .filter(|p| (2..=CALENDAR_MAX).contains(p) && 3 * p <= values.len() && !known.contains(p))
        .filter_map(|p| Some((p, season::strength_of(values, p)?)))
        .filter(|&(_, strength)| strength >= CALENDAR_STRENGTH_MIN)
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(p, _)| p)
}

/// Values minus the mean of their place in the season.
fn without_pattern(values: &[f64], period: usize) -> Vec<f64> {
    let mut sums = vec![(0.0, 0.0); period];
    for (i, v) in values.iter().enumerate() {
        let cell = &mut sums[i % period];
        cell.0 += v;
        cell.1 += 1.0;
    }
    values.iter().enumerate().map(|(i, v)| v - sums[i % period].0 / sums[i % period].1).collect()
}

/// A series without its seasons (MSTL, Bandara, Hyndman and Bergmeir 2021), and how to put them back.
#[derive(Clone, Debug)]
pub(super) struct Adjusted {
    pub(super) values: Vec<f64>,
    /// The last cycle of each season.
    cycles: Vec<Vec<f64>>,
}

/// Decomposition looks at this many newest values.
const VALUES_MAX: usize = 8_192;

impl Adjusted {
    pub(super) fn new(values: &[f64], seasons: &Seasons) -> Self {
        let recent = &values[values.len().saturating_sub(VALUES_MAX)..];
        let periods = seasons.within(recent.len());
        if periods.is_empty() {
            return Self { values: recent.to_vec(), cycles: Vec::new() };
        }
        match stlrs::Mstl::params().fit(recent, periods) {
            Ok(parts) if parts.seasonal().iter().flatten().all(|v: &f64| v.is_finite()) => {
                let mut rest = recent.to_vec();
                let mut cycles = Vec::new();
                for (season, &period) in parts.seasonal().iter().zip(periods) {
                    rest.iter_mut().zip(season).for_each(|(v, s)| *v -= s);
                    cycles.push(season[season.len() - period..].to_vec());
                }
                Self { values: rest, cycles }
            }
            _ => Self { values: recent.to_vec(), cycles: Vec::new() },
        }
    }

    /// Adds the seasons to values that follow the last one.
    pub(super) fn reseason(&self, mut next: Vec<f64>) -> Vec<f64> {
        for cycle in &self.cycles {
            next.iter_mut().zip(cycle.iter().cycle()).for_each(|(v, s)| *v += s);
        }
        next
    }
}
