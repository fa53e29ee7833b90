//! The guard of the parser against texts that nobody would write: each is an expression or an error, soon, whatever its bytes
//! are, and never a panic or the end of the stack. `make fuzz` runs it for long.
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{Features, Limits, layout, parse};
use crate::planner::with_large_stack;

/// Inputs of a short run.
const SHORT_RUN: u64 = 4_000;
/// No input may take longer.
const INPUT_MAX: Duration = Duration::from_secs(5);

const SEEDS: &[&str] = &[
    "sum by (job, \"a.b\") (rate(http_requests_total{code=~\"5..\", job!=\"x\"}[5m] offset -1h @ end()))",
    "a / on(x) group_left(y) fill_left(-1) fill_right(2) b",
    "max_over_time(sum(rate(a[1h*2]))[step()+1d:max(step(), 1m)] @ 1_000.5)",
    "histogram_quantile(0.9, sum by (le) (increase(b_bucket[5m] anchored)))",
    "label_replace(up, 'a', \"$1\", `b`, `(.*)\\d{3}`) # comment\n or vector(-0x1F) ^ 2 ^ NaN",
    "topk without(a) (3, -{__name__=~\"a|b\", \"quoted\"} == bool 1)",
    "absent_over_time({a=\"b\" or c!~\"d\"}[1y2w3d4h5m6s7ms]) unless start() - end()",
    "foo </ 5 >/ 1e300 % .5 atan2 Inf",
    "info(rate(x[5m]), {build=~\".+\"}) offset (1h - 5m) smoothed",
];

/// Pieces that go wrong at borders.
const PIECES: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'",
    "`",
    "\\",
    ",",
    ":",
    "-",
    "+",
    "@",
    "#",
    "\n",
    "\u{0}",
    "é",
    "\u{1}",
    "5m",
    "1e999",
    "9999999999999999999",
    "0x",
    ".",
    "_",
    "=~",
    "</",
    " offset ",
    " anchored ",
    " smoothed ",
    " fill(",
    " by (",
    "step()",
    "range()",
    "(((((((((((((((((((((((((((((((((((((((((",
    "[5m:1m]",
    " or ",
    "sum",
    "rate(",
    "-----------------",
    "{1000}",
    "(.{1000}){1000}",
    "@ 1e300",
    "[1e300]",
    "offset 1e300",
];

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// One input, drawn from its number.
fn input(number: u64) -> String {
    let mut rng = SmallRng::seed_from_u64(number);
    let mut bytes = SEEDS[rng.random_range(0..SEEDS.len())].as_bytes().to_vec();
    for _ in 0..rng.random_range(1..=8) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..6) {
            0 if at < bytes.len() => bytes[at] = rng.random(),
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..(at + rng.random_range(0..12)).min(bytes.len()))),
            3 => {
                let other = SEEDS[rng.random_range(0..SEEDS.len())].as_bytes();
                let from = rng.random_range(0..other.len());
                let to = (from + rng.random_range(0..40)).min(other.len());
                drop(bytes.splice(at..at, other[from..to].iter().copied()));
            }
            4 => {
                // A piece again and again reaches the limits.
                let piece = PIECES[rng.random_range(0..PIECES.len())].repeat(rng.random_range(1..2_000));
                drop(bytes.splice(at..at, piece.bytes()));
            }
            _ => {
                let piece = PIECES[rng.random_range(0..PIECES.len())];
                drop(bytes.splice(at..at, piece.bytes()));
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Every feature on, or none.
fn run(text: &str) {
    for features in [Features::all(), Features::default()] {
        let limits = Limits { features, ..Limits::default() };
        let _ = parse::parse(text, &limits);
        let _ = parse::parse_selector(text, &limits);
    }
    let _ = layout::format(text, &Limits::default());
}

#[test]
fn promql() {
    let done = with_large_stack(|| {
        SEEDS.iter().for_each(|seed| run(seed));
        let begun = Instant::now();
        let only = number("FUZZ_INPUT");
        let until = number("FUZZ_SECONDS").map(Duration::from_secs);
        let first = number("FUZZ_SEED").unwrap_or(1) << 32;
        let mut done = 0;
        while until.map_or(done < SHORT_RUN, |until| begun.elapsed() < until) {
            let number = only.unwrap_or(first + done);
            let (text, started) = (input(number), Instant::now());
            let ran = std::panic::catch_unwind(|| run(&text));
            let replay =
                format!("replay: FUZZ_INPUT={number} cargo test --release --workspace --lib promql::fuzz::promql");
            assert!(ran.is_ok(), "panic on {} bytes {text:?}\n{replay}", text.len());
            assert!(started.elapsed() < INPUT_MAX, "{:?}\n{replay}", started.elapsed());
            done += 1;
            if only.is_some() {
                break;
            }
        }
        println!("promql: {done} inputs from {} seeds in {:?}", SEEDS.len(), begun.elapsed());
        Ok(done)
    });
    assert!(done.is_ok_and(|done| done > 0));
}

#[test]
fn chains_and_nesting_at_the_limits_fit_the_stack() {
    let limits = Limits { features: Features::all(), ..Limits::default() };
    let ok = with_large_stack(|| {
        for text in [
            vec!["1"; limits.terms_max].join("+"),
            vec!["1"; limits.terms_max].join("^"),
            format!("{}1", "-".repeat(limits.terms_max)),
            format!("a[{}1m]", "-".repeat(limits.terms_max - 2)),
            format!("a[{}]", vec!["1m"; limits.terms_max - 2].join("^")),
            format!("{}1{}", "(".repeat(limits.depth_max), ")".repeat(limits.depth_max)),
            format!("{}a{}", "abs(".repeat(limits.depth_max), ")".repeat(limits.depth_max)),
        ] {
            let _ = parse::parse(&text, &limits);
            let laid_out = layout::format(&text, &limits).map_or(0, |text| text.len());
            assert!(laid_out < 4 << 20, "{laid_out} bytes");
        }
        let laid_out = layout::format(&vec!["1"; 1024].join("+"), &limits)?;
        assert!((1024..4 << 20).contains(&laid_out.len()), "{}", laid_out.len());
        Ok(())
    });
    assert!(ok.is_ok());
}
