//! Runs a detector, a forecaster or the change point search over series from standard input.
//!
//! One series a line, `id;t1,t2,...;v1,v2,...` (times in ns). Answers, one line a series:
//! - `detect METHOD [SEASON_NS]`: `id;s1,s2,...` (empty: no score)
//! - `forecast METHOD STEPS LEVEL [SEASON_NS]`: `id;v1,...;lo1,...;hi1,...`
//! - `change`: `id;index:kind:p,...`
//! - `time METHOD`: nanoseconds a value (lower quartile over chunks: the machine may be busy)
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]
use foretell_ml::change::change_points;
use foretell_ml::detect::{Detector, DetectorOptions};
use foretell_ml::forecast::{ForecastOptions, Horizon, forecast};
use std::io::BufRead;

/// Values timed at once.
const CHUNK: usize = 1_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let option = |i: usize| args.get(i).map(|a| a.parse::<i64>().unwrap());
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let mut parts = line.split(';');
        let id = parts.next().unwrap();
        let ts: Vec<i64> = parts.next().unwrap().split(',').map(|t| t.parse().unwrap()).collect();
        let values: Vec<f64> = parts.next().unwrap().split(',').map(|v| v.parse().unwrap()).collect();
        let list = |values: Vec<f64>| values.iter().map(f64::to_string).collect::<Vec<_>>().join(",");
        match args[0].as_str() {
            "detect" => {
                let mut detector = Detector::new(
                    args[1].parse().unwrap(),
                    DetectorOptions { season_ns: option(2), ..DetectorOptions::default() },
                )
                .unwrap();
                let mut out = Vec::new();
                detector.update_many(&ts, &values, &mut out);
                let scores: Vec<String> =
                    out.iter().map(|v| v.score.map(|s| s.to_string()).unwrap_or_default()).collect();
                println!("{id};{}", scores.join(","));
            }
            "forecast" => {
                let options = ForecastOptions {
                    method: Some(args[1].clone()),
                    level: Some(args[3].parse().unwrap()),
                    season_ns: option(4),
                };
                let points =
                    forecast(&ts, &values, Horizon::Steps(args[2].parse().unwrap()), &options).unwrap().unwrap();
                let column = |f: fn(&foretell_ml::forecast::ForecastPoint) -> f64| list(points.iter().map(f).collect());
                println!("{id};{};{};{}", column(|p| p.value), column(|p| p.lo), column(|p| p.hi));
            }
            "change" => {
                let found = change_points(&values);
                let found: Vec<String> =
                    found.iter().map(|c| format!("{}:{:?}:{:.2e}", c.index, c.kind, c.p_value)).collect();
                println!("{id};{}", found.join(","));
            }
            "time" => {
                let mut detector = Detector::new(args[1].parse().unwrap(), DetectorOptions::default()).unwrap();
                let mut out = Vec::with_capacity(values.len());
                let mut nanos: Vec<f64> = Vec::new();
                for (ts, values) in ts.chunks(CHUNK).zip(values.chunks(CHUNK)) {
                    let begin = std::time::Instant::now();
                    detector.update_many(ts, values, &mut out);
                    nanos.push(begin.elapsed().as_nanos() as f64 / values.len() as f64);
                }
                nanos.sort_by(f64::total_cmp);
                let mut bytes = Vec::new();
                detector.save(&mut bytes);
                println!("{id};{:.1} ns a value;{} bytes saved", nanos[nanos.len() / 4], bytes.len());
            }
            other => panic!("unknown command {other}"),
        }
    }
}
