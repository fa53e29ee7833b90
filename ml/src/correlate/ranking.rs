//! Candidates by how strongly they correlate with one target.
use super::Correlation;
use crate::multiple;

/// A correlation is believed when its p-value, corrected for the number of candidates, is at most so large.
const P_MAX: f64 = 0.05;

/// Correlations of many candidates, of which the strongest are told.
#[derive(Clone, Debug, Default)]
pub struct Ranking {
    found: Vec<Correlation>,
}

impl Ranking {
    /// Adds the next candidate, without a correlation when nothing is known of it; candidates are counted from 0.
    pub fn add(&mut self, found: Option<Correlation>) {
        let nothing = Correlation { lag: 0, r: 0.0, p_value: f64::NAN };
        self.found.push(found.unwrap_or(nothing));
    }

    /// How many candidates were added.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether there was no candidate.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The first `limit` candidates: those that are believed before the others, either by falling |r|, and equal ones in the
    /// order in which they were added. p-values are corrected for the number of candidates with a correlation, by
    /// Benjamini and Hochberg (1995).
    pub fn strongest(&self, limit: usize) -> Vec<(usize, Correlation)> {
        let mut ranked: Vec<(usize, Correlation)> =
            self.found.iter().copied().enumerate().filter(|(_, found)| !found.p_value.is_nan()).collect();
        let mut p_values: Vec<f64> = ranked.iter().map(|(_, found)| found.p_value).collect();
        multiple::correct(&mut p_values);
        for ((_, found), p_value) in ranked.iter_mut().zip(p_values) {
            found.p_value = p_value;
        }
        let doubted = |found: &Correlation| found.p_value > P_MAX;
        ranked
            .sort_by(|(i, a), (j, b)| doubted(a).cmp(&doubted(b)).then(b.r.abs().total_cmp(&a.r.abs())).then(i.cmp(j)));
        ranked.truncate(limit);
        ranked
    }
}
