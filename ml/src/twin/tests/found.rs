//! The detectors find the faults: what `foretell demo` asks in SQL, asked here of the same detectors.
use super::*;
use crate::detect::{Detector, DetectorOptions, Method};

/// The series the demo's question scores: what an instance does by itself.
fn is_scored(series: &Series) -> bool {
    match series.metric {
        "cpu_usage_ratio"
        | "service_self_latency_p99_seconds"
        | "request_errors_ratio"
        | "memory_working_set_bytes" => true,
        "http_requests_total" => series.label("code") == Some("200"),
        _ => false,
    }
}

/// Runs the shop for `minutes` with a fault of eight minutes a quarter of an hour before the end, and ranks the scored
/// series by their highest score in the last half hour.
fn suspects(seed: u64, minutes: u64) -> (Truth, Vec<(f64, Series)>) {
    // Shops of all times of the day.
    let workload = Workload { start_second: (seed * 5021 % 86_400) as f64, ..Workload::default() };
    let mut simulation = Simulation::new(Topology::shop(), workload, SCRAPE_NS, seed).unwrap();
    let fault = Fault::draw(simulation.topology(), seed, (minutes - 15) * MINUTE_NS, 8 * MINUTE_NS);
    let truth = simulation.inject(fault).unwrap();
    let table = simulation.series().to_vec();
    let fresh = || Detector::new(Method::Auto, DetectorOptions::default()).unwrap();
    let scored = table.iter().enumerate().filter(|(_, series)| is_scored(series));
    let mut detectors: Vec<(usize, Detector, f64)> = scored.map(|(index, _)| (index, fresh(), 0.0)).collect();
    let steps = minutes * 4;
    for step in 0..steps {
        let samples = simulation.step();
        for (index, detector, peak) in &mut detectors {
            let verdict = detector.update((step * SCRAPE_NS) as i64, samples[*index].value);
            if step >= steps - 120 {
                *peak = peak.max(verdict.score.unwrap_or(0.0));
            }
        }
    }
    let mut ranked: Vec<_> = detectors.iter().map(|(index, _, peak)| (*peak, table[*index].clone())).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    (truth, ranked)
}

fn assert_found(seed: u64, minutes: u64) {
    let (truth, ranked) = suspects(seed, minutes);
    let (peak, first) = &ranked[0];
    let found = first.metric == truth.direct.metric && first.label("service") == Some(&*truth.direct.service);
    assert!(found && *peak > 1.0, "seed {seed}, {:?} of {}: {:?}", truth.fault.kind, truth.root, &ranked[..3]);
}

#[test]
fn the_first_suspect_is_the_fault_for_the_demos_own_seed_and_history() {
    assert_found(8, 360);
}

#[test]
fn the_first_suspect_is_the_fault_for_many_seeds() {
    for seed in 0..30 {
        assert_found(seed, 90);
    }
}

/// More seeds than a usual run has time for; prints how far ahead the fault was of the first series elsewhere.
#[test]
#[ignore = "minutes long: a survey for those who change detectors or faults"]
fn survey_of_seeds() {
    let mut missed = 0;
    for seed in 1000..1300 {
        let (truth, ranked) = suspects(seed, 360);
        let first = &ranked[0].1;
        let found = first.metric == truth.direct.metric && first.label("service") == Some(&*truth.direct.service);
        let other = ranked.iter().find(|(_, series)| series.label("service") != Some(&*truth.root)).unwrap();
        let (peak, lead) = (ranked[0].0, ranked[0].0 / other.0);
        missed += usize::from(!found);
        println!("{seed} {found} {:?} of {}: peak {peak:.2}, lead {lead:.2}", truth.fault.kind, truth.root);
    }
    println!("{missed} of 300 missed");
    assert!(missed <= 3, "{missed} of 300 missed");
}
