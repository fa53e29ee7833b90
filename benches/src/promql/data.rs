//! Series over two hours, made of a fixed seed. Native histograms: [`super::native`].
use foretell_proto::prometheus::v1::Histogram;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// First instant, milliseconds: a whole hour.
pub const START_MS: i64 = 1_700_002_800_000;
/// Length, milliseconds.
pub const LENGTH_MS: i64 = 2 * 3600 * 1000;
pub(super) const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// One series.
#[derive(Clone, Debug)]
pub struct Series {
    /// Sorted by name.
    pub labels: Vec<(String, String)>,
    /// Milliseconds and values, oldest first.
    pub samples: Vec<(i64, f64)>,
    /// Native histograms, which bring their times along, oldest first.
    pub histograms: Vec<Histogram>,
}

impl Series {
    /// Of values only.
    pub(super) fn floats(pairs: &[(&str, &str)], samples: Vec<(i64, f64)>) -> Self {
        Self { labels: labels(pairs), samples, histograms: Vec::new() }
    }
}

pub(super) fn labels(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut labels: Vec<(String, String)> =
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    labels.sort();
    labels
}

/// Instants of scrapes, some ms off, some missing.
pub(super) fn scrapes(every_ms: i64, random: &mut StdRng) -> Vec<i64> {
    let phase = random.random_range(0..every_ms);
    let mut instants = Vec::new();
    let mut at = START_MS + phase;
    while at < START_MS + LENGTH_MS {
        if random.random_range(0..40) != 0 {
            instants.push(at + random.random_range(-3..=3));
        }
        at += every_ms;
    }
    instants
}

/// All series.
pub fn series() -> Vec<Series> {
    let mut random = StdRng::seed_from_u64(42);
    let mut all = Vec::new();
    for (i, instance) in ["a:9100", "b:9100", "c:9100"].into_iter().enumerate() {
        let job = if i < 2 { "node" } else { "db" };
        let every_ms = [15_000, 15_000, 30_000][i];
        let instants = scrapes(every_ms, &mut random);
        counters(instance, job, &instants, &mut random, &mut all);
        gauges(instance, job, &instants, &mut random, &mut all);
        histogram(instance, job, &instants, &mut random, &mut all);
    }
    strange(&mut random, &mut all);
    super::native::series(&mut random, &mut all);
    all
}

fn counters(instance: &str, job: &str, instants: &[i64], random: &mut StdRng, all: &mut Vec<Series>) {
    for (cpu, mode) in [("0", "idle"), ("0", "user"), ("1", "idle"), ("1", "user")] {
        let mut value = f64::from(random.random_range(0..1000));
        let mut samples = Vec::new();
        for (i, &at) in instants.iter().enumerate() {
            if i % 97 == 60 {
                value = 0.0;
            }
            value += if random.random_range(0..5) == 0 { 0.0 } else { random.random_range(0.0..15.0) };
            samples.push((at, (value * 100.0).round() / 100.0));
        }
        let pairs =
            [("__name__", "cpu_seconds_total"), ("instance", instance), ("job", job), ("cpu", cpu), ("mode", mode)];
        all.push(Series::floats(&pairs, samples));
    }
    let mut requests = 0.0;
    for (code, rate) in [("200", 20), ("500", 2)] {
        let samples = instants
            .iter()
            .map(|&at| {
                requests += f64::from(random.random_range(0..=rate));
                (at, requests)
            })
            .collect();
        let pairs = [("__name__", "requests_total"), ("instance", instance), ("job", job), ("code", code)];
        all.push(Series::floats(&pairs, samples));
    }
}

fn gauges(instance: &str, job: &str, instants: &[i64], random: &mut StdRng, all: &mut Vec<Series>) {
    for device in ["sda", "sdb"] {
        let mut value = 1e9;
        let samples = instants
            .iter()
            .map(|&at| {
                value += random.random_range(-1e6..1e6);
                (at, value)
            })
            .collect();
        let pairs = [("__name__", "disk_free_bytes"), ("instance", instance), ("job", job), ("device", device)];
        all.push(Series::floats(&pairs, samples));
    }
    // goes stale in the middle, comes back
    let mut samples = Vec::new();
    for (i, &at) in instants.iter().enumerate() {
        let third = instants.len() / 3;
        match i {
            i if i == third => samples.push((at, STALE)),
            i if i > third && i < third + 20 => {}
            _ => samples.push((at, f64::from(random.random_range(-20i32..20)))),
        }
    }
    let pairs = [("__name__", "temperature_celsius"), ("instance", instance), ("job", job)];
    all.push(Series::floats(&pairs, samples));
    let samples = instants.iter().map(|&at| (at, 1.0)).collect();
    let pairs = [
        ("__name__", "build_info"),
        ("instance", instance),
        ("job", job),
        ("version", &format!("1.{}", instance.len())),
    ];
    all.push(Series::floats(&pairs, samples));
}

fn histogram(instance: &str, job: &str, instants: &[i64], random: &mut StdRng, all: &mut Vec<Series>) {
    const BOUNDS: [&str; 6] = ["0.05", "0.1", "0.5", "1", "5", "+Inf"];
    let mut counts = [0.0; 6];
    let (mut sum, mut sums, mut total) = (0.0, Vec::new(), Vec::new());
    let mut buckets: Vec<Vec<(i64, f64)>> = vec![Vec::new(); 6];
    for &at in instants {
        for _ in 0..random.random_range(0..30) {
            let bucket = random.random_range(0..6usize);
            counts.iter_mut().skip(bucket).for_each(|count| *count += 1.0);
            sum += random.random_range(0.0..0.3) * (bucket + 1) as f64;
        }
        counts.iter().zip(&mut buckets).for_each(|(&count, bucket)| bucket.push((at, count)));
        sums.push((at, sum));
        total.push((at, counts[5]));
    }
    for (bound, samples) in BOUNDS.into_iter().zip(buckets) {
        let pairs = [("__name__", "latency_seconds_bucket"), ("instance", instance), ("job", job), ("le", bound)];
        all.push(Series::floats(&pairs, samples));
    }
    let pairs = |name| [("__name__", name), ("instance", instance), ("job", job)];
    all.push(Series::floats(&pairs("latency_seconds_sum"), sums));
    all.push(Series::floats(&pairs("latency_seconds_count"), total));
}

/// Numbers and lives that are easy to get wrong.
fn strange(random: &mut StdRng, all: &mut Vec<Series>) {
    let instants = scrapes(20_000, random);
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1e300, -1e300, 1e-300, 1.5, -2.5];
    let samples = instants.iter().enumerate().map(|(i, &at)| (at, values[i % values.len()])).collect();
    all.push(Series::floats(&[("__name__", "strange"), ("kind", "all")], samples));
    let samples = instants.iter().map(|&at| (at, 7.25)).collect();
    all.push(Series::floats(&[("__name__", "strange"), ("kind", "constant")], samples));
    let middle = instants.len() / 2;
    let samples = instants[middle..].iter().map(|&at| (at, (at % 1000) as f64)).collect();
    all.push(Series::floats(&[("__name__", "strange"), ("kind", "late")], samples));
    let samples = instants[..middle].iter().map(|&at| (at, -((at % 777) as f64))).collect();
    all.push(Series::floats(&[("__name__", "strange"), ("kind", "early")], samples));
    let samples = vec![(instants[middle], 3.0)];
    all.push(Series::floats(&[("__name__", "strange"), ("kind", "single")], samples));
    let samples = instants.iter().step_by(12).map(|&at| (at, (at / 1000 % 60) as f64)).collect();
    all.push(Series::floats(&[("__name__", "strange"), ("kind", "sparse")], samples));
}
