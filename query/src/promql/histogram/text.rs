//! A histogram as text, as Prometheus writes it: the value of the label that `count_values` adds.
use std::fmt;

use super::super::number::general;
use super::{Bucket, Histogram};

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", general(self.count), general(self.sum))?;
        let below = self.negative.iter().rev().map(|&(index, count)| self.below_zero(index, count));
        let above = self.positive.iter().map(|&(index, count)| self.above_zero(index, count));
        for bucket in below.chain([self.zero()]).chain(above).filter(|bucket| bucket.count != 0.0) {
            write!(f, ", {bucket}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) =
            (if self.lower_inclusive { '[' } else { '(' }, if self.upper_inclusive { ']' } else { ')' });
        let (lower, upper, count) = (general(self.lower), general(self.upper), general(self.count));
        write!(f, "{open}{lower},{upper}{close}:{count}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_written_with_its_populated_buckets() {
        let histogram = Histogram {
            count: 6.0,
            sum: 12.5,
            zero_threshold: 0.001,
            zero_count: 1.0,
            negative: vec![(0, 1.0), (1, 0.0)],
            positive: vec![(1, 4.0)],
            ..Histogram::default()
        };
        assert_eq!(histogram.to_string(), "{count:6, sum:12.5, [-1,-0.5):1, [-0.001,0.001]:1, (1,2]:4}");
    }
}
