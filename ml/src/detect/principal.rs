//! Eigenvalues and eigenvectors of a covariance.
//!
//! Cyclic Jacobi rotations (Golub and Van Loan, "Matrix computations", 8.5): short, the same bits everywhere, and done after
//! a bounded number of sweeps.

/// Rows and columns.
pub(super) const SIZE: usize = 32;
/// Six or seven are usual.
const SWEEPS_MAX: usize = 16;
/// Off the diagonal this share of the trace is rounding.
const ROUNDING: f64 = 1e-12;

/// A symmetric matrix, row by row.
pub(super) type Symmetric = [[f64; SIZE]; SIZE];

/// (eigenvalue, eigenvector of length 1), the largest first.
pub(super) fn components(mut matrix: Symmetric) -> Vec<(f64, [f64; SIZE])> {
    // rows of it become the vectors
    let mut vectors: Symmetric = std::array::from_fn(|i| std::array::from_fn(|j| f64::from(u8::from(i == j))));
    let trace: f64 = (0..SIZE).map(|i| matrix[i][i].abs()).sum();
    for _ in 0..SWEEPS_MAX {
        let mut largest = 0.0f64;
        for p in 0..SIZE {
            for q in p + 1..SIZE {
                let off = matrix[p][q];
                largest = largest.max(off.abs());
                if off.abs() > ROUNDING * trace {
                    let theta = (matrix[q][q] - matrix[p][p]) / (2.0 * off);
                    let tangent = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                    let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
                    rotate(&mut matrix, &mut vectors, p, q, (cosine, tangent * cosine));
                }
            }
        }
        if largest <= ROUNDING * trace {
            break;
        }
    }
    let mut components: Vec<(f64, [f64; SIZE])> = (0..SIZE).map(|i| (matrix[i][i], vectors[i])).collect();
    components.sort_by(|a, b| b.0.total_cmp(&a.0));
    components
}

/// Turns the plane of axes `p` and `q` by an angle of which cosine and sine are given.
fn rotate(matrix: &mut Symmetric, vectors: &mut Symmetric, p: usize, q: usize, (cosine, sine): (f64, f64)) {
    let turn = |a: &mut f64, b: &mut f64| (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
    for row in matrix.iter_mut() {
        let (mut a, mut b) = (row[p], row[q]);
        turn(&mut a, &mut b);
        (row[p], row[q]) = (a, b);
    }
    for rows in [matrix, vectors] {
        let (above, below) = rows.split_at_mut(q);
        above[p].iter_mut().zip(&mut below[0]).for_each(|(a, b)| turn(a, b));
    }
}

#[cfg(test)]
mod tests {
    use super::super::dice::Dice;
    use super::{SIZE, Symmetric, components};

    #[test]
    fn components_are_orthonormal_and_make_up_the_matrix() {
        let mut dice = Dice::new(7);
        for rank in [0, 1, 5, SIZE] {
            let mut matrix: Symmetric = [[0.0; SIZE]; SIZE];
            for _ in 0..rank {
                let side: [f64; SIZE] = std::array::from_fn(|_| dice.share() - 0.5);
                matrix.iter_mut().zip(&side).for_each(|(row, a)| {
                    row.iter_mut().zip(&side).for_each(|(cell, b)| *cell += a * b);
                });
            }
            let found = components(matrix);
            assert!(found.is_sorted_by(|a, b| a.0 >= b.0));
            assert!(found[rank..].iter().all(|(value, _)| value.abs() < 1e-9));
            for i in 0..SIZE {
                for j in 0..SIZE {
                    let again: f64 = found.iter().map(|(value, vector)| value * vector[i] * vector[j]).sum();
                    let product: f64 = found[i].1.iter().zip(&found[j].1).map(|(a, b)| a * b).sum();
                    assert!((again - matrix[i][j]).abs() < 1e-9, "{rank}: {i} {j} {again}");
                    assert!((product - f64::from(u8::from(i == j))).abs() < 1e-9);
                }
            }
        }
    }
}
