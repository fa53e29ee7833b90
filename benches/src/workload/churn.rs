//! `churn`: `node`, of which a tenth of the series is replaced by new ones every ten minutes, as when pods restart.
use rand::rngs::SmallRng;

use super::behaviour::Walk;
use super::{Fleet, Series, node};

/// Time after which a share of the series is replaced.
const PERIOD_MS: i64 = 600_000;
/// One of this many series is replaced each time.
const ONE_OF: usize = 10;
/// The label that tells the generations of a series apart; eight digits, so that it can be replaced in place.
const LABEL: (&str, &str) = ("pod", "00000000");

/// State of a target's churn.
#[derive(Clone, Debug)]
pub(super) struct Churn {
    periods: i64,
}

/// At least `series` series alive at a time.
pub fn fleet(series: usize, seed: u64, start_ms: i64) -> Fleet {
    let page = &*node::PAGE;
    let instances = series.div_ceil(page.series.len().max(1)).max(1);
    let targets = (0..instances)
        .map(|i| {
            let mut target = node::target(page, i, seed, Some(LABEL));
            target.churn = Some(Churn { periods: 0 });
            target
        })
        .collect();
    Fleet::new(node::INTERVAL_MS, start_ms, targets)
}

impl Churn {
    /// Replaces what is due at `elapsed_ms` since the start.
    pub(super) fn advance(&mut self, elapsed_ms: i64, series: &mut [Series], rng: &mut SmallRng) {
        let periods = elapsed_ms.max(0) / PERIOD_MS;
        while self.periods < periods {
            self.periods += 1;
            let generation = format!("{:08}", self.periods);
            for (i, series) in series.iter_mut().enumerate() {
                if (i + self.periods as usize).is_multiple_of(ONE_OF) {
                    replace_pod(&mut series.labels, generation.as_bytes());
                    series.walk = Walk::begin(&series.behaviour, rng);
                }
            }
        }
    }
}

/// Overwrites the value of the label in the encoded labels.
fn replace_pod(labels: &mut [u8], generation: &[u8]) {
    let (name, value) = LABEL;
    let mut needle = vec![0x0a, name.len() as u8];
    needle.extend_from_slice(name.as_bytes());
    needle.extend_from_slice(&[0x12, value.len() as u8]);
    if let Some(at) = labels.windows(needle.len()).position(|window| window == needle) {
        let at = at + needle.len();
        labels[at..at + value.len()].copy_from_slice(generation);
    }
}
