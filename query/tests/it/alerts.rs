//! Alerts: what is told equals what the rows say, once each, whatever is killed when.
use std::collections::{BTreeMap, BTreeSet};

use foretell_query::{ErrorKind, Notice, Target};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::continuous_fixture::{Lives, SECOND, START, Sample, Value};

fn host(host: &'static str, second: i64, value: f64) -> Sample {
    (vec![("host", host)], START + second * SECOND, value)
}

const DETECTOR: &str = "CREATE DETECTOR d ON m KEY (host) USING 'ewma' INTO anomalies";

fn with_alert(rest: &str) -> Lives {
    let lives = Lives::new();
    lives.write("m", &[host("a", 0, 1.0)]);
    lives.run(DETECTOR);
    lives.run(&format!(
        "CREATE ALERT high ON DETECTOR d WHERE value > 10 {rest} NOTIFY (WEBHOOK 'http://127.0.0.1:9/x')"
    ));
    lives
}

fn settle(lives: &Lives) {
    lives.drain();
    lives.drain_alerts();
}

/// Notices as (firing, host, starts_at, ends_at) in seconds.
fn told(notices: &[std::sync::Arc<Notice>]) -> Vec<(bool, String, i64, Option<i64>)> {
    let second = |at: i64| (at - START) / SECOND;
    let one = |notice: &std::sync::Arc<Notice>| {
        let host = notice.of.get("host").unwrap_or_default().to_owned();
        (notice.firing, host, second(notice.starts_at), notice.ends_at.map(second))
    };
    notices.iter().map(one).collect()
}

#[test]
fn an_alert_fires_after_its_for_keeps_firing_and_resolves() {
    let mut lives = with_alert(
        "FOR '3s' KEEP FIRING FOR '2s' LABELS (severity = 'page') ANNOTATIONS (summary = 'on {{ $labels.host }}')",
    );
    let values = [1.0, 20.0, 20.0, 1.0, 20.0, 20.0, 20.0, 30.0, 1.0, 20.0, 1.0, 1.0, 1.0, 1.0];
    let mut states = Vec::new();
    for (second, value) in (1..).zip(values) {
        lives.write("m", &[host("a", second, value)]);
        settle(&lives);
        let state = lives.texts("SELECT state FROM sys.alerts").concat();
        states.push(state.chars().next().unwrap());
        if second == 6 {
            lives.kill();
        }
    }
    assert_eq!(states.into_iter().collect::<String>(), "ippippp fffffii".replace(' ', ""));
    let notices = lives.notices();
    let expected = [(true, "a".to_owned(), 8, None), (false, "a".to_owned(), 8, Some(13))];
    assert_eq!(told(&notices), expected);
    let labels = [("alertname", "high"), ("host", "a"), ("severity", "page")];
    assert_eq!(notices[0].labels, labels.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(notices[0].annotations, [("summary".to_owned(), "on {{ $labels.host }}".to_owned())]);
    let samples = lives.table("SELECT ts, alertname, alertstate, severity, value FROM \"ALERTS\" WHERE value = 1");
    let firing = samples.keys().filter(|key| key["alertstate"] == "firing").count();
    assert_eq!((firing, samples.len() - firing), (5, 5), "{samples:?}");
}

/// What may be told at the webhook of [`with_alert`], as (firing, host, starts_at, ends_at).
fn tellable(lives: &Lives) -> Vec<(bool, String, i64, Option<i64>)> {
    let target = Target::Webhook("http://127.0.0.1:9/x".into());
    let told_now = lives.with_database(|database| Box::pin(async move { Ok(database.notices_for(&target, 100)) }));
    told(&told_now)
}

fn taken(lives: &Lives) {
    let seqs: Vec<u64> = lives.notices().iter().map(|notice| notice.seq).collect();
    lives.with_database(|database| Box::pin(async move { database.notices_taken(&seqs).await }));
}

#[test]
fn a_silence_holds_back_what_fires_and_forgets_what_ends_within_it() {
    let mut lives = with_alert("LABELS (severity = 'page')");
    let fire = |lives: &Lives, second: i64, a: f64, b: f64| {
        lives.write("m", &[host("a", second, a), host("b", second, b)]);
        settle(lives);
    };
    let (fired, ended) = (
        |host: &str, at| (true, host.to_owned(), at, None),
        |host: &str, from, at| (false, host.to_owned(), from, Some(at)),
    );
    // b is told before the silence, and so it is told of its end.
    fire(&lives, 1, 1.0, 50.0);
    assert_eq!(tellable(&lives), [fired("b", 1)]);
    taken(&lives);
    lives.run("CREATE SILENCE s ON '{alertname=\"high\",severity=\"page\"}' FOR '1h' COMMENT 'maintenance'");
    fire(&lives, 2, 50.0, 1.0);
    assert_eq!(tellable(&lives), [ended("b", 1, 2)]);
    assert_eq!(lives.texts("SELECT silenced_by FROM sys.notifications WHERE silenced_by IS NOT NULL"), ["s"]);
    let active = lives.with_database(|database| Box::pin(async move { Ok(database.active_alerts()) }));
    assert_eq!(active.iter().map(|alert| alert.silenced).collect::<Vec<_>>(), [true]);
    taken_but_held(&lives);
    // What ends within it is never told, over a restart.
    lives.kill();
    fire(&lives, 3, 1.0, 1.0);
    wait(|| lives.notices().is_empty());
    // What has not ended with it is told then.
    fire(&lives, 4, 50.0, 1.0);
    assert_eq!((lives.notices().len(), tellable(&lives)), (1, Vec::new()));
    lives.run("CREATE OR REPLACE SILENCE s ON '{severity=\"info\"}' FOR '1h'");
    assert_eq!(tellable(&lives), [fired("a", 4)]);
    lives.run("CREATE OR REPLACE SILENCE s FROM '2020-01-01' UNTIL '2021-01-01'");
    assert_eq!(lives.texts("SELECT CAST(active AS VARCHAR) FROM sys.silences"), ["false"]);
    lives.run("DROP SILENCE s");
    assert_eq!(tellable(&lives), [fired("a", 4)]);
    for (sql, said) in [
        ("DROP SILENCE s", "there is no silence s"),
        ("CREATE SILENCE s ON 'rate(x[1m])' FOR '1h'", "is no selector of alerts"),
    ] {
        let error = lives.query(sql).unwrap_err();
        assert!(error.message.contains(said), "{sql}: {error}");
    }
}

/// Takes what may be told, and leaves what is held back.
fn taken_but_held(lives: &Lives) {
    let target = Target::Webhook("http://127.0.0.1:9/x".into());
    lives.with_database(|database| {
        Box::pin(async move {
            let seqs: Vec<u64> = database.notices_for(&target, 100).iter().map(|notice| notice.seq).collect();
            database.notices_taken(&seqs).await
        })
    });
    assert_eq!(lives.notices().len(), 1);
}

fn wait(condition: impl Fn() -> bool) {
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !condition() {
        assert!(std::time::Instant::now() < patience);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Conditions that need more than a row are asked; what is told is the same.
#[test]
fn a_condition_with_a_subquery_or_the_present_time_is_judged_like_any_other() {
    let lives = Lives::new();
    lives.write("m", &[host("a", 0, 1.0), host("b", 0, 1.0)]);
    lives.run(DETECTOR);
    for (name, condition) in [
        ("plain", "value > 10 AND host LIKE 'a%'"),
        ("asked", "value > (SELECT 10) AND host LIKE 'a%'"),
        ("timed", "value > 10 AND host LIKE 'a%' AND ts < now() + INTERVAL '100 years'"),
        ("commented", "value > 10 AND coalesce(host, '') LIKE 'a%' -- all of a"),
    ] {
        lives.run(&format!(
            "CREATE ALERT {name} ON DETECTOR d WHERE {condition}\n NOTIFY (WEBHOOK 'http://127.0.0.1:9/{name}')"
        ));
    }
    lives.write("m", &[host("a", 1, 50.0), host("b", 1, 50.0)]);
    settle(&lives);
    lives.write("m", &[host("a", 2, 1.0), host("b", 2, 50.0)]);
    settle(&lives);
    let mut by_alert: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for notice in lives.notices() {
        by_alert.entry(notice.alert.clone()).or_default().extend(told(&[notice]));
    }
    let expected = [(true, "a".to_owned(), 1, None), (false, "a".to_owned(), 1, Some(2))];
    assert_eq!(by_alert.len(), 4, "{by_alert:?}");
    assert!(by_alert.values().all(|told| *told == expected), "{by_alert:?}");
}

/// A detector with other labels joins the table of one that an alert watches.
#[test]
fn a_table_that_gets_more_labels_is_learned_again() {
    let lives = with_alert("");
    lives.write("m", &[host("a", 1, 50.0)]);
    settle(&lives);
    lives.write("n", &[(vec![("zone", "z")], START, 1.0)]);
    lives.run("CREATE DETECTOR e ON n KEY (zone) USING 'ewma' INTO anomalies");
    lives.run(
        "CREATE ALERT other ON DETECTOR e WHERE value > 10 AND zone = 'z' NOTIFY (WEBHOOK 'http://127.0.0.1:9/y')",
    );
    lives.write("n", &[(vec![("zone", "z")], START + SECOND, 50.0)]);
    lives.write("m", &[host("b", 1, 50.0)]);
    settle(&lives);
    let alerts: Vec<(String, String)> =
        lives.notices().iter().map(|notice| (notice.alert.clone(), notice.of.to_promql())).collect();
    let expected = [("high", "{host=\"a\"}"), ("high", "{host=\"b\"}"), ("other", "{zone=\"z\"}")];
    let mut sorted = alerts.clone();
    sorted.sort();
    assert_eq!(sorted, expected.map(|(alert, of)| (alert.to_owned(), of.to_owned())));
}

#[test]
fn what_was_taken_is_forgotten_and_what_was_given_up_is_kept() {
    let mut lives = with_alert("");
    lives.write("m", &[host("a", 1, 50.0), host("b", 1, 50.0), host("c", 1, 50.0)]);
    settle(&lives);
    let seqs: Vec<u64> = lives.notices().iter().map(|notice| notice.seq).collect();
    assert_eq!(seqs.len(), 3);
    lives.with_database(|database| {
        Box::pin(async move {
            database.notices_taken(&seqs[..1]).await?;
            database.notice_given_up(seqs[1], "410 Gone").await
        })
    });
    lives.kill();
    assert_eq!(lives.notices().len(), 1);
    let rows =
        lives.texts("SELECT CAST(given_up AS VARCHAR) || coalesce(error, '') FROM sys.notifications ORDER BY id");
    assert_eq!(rows, ["true410 Gone", "false"]);
    // numbers go on
    lives.write("m", &[host("a", 2, 1.0)]);
    settle(&lives);
    let all: BTreeSet<u64> = lives.notices().iter().map(|notice| notice.seq).collect();
    assert_eq!(all.len(), 2);
}

#[test]
fn a_series_that_falls_silent_while_others_go_on_has_ended() {
    let lives = with_alert("");
    lives.write("m", &[host("a", 1, 50.0), host("b", 1, 5.0)]);
    settle(&lives);
    lives.write("m", &[host("b", 500, 5.0)]);
    settle(&lives);
    assert_eq!(told(&lives.notices()).len(), 1);
    lives.write("m", &[host("b", 700, 5.0)]);
    settle(&lives);
    assert_eq!(told(&lives.notices())[1], (false, "a".to_owned(), 1, Some(700)));
}

#[test]
fn selects_and_expressions_are_asked_every_so_often() {
    let lives = Lives::new();
    lives.write("m", &[host("a", 0, 1.0)]);
    lives.run(
        "CREATE ALERT sql ON (SELECT host, max(value) AS high FROM m GROUP BY host HAVING max(value) > 10) EVERY '1s'",
    );
    lives.run("CREATE ALERT promql ON PROMQL 'vector(3) > 2' EVERY '1s' LABELS (team = 'x')");
    lives.write("m", &[host("a", 1, 50.0), host("b", 1, 5.0), host("c", 1, 70.0)]);
    let expected = BTreeMap::from([
        ("promql".to_owned(), vec![("{alertname=\"promql\", team=\"x\"}".to_owned(), 3.0)]),
        (
            "sql".to_owned(),
            vec![
                ("{alertname=\"sql\", host=\"a\"}".to_owned(), 50.0),
                ("{alertname=\"sql\", host=\"c\"}".to_owned(), 70.0),
            ],
        ),
    ]);
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let rows = lives
            .table("SELECT TIMESTAMP '2026-01-01' AS ts, name, labels, value FROM sys.alerts WHERE state = 'firing'");
        let mut found: BTreeMap<String, Vec<(String, f64)>> = BTreeMap::new();
        for (key, values) in rows {
            let Some(Value::Double(value)) = values.get("value") else { continue };
            found.entry(key["name"].clone()).or_default().push((key["labels"].clone(), *value));
        }
        if found == expected {
            break;
        }
        assert!(std::time::Instant::now() < patience, "{found:?}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    lives.run("DROP ALERT sql");
    assert_eq!(lives.table("SELECT TIMESTAMP '2026-01-01' AS ts, name FROM sys.alerts").len(), 1);
    assert!(lives.engine().snapshot().state_keys(b"alert/def/sql").is_empty());
}

#[test]
fn mistakes_are_errors_that_say_what_to_do() {
    let lives = with_alert("");
    for (rest, reason, kind) in [
        ("ON DETECTOR nobody", "there is no detector nobody", ErrorKind::NotFound),
        ("ON DETECTOR d WHERE price > 1", "price", ErrorKind::Invalid),
        ("ON DETECTOR d WHERE score", "", ErrorKind::Invalid),
        ("ON (SELECT nothing FROM m)", "nothing", ErrorKind::Invalid),
        ("ON PROMQL 'sum by ('", "", ErrorKind::Invalid),
    ] {
        let outcome = lives.query(&format!("CREATE ALERT x {rest}"));
        // a number counts as a condition: other than 0
        let Err(error) = outcome else {
            assert_eq!(rest, "ON DETECTOR d WHERE score");
            lives.run("DROP ALERT x");
            continue;
        };
        assert!(error.message.contains(reason), "{rest}: {error}");
        assert_eq!(error.kind, kind, "{rest}: {error}");
    }
    let again = lives.query("CREATE ALERT high ON DETECTOR d").unwrap_err();
    assert!(again.message.contains("alert high exists"), "{again}");
    let watched = lives.query("DROP DETECTOR d").unwrap_err();
    assert_eq!(watched.message, "alert high watches detector d: drop the alert first");
    lives.run("CREATE ALERT IF NOT EXISTS high ON DETECTOR d");
    lives.run("CREATE OR REPLACE ALERT high ON DETECTOR d WHERE score > 2");
    lives.run("DROP ALERT high");
    assert_eq!(lives.query("DROP ALERT high").unwrap_err().kind, ErrorKind::NotFound);
}

/// What the machine says of rows in order, by hand.
fn expected(rows: &BTreeMap<(String, i64), f64>, hold: i64) -> BTreeSet<(bool, String, i64, Option<i64>)> {
    let mut told = BTreeSet::new();
    let mut state: BTreeMap<String, (i64, Option<i64>)> = BTreeMap::new();
    let mut sorted: Vec<_> = rows.iter().collect();
    sorted.sort_by_key(|((host, second), _)| (*second, host.clone()));
    for ((host, second), value) in sorted {
        if *value > 10.0 {
            let (since, fired) = state.entry(host.clone()).or_insert((*second, None));
            if fired.is_none() && second - *since >= hold {
                *fired = Some(*second);
                told.insert((true, host.clone(), *second, None));
            }
        } else if let Some((_, Some(fired))) = state.remove(host) {
            told.insert((false, host.clone(), fired, Some(*second)));
        }
    }
    told
}

/// Batches of rows in order, with kills between any two steps, and notices taken now and then: what was taken and what waits is
/// what the rows say, and nothing has two idempotency keys.
#[test]
fn every_change_is_told_once_whatever_is_killed_when() {
    const HOSTS: [&str; 3] = ["a", "b", "c"];
    let cases = std::env::var("FORETELL_CONTINUOUS_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let config = Config { cases, max_shrink_iters: 40, failure_persistence: None, ..Config::default() };
    let batch = prop::collection::vec(prop::collection::vec((0usize..3, prop::bool::weighted(0.6)), 1..6), 1..4);
    let steps = prop::collection::vec((batch, 0u8..6), 3..20);
    let outcome = TestRunner::new(config).run(&(steps, 0i64..4), |(steps, hold)| {
        let mut lives = with_alert(&if hold > 0 { format!("FOR '{hold}s'") } else { String::new() });
        settle(&lives);
        let (mut rows, mut taken) = (BTreeMap::from([(("a".to_owned(), 0), 1.0)]), BTreeMap::new());
        let mut second = 1;
        for (batches, what) in steps {
            for batch in batches {
                let mut samples = BTreeMap::new();
                for (name, high) in batch {
                    let value = if high { 50.0 } else { 1.0 };
                    samples.insert(HOSTS[name], value);
                    rows.insert((HOSTS[name].to_owned(), second), value);
                }
                lives.write(
                    "m",
                    &samples.into_iter().map(|(name, value)| host(name, second, value)).collect::<Vec<_>>(),
                );
                second += 1;
            }
            match what {
                0 => lives.kill(),
                1 => settle(&lives),
                2 => {
                    let notices = lives.notices();
                    let seqs: Vec<u64> = notices.iter().map(|notice| notice.seq).collect();
                    for notice in notices {
                        taken.insert(notice.seq, notice);
                    }
                    // taken and not told so is taken again
                    if second % 2 == 0 {
                        lives.with_database(|database| Box::pin(async move { database.notices_taken(&seqs).await }));
                    }
                }
                _ => {}
            }
        }
        settle(&lives);
        taken.extend(lives.notices().into_iter().map(|notice| (notice.seq, notice)));
        let all: Vec<_> = taken.into_values().collect();
        let keys: BTreeSet<String> = all.iter().map(|notice| notice.idempotency_key()).collect();
        let found: BTreeSet<_> = told(&all).into_iter().collect();
        prop_assert_eq!(keys.len(), found.len());
        prop_assert_eq!(all.len(), found.len(), "each change is one notice");
        let expected = expected(&rows, hold);
        if found != expected {
            return Err(TestCaseError::fail(format!("told {found:?}\nexpected {expected:?}")));
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
