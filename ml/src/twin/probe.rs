//! scratch
use super::*;
use crate::detect::*;
use std::collections::BTreeMap;

#[test]
#[ignore]
fn probe() {
    let seeds: Vec<u64> = std::env::var("SEEDS").unwrap().split_once('-').map(|(a,b)| (a.parse().unwrap()..b.parse().unwrap()).collect()).unwrap();
    let mut worst = BTreeMap::new();
    for seed in seeds {
        let workload = Workload { start_second: (seed * 7919 * 60 % 86400) as f64, ..Workload::default() };
        let mut sim = Simulation::new(Topology::shop(), workload, 15 * SECOND_NS, seed).unwrap();
        let start = (360 - 15) * 60 * SECOND_NS;
        let fault = Fault::draw(sim.topology(), seed, start, 8 * 60 * SECOND_NS);
        let truth = sim.inject(fault).unwrap();
        let table = sim.series().to_vec();
        let mut det: BTreeMap<(String, String), (Detector, Vec<f64>, f64)> = BTreeMap::new();
        let t0 = std::time::Instant::now();
        for step in 0..1440i64 {
            let mut sums: BTreeMap<(String, String), f64> = BTreeMap::new();
            for (s, v) in table.iter().zip(sim.step()) {
                if s.kind == MetricKind::Histogram || (s.kind == MetricKind::Counter && s.label("code") != Some("200")) || ["requests_in_flight", "queue_depth", "service_latency_p99_seconds"].contains(&s.metric) { continue; }
                *sums.entry((s.metric.into(), s.label("instance").unwrap().into())).or_default() += v.value;
            }
            for (key, value) in sums {
                let counter = key.0.ends_with("_total");
                let e = det.entry(key).or_insert_with(|| (Detector::new(Method::Auto, DetectorOptions::default()).unwrap(), vec![], f64::NAN));
                let _ = counter; e.2 = value;
                let verdict = e.0.update(step * 15_000_000_000, value);
                if step >= 1320 { e.1.push(verdict.score.unwrap_or(0.0)); }
            }
        }
        println!("detect {:?}", t0.elapsed());
        println!("== seed {seed} {:?} {} {:.2}", fault.kind, truth.root, fault.magnitude);
        let ranks: Vec<(&str, fn(&[f64]) -> f64)> = vec![
            ("max", |s| s.iter().copied().fold(0.0, f64::max)),
            ("sum", |s| s.iter().map(|v| v.min(1e6)).sum()),
            ("cap10", |s| s.iter().map(|v| v.min(10.0)).sum()),
            ("cap100", |s| s.iter().map(|v| v.min(100.0)).sum()),
            ("ln", |s| s.iter().map(|v| v.min(1e6).ln_1p()).sum()),
            ("sqrt", |s| s.iter().map(|v| v.min(1e6).sqrt()).sum()),
            ("excess", |s| s.iter().map(|v| v.min(1e6)).filter(|v| *v > 1.0).sum()),
            ("lnexcess", |s| s.iter().map(|v| v.min(1e6).max(1.0).ln()).sum()),
            ("count", |s| s.iter().filter(|v| **v > 1.0).count() as f64),
            ("rms", |s| s.iter().map(|v| v.min(1e6)*v.min(1e6)).sum::<f64>()),
        ];
        for (name, f) in ranks {
            let mut all: Vec<(f64, &(String, String))> = det.iter().map(|(k, v)| (f(&v.1), k)).collect();
            all.sort_by(|a, b| b.0.total_cmp(&a.0));
            let (_, (m, i)) = all[0];
            let exact = *m == truth.direct.metric && i.starts_with(&truth.root);
            let service = i.starts_with(&truth.root);
            let w: &mut (usize, usize) = worst.entry(name).or_default();
            w.0 += usize::from(exact); w.1 += usize::from(service);
            let other = all.iter().find(|a| !a.1.1.starts_with(&truth.root)).unwrap();
            println!("  {name:8} {exact} {m} {i} {:.2}  next other: {} {} {:.2}", all[0].0, other.1.0, other.1.1, other.0);
        }
    }
    println!("{worst:?}");
}
