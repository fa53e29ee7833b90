//! What several selectors of a query read: once, if the first of them wants the longest time.
//!
//! ```text
//!  m[1h] ──reads──> held beside the nodes ──> m[5m], m: no reading; the last selector that may want it takes it away
//! ```
use std::sync::Arc;

use parking_lot::Mutex;

use super::account::{Account, Held};
use super::expr::Expr;
use super::source::{Matchers, SeriesSamples};

/// Different selectors among which equal ones are looked for.
const DIFFERENT_MAX: usize = 64;

/// What a selector wants besides its conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Samples after this instant, milliseconds.
    pub(crate) after_ms: i64,
    /// Samples through this instant.
    pub(crate) through_ms: i64,
    /// Whether histograms come without their buckets.
    pub(crate) bare: bool,
}

/// Conditions that several selectors of a query have.
#[derive(Debug)]
struct Repeated {
    matchers: Matchers,
    /// Selectors that have not asked yet.
    left: usize,
    reading: Option<Reading>,
}

/// What was read for one of them.
#[derive(Debug)]
struct Reading {
    wanted: Wanted,
    held: Held,
    series: Arc<Vec<SeriesSamples>>,
}

/// What the selectors of a query share.
#[derive(Debug, Default)]
pub(crate) struct Shared(Mutex<Vec<Repeated>>);

impl Shared {
    /// Gets ready for the selectors of `expr`.
    pub(crate) fn expect(&self, expr: &Expr) {
        let mut seen: Vec<(&Matchers, usize)> = Vec::new();
        expr.selectors(&mut |selector| match seen.iter().position(|(matchers, _)| **matchers == selector.matchers) {
            Some(at) => seen[at].1 += 1,
            None if seen.len() < DIFFERENT_MAX => seen.push((&selector.matchers, 1)),
            None => {}
        });
        let several = seen.into_iter().filter(|(_, times)| *times > 1);
        let several = several.map(|(matchers, left)| Repeated { matchers: matchers.clone(), left, reading: None });
        *self.0.lock() = several.collect();
    }

    /// Whether others have the same conditions.
    pub(crate) fn has(&self, matchers: &Matchers) -> bool {
        self.0.lock().iter().any(|repeated| repeated.matchers == *matchers)
    }

    /// What was read for another selector, if all that is wanted is in it; samples of other times may be, too. What does not
    /// do is no longer kept.
    pub(crate) fn take(
        &self,
        matchers: &Matchers,
        wanted: Wanted,
        account: &Account<'_>,
    ) -> Option<Arc<Vec<SeriesSamples>>> {
        let mut all = self.0.lock();
        let repeated = all.iter_mut().find(|repeated| repeated.matchers == *matchers)?;
        repeated.left = repeated.left.saturating_sub(1);
        let reading = repeated.reading.take()?;
        let has_all = reading.wanted.has_all(wanted);
        if has_all && repeated.left > 0 {
            return Some(Arc::clone(&repeated.reading.insert(reading).series));
        }
        account.unshare(reading.held);
        has_all.then_some(reading.series)
    }

    /// Keeps what was read for a selector, and makes up `held`, if others may want it.
    pub(crate) fn put(
        &self,
        matchers: &Matchers,
        wanted: Wanted,
        (series, held): (&Arc<Vec<SeriesSamples>>, Held),
        account: &Account<'_>,
    ) {
        let mut all = self.0.lock();
        let repeated = all.iter_mut().find(|repeated| repeated.matchers == *matchers && repeated.left > 0);
        if let Some(repeated) = repeated {
            account.share(held);
            repeated.reading = Some(Reading { wanted, held, series: Arc::clone(series) });
        }
    }
}

impl Wanted {
    fn has_all(self, other: Self) -> bool {
        self.bare == other.bare && self.after_ms <= other.after_ms && other.through_ms <= self.through_ms
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Limits, parse};
    use super::*;

    #[test]
    fn the_last_selector_takes_what_the_first_one_read() {
        let limits = Limits::default();
        let reserve = |_: usize| Ok(());
        let (shared, account) = (Shared::default(), Account::new(100, &reserve));
        shared.expect(&parse::parse("rate(m[1h]) + m + m + other", &limits).unwrap());
        let matchers = shared.0.lock()[0].matchers.clone();
        let wanted = |after_ms| Wanted { after_ms, through_ms: 100, bare: false };
        let (series, held) = (Arc::new(vec![SeriesSamples::default()]), Held::read(10));
        let samples = || account.held().samples;

        assert!(shared.take(&matchers, wanted(0), &account).is_none());
        account.add(held).unwrap();
        shared.put(&matchers, wanted(0), (&series, held), &account);
        assert_eq!(samples(), 0);
        assert!(shared.take(&matchers, Wanted { bare: true, ..wanted(50) }, &account).is_none());
        assert_eq!(samples(), 10, "what does not do is the node's, who forgets it");

        account.keep(Held::default(), held).unwrap();
        shared.put(&matchers, wanted(0), (&series, held), &account);
        let taken = shared.take(&matchers, wanted(50), &account).unwrap();
        assert_eq!((samples(), Arc::strong_count(&series)), (10, 2));
        drop(taken);
        shared.put(&matchers, wanted(0), (&series, held), &account);
        assert_eq!((samples(), Arc::strong_count(&series)), (10, 1), "nobody is left to want it");
    }
}
