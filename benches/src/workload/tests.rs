//! The workloads are what they say they are.
#![allow(clippy::unwrap_used)]
use std::collections::{BTreeMap, BTreeSet};

use foretell_proto::prometheus::v1::WriteRequest;
use prost::Message;

use super::behaviour::{Behaviour, Unit};
use super::encode::{BodyEncoder, decode_labels, encode_labels};
use super::page::{Page, format_series, parse_series};
use super::{Kind, learn, tsbs};

const START_MS: i64 = 1_700_000_000_000;
type Row = (Vec<u8>, i64, u64);

fn rows(kind: Kind, rounds: u64, seed: u64) -> Vec<Row> {
    let mut fleet = kind.fleet(2_000, seed, START_MS);
    let mut rows = Vec::new();
    for round in 0..rounds {
        fleet.scrape(round, |labels, ts, value| rows.push((labels.to_vec(), ts, value.to_bits())));
    }
    rows
}

#[test]
fn the_same_seed_gives_the_same_rows_and_another_seed_others() {
    for kind in [Kind::Node, Kind::Tsbs, Kind::Churn] {
        assert_eq!(rows(kind, 3, 7), rows(kind, 3, 7));
        assert_ne!(rows(kind, 3, 7), rows(kind, 3, 8));
    }
}

#[test]
fn splitting_a_fleet_changes_no_row() {
    let mut whole = rows(Kind::Churn, 50, 1);
    let mut parts = Vec::new();
    for mut part in Kind::Churn.fleet(2_000, 1, START_MS).split(3) {
        for round in 0..50 {
            part.scrape(round, |labels, ts, value| parts.push((labels.to_vec(), ts, value.to_bits())));
        }
    }
    whole.sort();
    parts.sort();
    assert_eq!(whole, parts);
}

#[test]
fn every_series_is_unique_sorted_and_in_time_order() {
    for kind in [Kind::Node, Kind::Tsbs, Kind::Churn] {
        let mut last = BTreeMap::new();
        for (labels, ts, _) in rows(kind, 4, 3) {
            if !last.contains_key(&labels) {
                let pairs = decode_labels(&labels).unwrap();
                assert!(pairs.is_sorted_by(|a, b| a.0 < b.0), "{pairs:?}");
                assert_eq!(*encode_labels(&pairs), *labels);
            }
            assert!(last.insert(labels, ts).is_none_or(|before| before < ts));
        }
        assert!(last.len() >= 2_000);
    }
}

#[test]
fn a_scrape_has_one_timestamp_and_counters_never_fall() {
    let mut fleet = Kind::Node.fleet(1, 5, START_MS);
    let mut before: BTreeMap<Vec<u8>, f64> = BTreeMap::new();
    for round in 0..100 {
        let mut stamps = BTreeSet::new();
        fleet.scrape(round, |labels, ts, value| {
            stamps.insert(ts);
            if labels.windows(23).any(|w| w == b"node_cpu_seconds_total\x0a") || labels.ends_with(b"_total") {
                assert!(before.insert(labels.to_vec(), value).is_none_or(|b| b <= value));
            }
        });
        assert_eq!(stamps.len(), 1);
    }
}

#[test]
fn the_node_page_has_constants_counters_and_gauges_whole_and_fractional() {
    let page = &*super::node::PAGE;
    let count = |is: fn(&Behaviour) -> bool| page.series.iter().filter(|(_, b)| is(b)).count();
    assert!(page.series.len() > 400, "{}", page.series.len());
    assert!(count(|b| matches!(b, Behaviour::Constant(_))) > 100);
    assert!(count(|b| matches!(b, Behaviour::Counter { .. })) > 50);
    assert!(count(|b| matches!(b, Behaviour::Gauge { .. })) > 20);
    let fractional = |b: &Behaviour| matches!(b, Behaviour::Gauge { .. }) && !b.to_string().contains("/0 ");
    assert!(count(fractional) > 10);
}

#[test]
fn churn_replaces_a_tenth_of_the_series_every_ten_minutes() {
    let names = |round: u64| {
        let mut fleet = Kind::Churn.fleet(2_000, 9, START_MS);
        let mut names = BTreeSet::new();
        for r in 0..=round {
            names.clear();
            fleet.scrape(r, |labels, _, _| {
                names.insert(labels.to_vec());
            });
        }
        names
    };
    let (at_0, at_9_min, at_15_min) = (names(0), names(35), names(60));
    assert_eq!(at_0, at_9_min);
    let kept = at_0.intersection(&at_15_min).count() as f64 / at_0.len() as f64;
    assert!((0.89..0.91).contains(&kept), "{kept}");
}

#[test]
fn bodies_are_what_the_generated_types_encode() {
    for kind in [Kind::Node, Kind::Tsbs] {
        let mut encoder = BodyEncoder::default();
        kind.fleet(600, 2, START_MS).scrape(0, |labels, ts, value| encoder.push(labels, ts, value));
        encoder.push(&encode_labels(&[("a", "")]), 0, 0.0);
        encoder.push(&encode_labels(&[("a", "b")]), -1, f64::from_bits(0x7ff0_0000_0000_0002));
        let (raw, samples) = (encoder.raw().to_vec(), encoder.samples());
        let request = WriteRequest::decode(&*raw).unwrap();
        assert_eq!(request.timeseries.len(), samples);
        // not assert_eq: nobody can read that many bytes
        assert!(request.encode_to_vec() == raw);
        let body = encoder.finish().unwrap();
        assert_eq!(snap::raw::Decoder::new().decompress_vec(body).unwrap(), raw);
        assert_eq!(encoder.samples(), 0);
    }
}

#[test]
fn a_negative_zero_keeps_its_bits() {
    let mut encoder = BodyEncoder::default();
    encoder.push(&encode_labels(&[("a", "b")]), 7, -0.0);
    let request = WriteRequest::decode(encoder.raw()).unwrap();
    assert_eq!(request.timeseries[0].samples[0].value.to_bits(), (-0.0_f64).to_bits());
}

#[test]
fn learning_finds_units_steps_and_kinds() {
    let scrape = |i: i64| {
        format!(
            "# HELP a b\nup 1\ncpu{{cpu=\"0\",mode=\"a\\\"b\"}} {}\nmem {}\nms {}\nnoise {}\ngone{{i=\"{i}\"}} 1\n",
            (100 + i * i) as f64 / 100.0,
            (10 + i % 2) * 4096,
            (26 + i * 3) as f64 * 0.001,
            std::f64::consts::PI.powi(i as i32),
        )
    };
    let page = learn::learn(&(0..5).map(scrape).collect::<Vec<_>>()).unwrap();
    let found: BTreeMap<String, String> = page.series.iter().map(|(l, b)| (format_series(l), b.to_string())).collect();
    assert_eq!(found["up"], "constant 1");
    assert_eq!(found["cpu{cpu=\"0\",mode=\"a\\\"b\"}"], "counter 1/2 100 1,3,5,7");
    assert_eq!(found["mem"], "gauge 4096/0 10 11 1,-1,1,-1");
    assert_eq!(found["ms"], "counter 1*3 26 3,3,3,3");
    assert!(found["noise"].starts_with("float "));
    assert_eq!(found.len(), 5);
    let back = Page::parse(&page.to_text()).unwrap();
    assert_eq!(back.series, page.series);
}

#[test]
fn a_unit_prints_the_floats_that_exporters_print() {
    assert_eq!(Unit { quantum: 1, decimals: 3, multiplies: true }.value(26), 0.026_000_000_000_000_002);
    assert_eq!(Unit { quantum: 1, decimals: 3, multiplies: false }.value(26), 0.026);
    assert_eq!(Unit { quantum: 4096, decimals: 0, multiplies: false }.value(3), 12_288.0);
}

#[test]
fn a_broken_page_names_its_line() {
    for (line, part) in [("up", "tab"), ("up\tconst 1", "unknown behaviour"), ("up{a=\"b\tconstant 1", "closing quote")]
    {
        let error = format!("{:#}", Page::parse(&format!("# page\n{line}\n")).unwrap_err());
        assert!(error.contains("line 2") && error.contains(part), "{error}");
    }
    assert_eq!(parse_series("up{} 1").unwrap().1, " 1");
}

#[test]
fn the_host_that_is_found_is_the_first_above_the_limit() {
    let mut fleet = tsbs::fleet(200, 1, 0);
    let host = tsbs::host_above(&fleet, 360, 90.0);
    let mut highest = vec![0.0f64; fleet.targets().len()];
    for round in 0..360 {
        fleet.scrape(round, |labels, _, value| {
            let labels = String::from_utf8_lossy(labels);
            if labels.contains("cpu_usage_user") {
                // The field of the next label begins with a line feed.
                let host = (0..20).find(|host| labels.contains(&format!("host_{host}\n"))).unwrap();
                highest[host] = highest[host].max(value);
            }
        });
    }
    assert_eq!(highest.iter().position(|&value| value > 90.0), Some(host));
    assert_eq!(tsbs::host_above(&tsbs::fleet(200, 1, 0), 360, 100.0), 0);
}
