//! What a series costs in memory: `cargo test --release --workspace --test engine -- --ignored --nocapture footprint`.
use foretell_engine::{Engine, EngineConfig};

use crate::support::{batch, labels};

/// Resident memory of this process.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
#[ignore = "prints figures; run it alone"]
fn memory_of_a_series() {
    const TARGETS: u32 = 400;
    const METRICS: u32 = 500;
    let dir = tempfile::tempdir().unwrap();
    let mut config = EngineConfig::new(dir.path());
    config.background = false;
    let engine = Engine::open(config).unwrap();
    let before = resident_bytes();
    for target in 0..TARGETS {
        let instance = format!("host-{target:05}.example.org:9100");
        let mut rows = Vec::new();
        for metric in 0..METRICS {
            let (name, cpu) = (format!("node_thing_{metric:03}_seconds_total"), (metric % 16).to_string());
            let set = labels(&[
                ("__name__", &name),
                ("instance", &instance),
                ("job", "node"),
                ("env", "production"),
                ("cpu", &cpu),
                ("mode", ["idle", "user", "system"][metric as usize % 3]),
            ]);
            let key = u128::from(target) << 64 | u128::from(metric.wrapping_mul(0x9e37_79b9));
            rows.push((engine.resolve_keyed(key, &set).unwrap(), 0, 1.0));
        }
        engine.write(batch(&rows)).unwrap().wait().unwrap();
    }
    let series = u64::from(TARGETS * METRICS);
    eprintln!("resolved: {} bytes a series", (resident_bytes() - before) / series);
    engine.flush().unwrap();
    eprintln!("flushed: {} bytes a series", resident_bytes().saturating_sub(before) / series);
    eprintln!("the index reckons {} bytes a series", engine.stats().index_bytes / series);
}
