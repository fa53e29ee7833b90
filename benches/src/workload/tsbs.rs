//! `tsbs`: the cpu-only use case of the Time Series Benchmark Suite's devops data. Ten series a host, every 10 s.
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::behaviour::Behaviour;
use super::encode::encode_labels;
use super::page::Labels;
use super::{Fleet, Target};

/// Milliseconds between two scrapes.
pub const INTERVAL_MS: i64 = 10_000;

const FIELDS: [&str; 10] = [
    "usage_user",
    "usage_system",
    "usage_idle",
    "usage_nice",
    "usage_iowait",
    "usage_irq",
    "usage_softirq",
    "usage_steal",
    "usage_guest",
    "usage_guest_nice",
];
const REGIONS: [&str; 9] = [
    "us-east-1",
    "us-west-1",
    "us-west-2",
    "eu-west-1",
    "eu-central-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-northeast-1",
    "sa-east-1",
];
const SYSTEMS: [&str; 3] = ["Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10"];
const TEAMS: [&str; 4] = ["SF", "NYC", "LON", "CHI"];
const ENVIRONMENTS: [&str; 3] = ["production", "staging", "test"];

/// At least `series` series: as many hosts as that takes.
pub fn fleet(series: usize, seed: u64, start_ms: i64) -> Fleet {
    let walk = Arc::new(Behaviour::Clamped { lo: 0.0, hi: 100.0 });
    let hosts = series.div_ceil(FIELDS.len()).max(1);
    let targets = (0..hosts).map(|host| target(host, seed, &walk)).collect();
    Fleet::new(INTERVAL_MS, start_ms, targets)
}

/// The metrics that each host has.
pub fn metrics() -> impl Iterator<Item = String> {
    FIELDS.iter().map(|field| format!("cpu_{field}"))
}

/// The first host whose `usage_user` is above `limit` in one of the first `rounds` scrapes of a new `fleet`; 0 if none is.
pub fn host_above(fleet: &Fleet, rounds: u64, limit: f64) -> usize {
    let (mut fleet, end_ms) = (fleet.clone(), fleet.round_start_ms(rounds));
    let mut first = None;
    for round in 0..rounds {
        let mut at = 0;
        fleet.scrape(round, |_, ts, value| {
            let (host, field) = (at / FIELDS.len(), at % FIELDS.len());
            at += 1;
            // The jitter of the last scrape may reach beyond the end.
            if field == 0 && value > limit && ts <= end_ms && first.is_none_or(|first| host < first) {
                first = Some(host);
            }
        });
    }
    first.unwrap_or(0)
}

fn target(host: usize, seed: u64, walk: &Arc<Behaviour>) -> Target {
    let seed = seed ^ (host as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut rng = SmallRng::seed_from_u64(!seed);
    let mut any = |of: &[&str]| of[rng.random_range(0..of.len())].to_owned();
    let region = any(&REGIONS);
    let mut labels: Labels = vec![
        ("datacenter".into(), format!("{region}{}", any(&["a", "b", "c"]))),
        ("os".into(), any(&SYSTEMS)),
        ("arch".into(), any(&["x64", "x86"])),
        ("team".into(), any(&TEAMS)),
        ("service_environment".into(), any(&ENVIRONMENTS)),
        ("region".into(), region),
        ("hostname".into(), format!("host_{host}")),
    ];
    for (name, choices) in [("rack", 100), ("service", 20), ("service_version", 2)] {
        labels.push((name.into(), rng.random_range(0..choices).to_string()));
    }
    let series = FIELDS
        .iter()
        .map(|field| {
            let mut labels = labels.clone();
            labels.push(("__name__".into(), format!("cpu_{field}")));
            labels.sort();
            (encode_labels(&labels), Arc::clone(walk))
        })
        .collect();
    Target::new(seed, INTERVAL_MS, series)
}
