//! Many tests at once.

/// Benjamini and Hochberg's (1995) adjusted p-values, in place: of those that are at most `q`, a share of `q` is small by
/// chance.
pub(crate) fn correct(p_values: &mut [f64]) {
    let tests = p_values.len() as f64;
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[b].total_cmp(&p_values[a]));
    let mut least = 1.0f64;
    for (i, &at) in order.iter().enumerate() {
        least = least.min(p_values[at] * tests / (tests - i as f64));
        p_values[at] = least;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_values_are_corrected_for_their_number() {
        let mut p = [0.01, 0.04, 0.03, 0.5];
        correct(&mut p);
        for (got, expect) in p.iter().zip([0.04, 0.16 / 3.0, 0.16 / 3.0, 0.5]) {
            assert!((got - expect).abs() < 1e-12, "{p:?}");
        }
    }
}
