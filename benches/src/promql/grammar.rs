//! Expressions. Random ones have the right types, so that most have an answer; some do not, and then both must refuse.
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::data::{LENGTH_MS, START_MS};

const SELECTORS: &[&str] = &[
    "cpu_seconds_total",
    "cpu_seconds_total{mode=\"idle\"}",
    "cpu_seconds_total{cpu=\"0\",instance=~\"a.*|b.*\"}",
    "requests_total",
    "requests_total{code!=\"200\"}",
    "disk_free_bytes",
    "disk_free_bytes{device=\"sda\"}",
    "temperature_celsius",
    "temperature_celsius{job=\"node\"}",
    "build_info",
    "latency_seconds_count",
    "latency_seconds_sum",
    "latency_seconds_bucket",
    "strange",
    "strange{kind!~\"all|single\"}",
    "{__name__=~\"strange|build_info\"}",
    "nothing_here",
    "duration_seconds",
    "duration_seconds{job=\"node\"}",
    "payload_bytes",
    "balance",
    "switching",
    "with_nan",
    "{__name__=~\"duration_seconds|build_info\"}",
];
/// Native histograms. Not exponential and custom ones at once: which of the two is named in a warning depends on the order of
/// series in the index.
const HISTOGRAMS: &[&str] =
    &["duration_seconds", "payload_bytes", "balance", "switching", "with_nan", "{__name__=~\"duration.*|balance\"}"];
const HISTOGRAM_PARTS: &[&str] =
    &["histogram_count", "histogram_sum", "histogram_avg", "histogram_stddev", "histogram_stdvar"];
const RANGES: &[&str] = &["1m", "2m", "5m", "10m", "90s", "20s", "7m30s"];
const MAPS: &[&str] = &[
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "ceil",
    "deg",
    "floor",
    "ln",
    "log10",
    "log2",
    "rad",
    "sgn",
    "sqrt",
    "tanh",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "hour",
    "minute",
    "month",
    "year",
    "sort",
    "sort_desc",
    "round",
    "histogram_count",
    "histogram_sum",
    "histogram_avg",
    "histogram_stddev",
    "histogram_stdvar",
];
const WINDOWS: &[&str] = &[
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "deriv",
    "changes",
    "resets",
    "avg_over_time",
    "sum_over_time",
    "min_over_time",
    "max_over_time",
    "count_over_time",
    "last_over_time",
    "present_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "absent_over_time",
    "mad_over_time",
];
/// Ill-conditioned on what may be inside them, so that the order of a sum shows in the ninth digit: only in [`fixed`].
const STEEP_MAPS: &[&str] = &["cos", "cosh", "sin", "sinh", "tan", "exp"];
const INSTANT_WINDOWS: &[&str] = &["ts_of_max_over_time", "ts_of_min_over_time", "ts_of_last_over_time"];
const AGGREGATES: &[&str] = &["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"];
const ARITHMETIC: &[&str] = &["+", "-", "*", "/", "%", "^", "atan2"];
const COMPARISONS: &[&str] = &["==", "!=", "<", "<=", ">", ">="];
const GROUPINGS: &[&str] = &[
    "",
    "by (job)",
    "by (instance)",
    "by (job, instance)",
    "by ()",
    "without (instance)",
    "without (cpu, mode)",
    "by (le)",
    "by (nothing)",
    "without ()",
];

/// Every function and operator in a simple form, and shapes that are easy to get wrong.
pub fn fixed() -> Vec<String> {
    let mut all: Vec<String> = SELECTORS.iter().map(|&selector| selector.to_owned()).collect();
    for f in MAPS.iter().chain(STEEP_MAPS) {
        all.extend(["temperature_celsius", "strange", "cpu_seconds_total"].map(|s| format!("{f}({s})")));
    }
    for f in WINDOWS.iter().chain(INSTANT_WINDOWS) {
        for selector in ["cpu_seconds_total", "temperature_celsius", "strange", "latency_seconds_count"] {
            all.extend(["1m", "5m"].map(|range| format!("{f}({selector}[{range}])")));
        }
        all.push(format!("{f}(rate(requests_total[2m])[10m:1m])"));
        all.push(format!("{f}(strange[5m] offset 3m)"));
        all.push(format!("{f}(strange[5m] @ {})", START_MS / 1000 + 3000));
    }
    for op in AGGREGATES {
        all.extend(GROUPINGS.iter().map(|grouping| format!("{op} {grouping} (cpu_seconds_total)")));
        all.push(format!("{op}(strange)"));
    }
    for op in ARITHMETIC.iter().chain(COMPARISONS) {
        all.push(format!("temperature_celsius {op} 3"));
        all.push(format!("2 {op} strange"));
        all.push(format!("disk_free_bytes {op} on(instance, device) disk_free_bytes offset 5m"));
        all.push(format!("requests_total {op} ignoring(code) group_left sum without(code) (requests_total)"));
        all.push(format!("sum by (instance) (requests_total) {op} on(instance) group_right(version) build_info"));
        all.push(format!("strange {op} strange"));
    }
    for op in COMPARISONS {
        all.push(format!("temperature_celsius {op} bool 3"));
        all.push(format!("1 {op} bool 2"));
        all.push(format!("strange {op} bool strange"));
        all.push(format!("strange {op} bool on(kind) strange offset 1m"));
    }
    all.extend(histograms());
    all.extend(FIXED.iter().map(|&text| text.to_owned()));
    all
}

/// Every function and operator over native histograms.
fn histograms() -> Vec<String> {
    let mut all = Vec::new();
    for h in HISTOGRAMS {
        let plain = HISTOGRAM_PARTS.iter().chain(&["abs", "sort", "sort_desc", "timestamp", "scalar", "absent", "-"]);
        all.extend(plain.map(|f| format!("{f}({h})")));
        for f in WINDOWS.iter().chain(INSTANT_WINDOWS) {
            all.push(format!("{f}({h}[5m])"));
            all.push(format!("{f}({h}[5m:1m])"));
        }
        for part in HISTOGRAM_PARTS {
            all.push(format!("{part}(rate({h}[5m]))"));
            all.push(format!("{part}(sum by (job) (increase({h}[3m])))"));
        }
        for q in ["0", "0.1", "0.5", "0.9", "1", "-1", "1.5", "NaN"] {
            all.push(format!("histogram_quantile({q}, {h})"));
            all.push(format!("histogram_quantile({q}, sum(rate({h}[5m])))"));
        }
        for (low, high) in [("0", "0.2"), ("-1", "1"), ("-Inf", "0.5"), ("0.3", "+Inf"), ("1", "0"), ("NaN", "1")] {
            all.push(format!("histogram_fraction({low}, {high}, {h})"));
        }
        for op in AGGREGATES.iter().chain(&["topk", "bottomk", "limitk", "quantile", "limit_ratio", "count_values"]) {
            let param = match *op {
                "topk" | "bottomk" | "limitk" => "2, ",
                "quantile" | "limit_ratio" => "0.5, ",
                "count_values" => "\"v\", ",
                _ => "",
            };
            // Which series the first two of several names are depends on their order in the index.
            let is_first = *op == "limitk";
            if !is_first || !h.contains("__name__") {
                all.push(format!("{op}({param}{h})"));
            }
            if !is_first {
                all.push(format!("{op} by (job) ({param}{{__name__=~\"temperature_celsius|duration_seconds\"}})"));
            }
        }
        for op in ARITHMETIC.iter().chain(COMPARISONS) {
            all.push(format!("{h} {op} 3"));
            all.push(format!("2 {op} {h}"));
            all.push(format!("{h} {op} ignoring(__name__) {h} offset 1m"));
            all.push(format!("{h} {op} on(instance) group_left temperature_celsius"));
            all.push(format!("temperature_celsius {op} on(instance) group_right {h}"));
            all.push(format!("duration_seconds {op} on(instance) payload_bytes"));
        }
        for op in COMPARISONS {
            all.push(format!("{h} {op} bool 3"));
            all.push(format!("{h} {op} bool {h}"));
        }
        for op in ["and", "or", "unless"] {
            all.push(format!("{h} {op} on(instance) temperature_celsius > 0"));
        }
        all.push(format!("label_replace({h}, \"x\", \"y\", \"job\", \".*\")"));
        all.push(format!("sum(rate({h}[5m])) / 2 - sum(rate({h}[5m] offset 1m))"));
        all.push(format!("rate(sum by (job) ({h})[5m:30s])"));
        all.push(format!("{h}[2m]"));
        all.push(format!("info({h})"));
    }
    all
}

const FIXED: &[&str] = &[
    "1",
    "-1",
    "1 + 2 * 3 ^ 2 ^ 0.5",
    "-2 ^ 2",
    "time()",
    "pi()",
    "\"text\"",
    "vector(1)",
    "vector(time())",
    "scalar(vector(3))",
    "scalar(strange)",
    "scalar(strange{kind=\"constant\"})",
    "Inf",
    "NaN",
    "0x1f",
    "1e3",
    "5m",
    "1_000",
    "up",
    "absent(nothing_here{a=\"b\",c=~\"d\"})",
    "absent(temperature_celsius)",
    "absent(sum(nothing_here))",
    "absent_over_time(nothing_here{a=\"b\"}[5m])",
    "absent_over_time(temperature_celsius[1m])",
    "minute()",
    "hour()",
    "day_of_week()",
    "year()",
    "days_in_month()",
    "month(vector(951782400))",
    "day_of_year(vector(951868800))",
    "cpu_seconds_total and on(instance) temperature_celsius",
    "cpu_seconds_total unless on(instance) temperature_celsius > 0",
    "temperature_celsius or disk_free_bytes",
    "temperature_celsius or on(instance) disk_free_bytes",
    "(temperature_celsius > 0) or vector(0)",
    "strange and strange{kind=\"late\"}",
    "strange unless strange{kind=\"late\"}",
    "topk(2, cpu_seconds_total)",
    "bottomk(2, cpu_seconds_total)",
    "topk by (instance) (1, cpu_seconds_total)",
    "topk(0, cpu_seconds_total)",
    "topk(100, temperature_celsius)",
    "bottomk(3, strange)",
    "topk(3, strange)",
    "topk(scalar(vector(2)), disk_free_bytes)",
    "quantile(0.5, cpu_seconds_total)",
    "quantile by (job) (0.9, cpu_seconds_total)",
    "quantile(-1, strange)",
    "quantile(2, strange)",
    "quantile(NaN, strange)",
    "count_values(\"v\", build_info)",
    "count_values by (job) (\"v\", temperature_celsius)",
    "count_values(\"job\", temperature_celsius)",
    "count_values without (instance) (\"v\", build_info)",
    "quantile_over_time(0.5, cpu_seconds_total[5m])",
    "quantile_over_time(0, strange[5m])",
    "quantile_over_time(1.5, strange[5m])",
    "predict_linear(disk_free_bytes[10m], 3600)",
    "predict_linear(strange[10m], 60)",
    "predict_linear(disk_free_bytes[10m] offset 5m, 60)",
    "predict_linear(disk_free_bytes[10m] @ 1700005000, 60)",
    "histogram_quantile(0.9, latency_seconds_bucket)",
    "histogram_quantile(0.9, rate(latency_seconds_bucket[5m]))",
    "histogram_quantile(0.5, sum by (le) (rate(latency_seconds_bucket[5m])))",
    "histogram_quantile(0.5, sum by (le, job) (increase(latency_seconds_bucket[10m])))",
    "histogram_quantile(2, latency_seconds_bucket)",
    "histogram_quantile(-1, latency_seconds_bucket)",
    "histogram_quantile(NaN, latency_seconds_bucket)",
    "histogram_quantile(0, latency_seconds_bucket)",
    "histogram_quantile(1, latency_seconds_bucket)",
    "histogram_quantile(0.9, latency_seconds_bucket{le!=\"+Inf\"})",
    "histogram_quantile(0.9, temperature_celsius)",
    "histogram_quantile(scalar(vector(0.3)), latency_seconds_bucket)",
    "clamp(temperature_celsius, -5, 5)",
    "clamp(strange, 5, -5)",
    "clamp_min(strange, 0)",
    "clamp_max(strange, 0)",
    "clamp(temperature_celsius, -5, NaN)",
    "round(temperature_celsius, 5)",
    "round(disk_free_bytes, 1000)",
    "round(strange, 0.1)",
    "label_replace(temperature_celsius, \"host\", \"$1\", \"instance\", \"(.*):.*\")",
    "label_replace(temperature_celsius, \"host\", \"${1}x\", \"instance\", \"(.*):.*\")",
    "label_replace(temperature_celsius, \"job\", \"\", \"job\", \"node\")",
    "label_replace(temperature_celsius, \"instance\", \"same\", \"job\", \".*\")",
    "label_replace(temperature_celsius, \"x\", \"y\", \"nothing\", \"\")",
    "label_replace(temperature_celsius, \"x\", \"y\", \"job\", \"(\")",
    "label_replace(temperature_celsius, \"__name__\", \"other_$1\", \"job\", \"(.*)\")",
    "label_join(temperature_celsius, \"all\", \"-\", \"job\", \"instance\", \"nothing\")",
    "label_join(temperature_celsius, \"instance\", \"-\")",
    "label_join(temperature_celsius, \"instance\", \"-\", \"job\")",
    "timestamp(strange)",
    "timestamp(cpu_seconds_total)",
    "timestamp(temperature_celsius offset 1m)",
    "timestamp(sum(temperature_celsius))",
    "timestamp(temperature_celsius @ 1700005000)",
    "timestamp(vector(1))",
    "timestamp(-temperature_celsius)",
    "-temperature_celsius",
    "-{__name__=~\"strange|build_info\",kind!=\"all\"}",
    "temperature_celsius @ start()",
    "temperature_celsius @ end()",
    "temperature_celsius @ 1700004000.5 offset 30s",
    "temperature_celsius offset -5m",
    "rate(cpu_seconds_total[5m] @ end())",
    "sum(rate(cpu_seconds_total[5m] @ start()))",
    "max_over_time(temperature_celsius[30m:1m])",
    "max_over_time(temperature_celsius[30m:])",
    "avg_over_time((temperature_celsius > 0)[10m:30s])",
    "sum_over_time(time()[5m:1m])",
    "max_over_time(sum(temperature_celsius)[10m:1m] offset 7m)",
    "max_over_time(temperature_celsius[10m:45s] @ 1700005000)",
    "rate(sum(cpu_seconds_total)[10m:15s])",
    "max_over_time(max_over_time(temperature_celsius[2m])[10m:1m])",
    "max_over_time((temperature_celsius @ start())[10m:1m])",
    "min_over_time(rate(cpu_seconds_total[2m:10s])[5m:30s] @ end() offset 1m)",
    "cpu_seconds_total * on(instance) group_left(version) build_info",
    "build_info * on(instance) group_right cpu_seconds_total",
    "cpu_seconds_total * on(instance) build_info",
    "cpu_seconds_total * ignoring(cpu, mode) group_left build_info",
    "cpu_seconds_total / ignoring(mode) cpu_seconds_total",
    "cpu_seconds_total{mode=\"idle\"} / ignoring(mode) cpu_seconds_total{mode=\"user\"}",
    "cpu_seconds_total + on(cpu, mode, instance) cpu_seconds_total",
    "temperature_celsius > on(instance) group_left disk_free_bytes",
    "sum(cpu_seconds_total) / count(cpu_seconds_total)",
    "1 - avg by (instance) (rate(cpu_seconds_total{mode=\"idle\"}[5m]))",
    "100 * sum by (job) (rate(requests_total{code=\"500\"}[5m])) / sum by (job) (rate(requests_total[5m]))",
    "double_exponential_smoothing(disk_free_bytes[10m], 0.3, 0.6)",
    "double_exponential_smoothing(strange[10m], 0.3, 0.6)",
    "double_exponential_smoothing(strange[10m], 0, 0.6)",
    "double_exponential_smoothing(strange[10m], 0.5, 1)",
    "sort_by_label(cpu_seconds_total, \"mode\")",
    "sort_by_label_desc(cpu_seconds_total, \"instance\", \"cpu\")",
    "limitk(2, cpu_seconds_total)",
    "limitk by (job) (1, cpu_seconds_total)",
    "limitk(0, strange)",
    "limit_ratio(0.5, cpu_seconds_total)",
    "limit_ratio(-0.5, cpu_seconds_total)",
    "limit_ratio(1.5, strange)",
    "histogram_fraction(0, 0.2, latency_seconds_bucket)",
    "histogram_fraction(0.1, 1, rate(latency_seconds_bucket[5m]))",
    "histogram_fraction(-Inf, +Inf, latency_seconds_bucket)",
    "histogram_fraction(1, 0.1, latency_seconds_bucket)",
    "info(cpu_seconds_total)",
    "info(cpu_seconds_total, {__name__=\"build_info\"})",
    "info(temperature_celsius, {__name__=\"build_info\",version=~\".+\"})",
    "group by (job) ({__name__=~\".+\"})",
    "count({job=\"node\"})",
    "sum({__name__=~\"cpu.*\"}) by (mode)",
    "rate({__name__=~\"cpu_seconds_total|requests_total\"}[5m])",
    "last_over_time({__name__=~\"strange|build_info\"}[5m])",
    "abs({__name__=~\"latency_seconds_sum|latency_seconds_count\"})",
    "strange{kind=\"late\"} == 500",
    "sort(strange)",
    "sort_desc(temperature_celsius)",
    "strange % 0",
    "strange / 0",
    "0 / 0",
    "strange ^ 0.5",
    // refused by both
    "sum(",
    "foo bar",
    "rate(cpu_seconds_total)",
    "cpu_seconds_total[5m]",
    "sum(cpu_seconds_total[5m])",
    "{}",
    "{a=~\".*\"}",
    "1 > 2",
    "topk(NaN, cpu_seconds_total)",
    "topk(1e30, cpu_seconds_total)",
    "unknown_function(up)",
    "up offset",
    "1 and 1",
    "rate(up[0s])",
    "up[5m:0s]",
    "label_replace(up)",
    "clamp(up)",
    "count_values(1, up)",
    "up{a=~\"(\"}",
    "sum by (a (up)",
    "\"a\" + 1",
    "vector(up)",
    "scalar(1)",
];

/// Instant and range of question number `i`.
pub fn times(i: usize, random: &mut StdRng) -> (f64, (f64, f64, f64)) {
    let second = |random: &mut StdRng| (START_MS / 1000 + random.random_range(-300..LENGTH_MS / 1000 + 400)) as f64;
    let at = second(random) + if i.is_multiple_of(5) { 0.123 } else { 0.0 };
    let start = second(random);
    let step = *[7.0, 15.0, 30.0, 60.0, 61.5, 300.0].choose(random).unwrap_or(&15.0);
    (at, (start, start + step * f64::from(random.random_range(0..40)), step))
}

/// A random expression.
pub fn random(random: &mut StdRng) -> String {
    let depth = random.random_range(1..5);
    if random.random_range(0..20) == 0 { scalar(depth, random) } else { vector(depth, random) }
}

fn pick<'a>(from: &[&'a str], random: &mut StdRng) -> &'a str {
    from.choose(random).copied().unwrap_or_default()
}

fn when(random: &mut StdRng) -> String {
    match random.random_range(0..12) {
        0 => " offset 2m".into(),
        1 => " offset -45s".into(),
        2 => format!(" @ {}", START_MS / 1000 + random.random_range(0..LENGTH_MS / 1000)),
        3 => " @ start()".into(),
        4 => " @ end() offset 1m".into(),
        _ => String::new(),
    }
}

fn vector(depth: u32, random: &mut StdRng) -> String {
    if depth == 0 {
        return format!("{}{}", pick(SELECTORS, random), when(random));
    }
    let below = depth - 1;
    match random.random_range(0..15) {
        0 => format!("{}({})", pick(MAPS, random), vector(below, random)),
        1..=3 => format!("{}({})", pick(WINDOWS, random), matrix(below, random)),
        4 => format!("quantile_over_time({}, {})", scalar(0, random), matrix(below, random)),
        5 | 6 => format!("{} {} ({})", pick(AGGREGATES, random), pick(GROUPINGS, random), vector(below, random)),
        7 => format!(
            "quantile {} (0.{}, {})",
            pick(GROUPINGS, random),
            random.random_range(1..10),
            vector(below, random)
        ),
        8 => format!("({}) {} {}", vector(below, random), pick(ARITHMETIC, random), scalar(below, random)),
        9 => format!("{} {} ({})", scalar(0, random), pick(COMPARISONS, random), vector(below, random)),
        10 => format!("({}) {} bool {}", vector(below, random), pick(COMPARISONS, random), scalar(0, random)),
        11 => {
            let matching =
                pick(&["", "on(instance)", "on(job, instance)", "ignoring(le)", "ignoring(cpu, mode)", "on()"], random);
            let op = if random.random_range(0..3) == 0 { pick(COMPARISONS, random) } else { pick(ARITHMETIC, random) };
            let group = if matching.is_empty() {
                ""
            } else {
                pick(&["", "", "group_left", "group_right", "group_left(version)"], random)
            };
            format!("({}) {op} {matching} {group} ({})", vector(below, random), vector(below, random))
        }
        12 => {
            let matching = pick(&["", "on(instance)", "ignoring(le)", "on()"], random);
            let op = pick(&["and", "or", "unless"], random);
            format!("({}) {op} {matching} ({})", vector(below, random), vector(below, random))
        }
        13 => match random.random_range(0..4) {
            0 => format!("histogram_fraction({}, {}, {})", scalar(0, random), scalar(0, random), vector(below, random)),
            1 => format!("{}({})", pick(HISTOGRAM_PARTS, random), vector(below, random)),
            _ => format!("histogram_quantile(0.{}, {})", random.random_range(0..10), vector(below, random)),
        },
        _ => match random.random_range(0..7) {
            0 => format!("clamp({}, {}, {})", vector(below, random), scalar(0, random), scalar(0, random)),
            1 => format!("absent({})", vector(below, random)),
            2 => format!("-({})", vector(below, random)),
            3 => format!("vector({})", scalar(below, random)),
            4 => format!("predict_linear({}, {})", matrix(below, random), scalar(0, random)),
            5 => format!("label_replace({}, \"job\", \"$1-x\", \"instance\", \"(.).*\")", vector(below, random)),
            _ => format!("clamp_min({}, {})", vector(below, random), scalar(below, random)),
        },
    }
}

fn matrix(depth: u32, random: &mut StdRng) -> String {
    let range = pick(RANGES, random);
    if depth == 0 || random.random_range(0..3) > 0 {
        return format!("{}[{range}]{}", pick(SELECTORS, random), when(random));
    }
    let step = pick(&["", "15s", "30s", "1m", "47s"], random);
    format!("({})[{range}:{step}]{}", vector(depth - 1, random), when(random))
}

fn scalar(depth: u32, random: &mut StdRng) -> String {
    match random.random_range(0..if depth == 0 { 4 } else { 7 }) {
        0 => random.random_range(-10..100).to_string(),
        1 => format!("{:.2}", random.random_range(-1.0..2.0)),
        2 => pick(&["0", "1", "2", "0.5", "1e6", "-1"], random).to_owned(),
        3 => "pi()".into(),
        4 => "time()".into(),
        5 => format!("scalar({})", vector(depth - 1, random)),
        _ => format!("({} {} {})", scalar(depth - 1, random), pick(ARITHMETIC, random), scalar(depth - 1, random)),
    }
}
