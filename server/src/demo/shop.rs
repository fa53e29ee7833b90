//! The simulated shop and its place in real time.
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use foretell_ml::twin::{Fault, Sample, Series, Simulation, Topology, Truth, Workload};

/// Time between scrapes.
const SCRAPE_MS: i64 = 15_000;
/// Simulated before now.
pub(super) const HISTORY_HOURS: i64 = 6;
const HISTORY_MS: i64 = HISTORY_HOURS * 3_600_000;
const MINUTE_MS: i64 = 60_000;
/// The first fault starts so long before the history ends, and is over before it does.
const FIRST_BEFORE_MS: i64 = 15 * MINUTE_MS;
const FIRST_DURATION_MS: i64 = 8 * MINUTE_MS;
const SECOND_DURATION_MS: i64 = 10 * MINUTE_MS;
/// A clock so far ahead goes on at normal speed: the server refuses what is a day ahead.
const AHEAD_MS_MAX: u64 = 12 * 3_600_000;
const DAY_MS: i64 = 86_400_000;
const NS_PER_MS: i64 = 1_000_000;

/// A simulation whose time 0 is a moment in the past. All times outside are milliseconds UTC.
pub(super) struct Shop {
    simulation: Simulation,
    seed: u64,
    /// Time 0 of the simulation.
    start_ms: i64,
    /// The history ends here; the clock of the shop runs `speed` times as fast from then on.
    live_ms: i64,
    live: Instant,
    speed: u32,
    truth: Truth,
}

impl Shop {
    /// A shop that has run for six hours and had a fault a quarter of an hour ago, both told by `seed`.
    ///
    /// # Errors
    /// When the clock stands before 1970.
    pub(super) fn open(seed: u64, speed: u32) -> anyhow::Result<Self> {
        let now_ms = now_ms()?;
        let live_ms = now_ms - now_ms % SCRAPE_MS;
        let start_ms = live_ms - HISTORY_MS;
        let start_second = (start_ms.rem_euclid(DAY_MS) / 1000) as f64;
        let workload = Workload { start_second, ..Workload::default() };
        let topology = Topology::shop();
        let simulated = |ms: i64| (ms * NS_PER_MS) as u64;
        let fault = Fault::draw(&topology, seed, simulated(HISTORY_MS - FIRST_BEFORE_MS), simulated(FIRST_DURATION_MS));
        let mut simulation = Simulation::new(topology, workload, simulated(SCRAPE_MS), seed)?;
        let truth = simulation.inject(fault)?;
        Ok(Self { simulation, seed, start_ms, live_ms, live: Instant::now(), speed, truth })
    }

    pub(super) fn series(&self) -> &[Series] {
        self.simulation.series()
    }

    /// The truth about the newest fault.
    pub(super) fn truth(&self) -> &Truth {
        &self.truth
    }

    /// When the newest fault begins and ends.
    pub(super) fn fault_ms(&self) -> (i64, i64) {
        let real = |ns: u64| self.start_ms + ns as i64 / NS_PER_MS;
        (real(self.truth.fault.start_ns), real(self.truth.fault.end_ns()))
    }

    /// Plans another fault, in another service, that begins at `start_ms`.
    ///
    /// # Errors
    /// When that is past.
    pub(super) fn break_again(&mut self, start_ms: i64) -> anyhow::Result<()> {
        let start_ns = ((start_ms - self.start_ms) * NS_PER_MS) as u64;
        let duration_ns = (SECOND_DURATION_MS * NS_PER_MS) as u64;
        let draw = |seed| Fault::draw(self.simulation.topology(), seed, start_ns, duration_ns);
        let seeds = (1..).map(|step| self.seed.wrapping_add(step));
        let fault = seeds.map(draw).find(|fault| fault.service != self.truth.fault.service);
        self.truth = self.simulation.inject(fault.context("no other service to break")?)?;
        Ok(())
    }

    /// End of the history.
    pub(super) fn live_ms(&self) -> i64 {
        self.live_ms
    }

    /// Time of the next scrape.
    pub(super) fn next_ms(&self) -> i64 {
        self.start_ms + self.simulation.now_ns() as i64 / NS_PER_MS + SCRAPE_MS
    }

    /// When a time of the shop comes; `None` when that is beyond what a clock can say.
    pub(super) fn due(&self, ms: i64) -> Option<Instant> {
        self.live.checked_add(real(ms - self.live_ms, self.speed))
    }

    /// Whether the shop's clock runs faster than the server's.
    pub(super) fn runs_ahead(&self) -> bool {
        self.speed > 1
    }

    /// Scrapes still missing from the history.
    pub(super) fn history_left(&self) -> u64 {
        u64::try_from((self.live_ms - self.next_ms()) / SCRAPE_MS + 1).unwrap_or(0)
    }

    /// Runs to the next scrape: its time and its samples.
    pub(super) fn scrape(&mut self) -> (i64, &[Sample]) {
        (self.next_ms(), self.simulation.step())
    }
}

/// How long `shop_ms` of the shop's time take at `speed`, until its clock is far ahead; then time passes as usual.
fn real(shop_ms: i64, speed: u32) -> Duration {
    let shop_ms = u64::try_from(shop_ms).unwrap_or(0);
    let fast_ms = if speed > 1 { AHEAD_MS_MAX * u64::from(speed) / u64::from(speed - 1) } else { u64::MAX };
    Duration::from_millis(shop_ms.min(fast_ms)) / speed + Duration::from_millis(shop_ms.saturating_sub(fast_ms))
}

fn now_ms() -> anyhow::Result<i64> {
    #[allow(
        clippy::disallowed_methods,
        reason = "the demo pretends that its history ends now; nothing stored depends on it"
    )]
    let now = SystemTime::now();
    Ok(now.duration_since(UNIX_EPOCH).context("the clock of this machine stands before 1970")?.as_millis() as i64)
}

/// `18:03:20` of a time in milliseconds UTC.
pub(super) fn clock_text(ms: i64) -> String {
    let second = ms.div_euclid(1000).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_ends_now_and_holds_a_whole_fault() {
        let mut shop = Shop::open(3, 1).unwrap();
        assert_eq!(shop.history_left(), 1440);
        let (from, until) = shop.fault_ms();
        assert!(from < until && until < shop.live_ms());
        let (first_ms, samples) = shop.scrape();
        assert!(!samples.is_empty());
        assert_eq!(first_ms, shop.live_ms() - 6 * 3_600_000 + 15_000);
        assert_eq!(shop.history_left(), 1439);
        while shop.history_left() > 1438 {
            shop.scrape();
        }
        let first = shop.truth().root.clone();
        shop.break_again(shop.next_ms()).unwrap();
        assert_ne!(shop.truth().root, first);
    }

    #[test]
    fn a_fast_clock_slows_down_before_the_server_refuses_it() {
        assert_eq!(real(-5, 7), Duration::ZERO);
        assert_eq!(real(60_000, 1), Duration::from_secs(60));
        assert_eq!(real(60_000, 60), Duration::from_secs(1));
        for days in 1..10 {
            let shop = days * DAY_MS;
            let ahead = Duration::from_millis(shop as u64).saturating_sub(real(shop, 60));
            assert!(ahead.as_millis() <= u128::from(AHEAD_MS_MAX) + 1, "{ahead:?}");
        }
    }

    #[test]
    fn times_read_as_clocks_do() {
        assert_eq!(clock_text(0), "00:00:00");
        assert_eq!(clock_text(86_399_999), "23:59:59");
        assert_eq!(clock_text(-1), "23:59:59");
    }
}
