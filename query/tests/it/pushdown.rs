//! What is pushed into the scan, and that it changes no answer.
use std::collections::BTreeMap;

use foretell_query::QueryLimits;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::store::{START, Store, write};

async fn explain(store: &Store, sql: &str) -> String {
    let rows = store.rows(&format!("EXPLAIN {sql}")).await.unwrap();
    rows.into_iter().filter(|r| r[0] == "physical_plan").map(|r| r[1].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_shows_filters_in_the_scan() {
    let store = Store::prepared();
    for (filter, expect) in [
        ("host = 'a'", r#"series=1, matchers=[host="a"]"#),
        ("host != 'a'", r#"series=2, matchers=[host!="a", host!=""]"#),
        ("host IN ('a', 'b', 'c', 'd', 'e')", r#"matchers=[host in "a|b|c|d|e"]"#),
        ("host IN ('a', 'b')", r#"matchers=[host in "a|b"]"#),
        ("host = 'a' OR host = 'b'", r#"matchers=[host in "a|b"]"#),
        ("host NOT IN ('a', 'b')", r#"host!="a""#),
        ("region IS NULL", r#"series=1, matchers=[region=""]"#),
        ("region IS NOT NULL", r#"series=2, matchers=[region!=""]"#),
        ("host LIKE 'a%'", "matchers=[host=~"),
        ("host NOT LIKE 'a%'", "matchers=[host!~"),
        ("host ~ '^[ab]'", "matchers=[host=~"),
        ("host !~ '[ab]$'", "matchers=[host!~"),
        ("ts >= '2026-01-01T00:10:00Z'", "ts=[1767226200000000000..]"),
        ("ts > TIMESTAMP '2026-01-01 00:10:00'", "ts=[1767226200000000001..]"),
        (
            "ts BETWEEN '2026-01-01T00:10:00Z' AND '2026-01-01T00:20:00Z'",
            "ts=[1767226200000000000..=1767226800000000000]",
        ),
        ("ts < now() - INTERVAL '1 hour'", "ts=[..="),
        (
            "ts >= to_timestamp('2026-01-01T00:10:00Z') AND host = 'a'",
            r#"ts=[1767226200000000000..], matchers=[host="a"]"#,
        ),
        ("ts = '2026-01-01T00:10:00Z'", "ts=[1767226200000000000..=1767226200000000000]"),
    ] {
        let plan = explain(&store, &format!("SELECT value FROM cpu_usage WHERE {filter}")).await;
        assert!(plan.contains(expect), "{filter}\n{plan}");
        assert!(plan.contains("projection=[value]"), "{filter}\n{plan}");
        assert!(!plan.contains("FilterExec"), "{filter}\n{plan}");
    }
    let plan = explain(&store, "SELECT value FROM cpu_usage WHERE value > 5").await;
    assert!(plan.contains("FilterExec"), "{plan}");
    let plan = explain(&store, "SELECT value FROM cpu_usage WHERE host = 'a' LIMIT 3").await;
    assert!(plan.contains("limit=3"), "{plan}");
    let plan =
        explain(&store, "SELECT count(*) FROM samples WHERE metric = 'cpu_usage' AND labels['host'] = 'a'").await;
    assert!(plan.contains(r#"series=1, matchers=["#) && !plan.contains("FilterExec"), "{plan}");
}

/// Whether a condition holds for a row, `None` when it is NULL.
type Truth = Box<dyn Fn(&Row) -> Option<bool>>;

/// A random condition: its SQL, and its truth for a row (`None` is NULL).
struct Condition {
    sql: String,
    holds: Truth,
}

struct Row {
    ts: i64,
    value: f64,
    labels: BTreeMap<&'static str, &'static str>,
}

const LABELS: [&str; 3] = ["a", "b", "c"];
const VALUES: [&str; 6] = ["x", "y", "xy", "x.y", "", "Zz"];

fn condition(random: &mut StdRng, depth: u32) -> Condition {
    if depth > 0 && random.random_bool(0.5) {
        let (left, right) = (condition(random, depth - 1), condition(random, depth - 1));
        return match random.random_range(0..3) {
            0 => Condition {
                sql: format!("({} AND {})", left.sql, right.sql),
                holds: Box::new(move |row| match ((left.holds)(row), (right.holds)(row)) {
                    (Some(false), _) | (_, Some(false)) => Some(false),
                    (Some(true), Some(true)) => Some(true),
                    _ => None,
                }),
            },
            1 => Condition {
                sql: format!("({} OR {})", left.sql, right.sql),
                holds: Box::new(move |row| match ((left.holds)(row), (right.holds)(row)) {
                    (Some(true), _) | (_, Some(true)) => Some(true),
                    (Some(false), Some(false)) => Some(false),
                    _ => None,
                }),
            },
            _ => Condition {
                sql: format!("NOT ({})", left.sql),
                holds: Box::new(move |row| (left.holds)(row).map(|b| !b)),
            },
        };
    }
    match random.random_range(0..8) {
        0 | 1 => time(random),
        2 => {
            let bound = f64::from(random.random_range(0..10));
            Condition { sql: format!("value > {bound:?}"), holds: Box::new(move |row| Some(row.value > bound)) }
        }
        _ => label(random),
    }
}

fn time(random: &mut StdRng) -> Condition {
    let at = START + random.random_range(-2..22) * 1_000;
    let literal = format!("to_timestamp_nanos({at})");
    let (op, holds): (&str, Truth) = match random.random_range(0..6) {
        0 => (">", Box::new(move |row| Some(row.ts > at))),
        1 => (">=", Box::new(move |row| Some(row.ts >= at))),
        2 => ("<", Box::new(move |row| Some(row.ts < at))),
        3 => ("<=", Box::new(move |row| Some(row.ts <= at))),
        4 => ("=", Box::new(move |row| Some(row.ts == at))),
        _ => ("!=", Box::new(move |row| Some(row.ts != at))),
    };
    if random.random_bool(0.3) {
        let end = at + random.random_range(0..10) * 1_000;
        return Condition {
            sql: format!("ts BETWEEN {literal} AND to_timestamp_nanos({end})"),
            holds: Box::new(move |row| Some((at..=end).contains(&row.ts))),
        };
    }
    Condition { sql: format!("ts {op} {literal}"), holds }
}

fn label(random: &mut StdRng) -> Condition {
    let name = LABELS[random.random_range(0..LABELS.len())];
    let value = VALUES[random.random_range(0..VALUES.len())];
    let get = move |row: &Row| row.labels.get(name).copied();
    let list: Vec<&'static str> =
        (0..random.random_range(1..6)).map(|_| VALUES[random.random_range(0..VALUES.len())]).collect();
    let quoted = list.iter().map(|v| format!("'{v}'")).collect::<Vec<_>>().join(", ");
    match random.random_range(0..12) {
        0 | 1 => {
            Condition { sql: format!("{name} = '{value}'"), holds: Box::new(move |row| get(row).map(|v| v == value)) }
        }
        2 => {
            Condition { sql: format!("{name} != '{value}'"), holds: Box::new(move |row| get(row).map(|v| v != value)) }
        }
        3 => Condition {
            sql: format!("{name} IN ({quoted})"),
            holds: Box::new(move |row| get(row).map(|v| list.contains(&v))),
        },
        4 => Condition {
            sql: format!("{name} NOT IN ({quoted})"),
            holds: Box::new(move |row| get(row).map(|v| !list.contains(&v))),
        },
        5 => Condition { sql: format!("{name} IS NULL"), holds: Box::new(move |row| Some(get(row).is_none())) },
        6 => Condition { sql: format!("{name} IS NOT NULL"), holds: Box::new(move |row| Some(get(row).is_some())) },
        7 => Condition {
            sql: format!("{name} LIKE '%x_'"),
            holds: Box::new(move |row| get(row).map(|v| v.len() >= 2 && v.as_bytes()[v.len() - 2] == b'x')),
        },
        8 => Condition {
            sql: format!("{name} NOT LIKE 'x.%'"),
            holds: Box::new(move |row| get(row).map(|v| !v.starts_with("x."))),
        },
        9 => Condition {
            sql: format!("{name} ~ 'x|^y'"),
            holds: Box::new(move |row| get(row).map(|v| v.contains('x') || v.starts_with('y'))),
        },
        10 => Condition {
            sql: format!("{name} !~ 'y$'"),
            holds: Box::new(move |row| get(row).map(|v| !v.ends_with('y'))),
        },
        _ => Condition {
            // The parser would take what follows into the right-hand side.
            sql: format!("({name} IS DISTINCT FROM '{value}')"),
            holds: Box::new(move |row| Some(get(row) != Some(value))),
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_filters_give_what_brute_force_gives() {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let mut random = StdRng::seed_from_u64(seed);
    let store = Store::empty(QueryLimits::default());
    let mut rows = Vec::new();
    for round in 0..40 {
        let mut labels = BTreeMap::new();
        for name in LABELS {
            let value = VALUES[random.random_range(0..VALUES.len())];
            if !value.is_empty() && random.random_bool(0.7) {
                labels.insert(name, value);
            }
        }
        let pairs: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (*n, *v)).chain([("__name__", "m")]).collect();
        let samples: Vec<(i64, f64)> = (0..random.random_range(1..10))
            .map(|_| (START + random.random_range(0..20) * 1_000, f64::from(random.random_range(0..10))))
            .collect();
        write(&store.engine, &pairs, &samples);
        for (ts, value) in samples {
            // Of equal timestamps the newest wins.
            rows.retain(|row: &Row| row.ts != ts || row.labels != labels);
            rows.push(Row { ts, value, labels: labels.clone() });
        }
        if round % 13 == 12 {
            store.engine.flush().unwrap();
        }
    }
    // A column exists once some series has the label.
    write(&store.engine, &[("__name__", "m"), ("a", "x"), ("b", "x"), ("c", "x")], &[]);
    for query in 0..400 {
        let condition = condition(&mut random, 3);
        let sql = format!("SELECT ts, value, a, b, c FROM m WHERE {}", condition.sql);
        let mut got = store.rows(&sql).await.unwrap_or_else(|e| panic!("seed {seed}, query {query}: {sql}: {e}"));
        let shown = |row: &Row| {
            let label = |name: &str| row.labels.get(name).map_or("NULL".to_owned(), |v| (*v).to_owned());
            let nanos = row.ts - START;
            let ts =
                if nanos == 0 { "2026-01-01T00:00:00Z".to_owned() } else { format!("2026-01-01T00:00:00.{nanos:09}Z") };
            vec![ts, format!("{:?}", row.value), label("a"), label("b"), label("c")]
        };
        let mut expected: Vec<Vec<String>> =
            rows.iter().filter(|row| (condition.holds)(row) == Some(true)).map(shown).collect();
        got.iter_mut().for_each(|row| row[0] = padded(&row[0]));
        got.sort();
        expected.sort();
        assert_eq!(got, expected, "seed {seed}, query {query}: {sql}");
    }
}

/// Arrow leaves out trailing groups of zeros.
fn padded(ts: &str) -> String {
    match ts.strip_suffix('Z').and_then(|t| t.split_once('.')) {
        Some((seconds, fraction)) => format!("{seconds}.{fraction:0<9}Z"),
        None => ts.to_owned(),
    }
}
