mod found;

use super::*;

const SCRAPE_NS: u64 = 15 * SECOND_NS;
const MINUTE_NS: u64 = 60 * SECOND_NS;

fn shop(seed: u64) -> Simulation {
    Simulation::new(Topology::shop(), Workload::default(), SCRAPE_NS, seed).unwrap()
}

fn run(simulation: &mut Simulation, steps: usize) {
    for _ in 0..steps {
        simulation.step();
    }
}

/// One service without calls.
fn lonely(workers: usize, work_median_s: f64, rate: f64) -> Simulation {
    let service = Service { workers, instances: 1, queue_max: 100_000, ..Service::new("lonely", work_median_s) };
    let topology = Topology::new(vec![service], ServiceId(0)).unwrap();
    let workload = Workload { rate, daily_swing: 0.0, wander: 0.0, ..Workload::default() };
    Simulation::new(topology, workload, SCRAPE_NS, 5).unwrap()
}

/// FNV-1a over the bits of every sample.
fn fingerprint(simulation: &mut Simulation, steps: usize) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for _ in 0..steps {
        for sample in simulation.step() {
            hash = (hash ^ sample.value.to_bits()).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

fn position(simulation: &Simulation, metric: &str, instance: &str) -> usize {
    let is_it = |series: &Series| series.metric == metric && series.label("instance") == Some(instance);
    simulation.series().iter().position(is_it).unwrap()
}

/// Values of one series over the next `steps` scrapes.
fn observe(simulation: &mut Simulation, metric: &str, instance: &str, steps: usize) -> Vec<f64> {
    let index = position(simulation, metric, instance);
    (0..steps).map(|_| simulation.step()[index].value).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    let run = |seed| {
        let mut simulation = shop(seed);
        let fault = Fault::draw(simulation.topology(), seed, 3 * MINUTE_NS, MINUTE_NS);
        simulation.inject(fault).unwrap();
        fingerprint(&mut simulation, 40)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn names_and_labels_are_what_prometheus_accepts() {
    let simulation = shop(1);
    let mut seen = std::collections::HashSet::new();
    for series in simulation.series() {
        assert!(series.metric.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
        assert!(series.labels.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(series.kind == MetricKind::Counter, series.metric.ends_with("_total"));
        assert!(seen.insert((series.metric, series.labels.clone())), "{series:?} stands twice");
    }
    assert_eq!(seen.len(), 24 * 26);
}

#[test]
fn counters_never_fall_and_every_value_is_in_range() {
    let mut simulation = shop(3);
    let fault = Fault::draw(simulation.topology(), 3, 2 * MINUTE_NS, MINUTE_NS);
    simulation.inject(fault).unwrap();
    let table = simulation.series().to_vec();
    let mut before = vec![0.0; table.len()];
    for _ in 0..40 {
        for (sample, series) in simulation.step().iter().zip(&table) {
            if series.kind != MetricKind::Gauge {
                assert!(sample.value >= before[sample.series as usize], "{series:?} fell");
            }
            assert!(!(sample.value < 0.0), "{series:?} is {}", sample.value);
            if series.metric.ends_with("_ratio") {
                assert!(!(sample.value > 1.0), "{series:?} is {}", sample.value);
            }
            before[sample.series as usize] = sample.value;
        }
    }
}

#[test]
fn histogram_buckets_are_cumulative_and_end_in_the_count() {
    let mut simulation = shop(4);
    let table = simulation.series().to_vec();
    let samples = (0..8).map(|_| simulation.step().to_vec()).last().unwrap();
    let of = |metric: &str| -> Vec<f64> {
        let is_it = |series: &Series| series.metric == metric && series.label("instance") == Some("catalogue-0");
        table.iter().zip(&samples).filter(|(series, _)| is_it(series)).map(|(_, sample)| sample.value).collect()
    };
    let buckets = of("http_request_duration_seconds_bucket");
    assert!(buckets.is_sorted());
    assert_eq!(buckets.last(), of("http_request_duration_seconds_count").first());
    assert_eq!(of("http_requests_total").iter().sum::<f64>(), *buckets.last().unwrap());
    assert!(of("http_request_duration_seconds_sum")[0] > 0.0);
}

#[test]
fn requests_are_conserved() {
    let mut simulation = shop(7);
    for _ in 0..200 {
        simulation.step();
        for id in simulation.topology().ids() {
            let totals = simulation.totals(id);
            assert_eq!(totals.arrived, totals.completed + totals.rejected + totals.in_system);
        }
    }
}

#[test]
fn requests_are_conserved_when_queues_overflow_and_calls_time_out() {
    let mut simulation = shop(8);
    let database = simulation.topology().find("database").unwrap();
    let fault = Fault {
        kind: FaultKind::Latency,
        service: database,
        start_ns: MINUTE_NS,
        duration_ns: 3 * MINUTE_NS,
        magnitude: 20.0,
    };
    simulation.inject(fault).unwrap();
    run(&mut simulation, 40);
    let mut timed_out = 0.0;
    for (series, sample) in simulation.series().to_vec().iter().zip(simulation.step()) {
        if series.label("code") == Some("504") {
            timed_out += sample.value;
        }
    }
    let totals = simulation.totals(database);
    assert!(totals.rejected > 0 && timed_out > 0.0, "{totals:?}, {timed_out} time-outs");
    for id in simulation.topology().ids() {
        let totals = simulation.totals(id);
        assert_eq!(totals.arrived, totals.completed + totals.rejected + totals.in_system);
    }
}

#[test]
fn littles_law_holds_for_every_service() {
    let mut simulation = shop(11);
    run(&mut simulation, 960);
    let elapsed_s = seconds(simulation.now_ns());
    for id in simulation.topology().ids() {
        let totals = simulation.totals(id);
        let l = totals.request_seconds / elapsed_s;
        let lambda = totals.completed as f64 / elapsed_s;
        let w = totals.sojourn_s / totals.completed as f64;
        let name = &simulation.topology().service(id).name;
        assert!((l - lambda * w).abs() <= 0.01 * l, "{name}: L = {l}, lambda W = {}", lambda * w);
    }
}

#[test]
fn waiting_times_match_pollaczek_and_khinchine() {
    // One worker, Poisson arrivals, lognormal work: W_q = lambda E[S^2] / (2 (1 - rho)).
    let (rate, median) = (5.0, 0.12_f64);
    let mut simulation = lonely(1, median, rate);
    run(&mut simulation, 8000);
    let totals = simulation.totals(ServiceId(0));
    let sigma2 = 0.3_f64 * 0.3;
    let (mean_work, square) = (median * (sigma2 / 2.0).exp(), median * median * (2.0 * sigma2).exp());
    let expected = mean_work + rate * square / (2.0 * (1.0 - rate * mean_work));
    let observed = totals.sojourn_s / totals.completed as f64;
    assert!((observed / expected - 1.0).abs() < 0.03, "sojourn {observed} s, theory {expected} s");
}

#[test]
fn requests_reach_services_as_often_as_the_graph_says() {
    let mut simulation = shop(13);
    run(&mut simulation, 960);
    let customers = simulation.totals(simulation.topology().entry()).arrived as f64;
    for id in simulation.topology().ids() {
        let ratio = simulation.totals(id).arrived as f64 / customers;
        let expected = simulation.topology().visits(id);
        let name = &simulation.topology().service(id).name;
        // Retries add a little, failures take a little away.
        assert!((ratio / expected - 1.0).abs() < 0.08, "{name}: {ratio} visits a customer, {expected} expected");
    }
}

#[test]
fn arrivals_follow_the_day() {
    let workload = Workload { rate: 4.0, ..Workload::default() };
    let mut simulation = Simulation::new(Topology::shop(), workload, 3600 * SECOND_NS, 17).unwrap();
    let mut before = 0;
    let mut hours = Vec::new();
    for _ in 0..24 {
        simulation.step();
        let arrived = simulation.totals(simulation.topology().entry()).arrived;
        hours.push((arrived - before) as f64);
        before = arrived;
    }
    let busiest = hours.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
    assert!((16..=21).contains(&busiest), "hour {busiest} is busiest of {hours:?}");
    let (evening, morning) = (mean(&hours[17..21]), mean(&hours[5..9]));
    assert!((1.9..2.8).contains(&(evening / morning)), "{evening} against {morning}");
}

#[test]
fn a_fault_does_not_change_who_arrives() {
    let arrived = |faulty: bool| {
        let mut simulation = shop(19);
        if faulty {
            let cache = simulation.topology().find("cache").unwrap();
            let (start_ns, duration_ns) = (MINUTE_NS, MINUTE_NS);
            simulation
                .inject(Fault { kind: FaultKind::Errors, service: cache, start_ns, duration_ns, magnitude: 0.5 })
                .unwrap();
        }
        run(&mut simulation, 20);
        simulation.totals(simulation.topology().entry()).arrived
    };
    assert_eq!(arrived(false), arrived(true));
}

#[test]
fn a_slow_service_slows_its_callers_less_than_itself_and_others_not_at_all() {
    let mut simulation = shop(23);
    let truth = inject_now(&mut simulation, FaultKind::Latency, "payment", 40);
    assert_eq!(truth.direct, Direct { metric: "service_self_latency_p99_seconds", service: "payment".into() });
    assert_eq!(truth.callers, ["frontend", "checkout"]);
    let ratio = |instance: &str| {
        let mut simulation = shop(23);
        inject_now(&mut simulation, FaultKind::Latency, "payment", 40);
        let p99 = observe(&mut simulation, "service_latency_p99_seconds", instance, 80);
        mean(&p99[42..]) / mean(&p99[..40])
    };
    let (root, caller, entry, other) =
        (ratio("payment-0"), ratio("checkout-0"), ratio("frontend-0"), ratio("search-0"));
    assert!(root > 3.0 && root > caller && caller > entry && entry > 1.2, "{root} {caller} {entry}");
    assert!((0.8..1.2).contains(&other), "{other}");
}

/// A fault of usual strength that starts after `steps` scrapes and lasts for an hour.
fn inject_now(simulation: &mut Simulation, kind: FaultKind, service: &str, steps: u64) -> Truth {
    let service = simulation.topology().find(service).unwrap();
    let magnitude = Fault::usual_magnitude(kind, simulation.topology(), service, 0.5);
    let fault = Fault { kind, service, start_ns: steps * SCRAPE_NS, duration_ns: 3600 * SECOND_NS, magnitude };
    simulation.inject(fault).unwrap()
}

/// Per series: how far the mean after the onset lies from the mean before, in standard deviations of before.
/// Counters are differenced; of a counter with several codes the sum is taken. What an instance suffers through its calls
/// is left out: only what it does itself can accuse it.
fn shifts(simulation: &mut Simulation, before: usize, after: usize) -> Vec<(f64, String, String)> {
    let table = simulation.series().to_vec();
    let mut columns: std::collections::BTreeMap<(String, String), Vec<f64>> = Default::default();
    for step in 0..before + after {
        let samples = simulation.step();
        for (series, sample) in table.iter().zip(samples) {
            if series.kind == MetricKind::Histogram
                || ["requests_in_flight", "queue_depth", "service_latency_p99_seconds"].contains(&series.metric)
            {
                continue;
            }
            let key = (series.metric.to_owned(), series.label("instance").unwrap().to_owned());
            let column = columns.entry(key).or_default();
            column.resize(step + 1, 0.0);
            column[step] += sample.value;
        }
    }
    let mut shifts = Vec::new();
    for ((metric, instance), mut column) in columns {
        if metric.ends_with("_total") {
            column = std::iter::once(column[0]).chain(column.windows(2).map(|pair| pair[1] - pair[0])).collect();
        }
        // The first scrapes fill the system and the look-back of ratios.
        let (past, now) = (&column[20..before], &column[before..]);
        let center = mean(past);
        let spread = mean(&past.iter().map(|v| (v - center) * (v - center)).collect::<Vec<_>>()).sqrt();
        shifts.push((((mean(now) - center) / spread).abs(), metric, instance));
    }
    shifts.sort_by(|a, b| b.0.total_cmp(&a.0));
    shifts
}

#[test]
fn every_fault_shows_most_in_its_direct_series() {
    let names: Vec<String> = Topology::shop().services().iter().map(|service| service.name.clone()).collect();
    for (number, kind) in FaultKind::ALL.into_iter().enumerate() {
        // Each kind on its own part of the services: all services are broken once or more.
        for name in names.iter().skip(number % 3).step_by(3) {
            let mut simulation = shop(100 + number as u64);
            let truth = inject_now(&mut simulation, kind, name, 120);
            let shifts = shifts(&mut simulation, 120, 20);
            let (_, metric, instance) = &shifts[0];
            let found = metric == truth.direct.metric && instance.starts_with(&truth.root);
            assert!(found, "{kind:?} of {name}: {:?}", &shifts[..4]);
        }
    }
}

#[test]
fn what_leaked_is_freed_when_the_leak_ends() {
    let mut simulation = shop(29);
    let cart = simulation.topology().find("cart").unwrap();
    let fault =
        Fault { kind: FaultKind::MemoryLeak, service: cart, start_ns: 0, duration_ns: 10 * MINUTE_NS, magnitude: 0.1 };
    simulation.inject(fault).unwrap();
    let memory = observe(&mut simulation, "memory_working_set_bytes", "cart-1", 60);
    let idle = simulation.topology().service(cart).memory_bytes;
    assert!(memory[38] > 1.8 * idle && memory[50] < 1.1 * idle, "{} {}", memory[38], memory[50]);
}

#[test]
fn bad_systems_are_refused_with_a_reason() {
    let call = Call { target: ServiceId(0), probability: 1.0, timeout_s: 1.0, retries: 0, critical: true };
    let looping = Service { stages: vec![vec![call.clone()]], ..Service::new("a", 0.01) };
    let refused = |services, reason: &str| {
        let error = Topology::new(services, ServiceId(0)).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    };
    refused(vec![looping], "cycle");
    refused(vec![], "entry");
    refused(vec![Service::new("a", -1.0)], "positive");
    let nowhere = Call { target: ServiceId(9), ..call };
    refused(vec![Service { stages: vec![vec![nowhere]], ..Service::new("a", 0.01) }], "does not exist");

    let mut simulation = shop(1);
    simulation.step();
    let fault = Fault { start_ns: 0, ..Fault::draw(simulation.topology(), 1, 0, SECOND_NS) };
    assert!(simulation.inject(fault).is_err());
}

#[test]
fn six_hours_take_seconds() {
    let start = std::time::Instant::now();
    let mut simulation = shop(31);
    run(&mut simulation, 1440);
    let elapsed = start.elapsed();
    println!("six hours in {elapsed:?}");
    assert!(elapsed.as_secs() < 60, "{elapsed:?}");
}
