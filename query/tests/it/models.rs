//! Models: learnt in versions, watched, promoted, rolled back, verified, and each row scored exactly once.
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::continuous_fixture::{Lives, SECOND, START, Sample, difference};
use crate::store::text;

const MINUTE: i64 = 60 * SECOND;
const HOSTS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const CREATE: &str = "CREATE MODEL load TYPE ANOMALY ON (SELECT ts, host, value FROM metrics.\"load\") KEY (host) TIME ts VALUE value \
                      USING 'mad' WATERMARK '0s'";

fn rows(lives: &Lives, sql: &str) -> Vec<Vec<String>> {
    lives.query(sql).unwrap_or_else(|error| panic!("{sql}\n{error}")).iter().flat_map(text).collect()
}

fn one(lives: &Lives, sql: &str) -> String {
    let rows = rows(lives, sql);
    assert_eq!((rows.len(), rows[0].len()), (1, 1), "{sql}: {rows:?}");
    rows[0][0].clone()
}

fn refused(lives: &Lives, sql: &str) -> String {
    match lives.query(sql) {
        Ok(_) => panic!("{sql} is not refused"),
        Err(error) => error.message,
    }
}

/// Minutes `from..to` of every host about 50, as `change` makes them.
fn write(lives: &Lives, from: i64, to: i64, change: impl Fn(i64, &str, f64) -> f64) {
    let mut rng = StdRng::seed_from_u64(from as u64);
    let mut samples: Vec<Sample> = Vec::new();
    for minute in from..to {
        for host in HOSTS {
            let value = 50.0 + (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
            samples.push((vec![("host", host)], START + minute * MINUTE, change(minute, host, value)));
        }
    }
    lives.write("load", &samples);
}

fn calm(_: i64, _: &str, value: f64) -> f64 {
    value
}

/// `host, minute, version, score` of every row that has a version, and that there is exactly one for each row of the query.
fn scored(lives: &Lives) -> Vec<Vec<String>> {
    let all = rows(lives, "SELECT host, ts, version, score, is_anomaly FROM model_scores('load') ORDER BY host, ts");
    let stored = rows(lives, "SELECT host, ts FROM metrics.\"load\" ORDER BY host, ts");
    assert_eq!(all.iter().map(|row| row[..2].to_vec()).collect::<Vec<_>>(), stored, "each row once");
    let begins = one(lives, "SELECT min(last_ts) FROM sys.model_versions");
    for row in &all {
        assert_eq!(row[2] != "NULL", row[1] > begins, "a row after the first training has one version: {row:?}");
    }
    all
}

#[test]
fn a_model_goes_on_where_training_ended_with_the_bits_of_one_pass() {
    let lives = Lives::new();
    write(&lives, 0, 200, calm);
    assert_eq!(one(&lives, CREATE), "model load created: version 1 has learnt 1200 rows of 6 series");
    write(&lives, 200, 300, |minute, host, value| if (minute, host) == (250, "c") { 90.0 } else { value });
    let of_model = rows(
        &lives,
        "SELECT host, ts, score, expected, lo, hi, is_anomaly FROM model_scores('load') WHERE version = 1 ORDER BY host, ts",
    );
    let of_one_pass = rows(
        &lives,
        "SELECT host, ts, a['score'], a['expected'], a['lo'], a['hi'], a['is_anomaly'] FROM (SELECT host, ts, anomaly(value, \
         method => 'mad') OVER (PARTITION BY host ORDER BY ts) AS a FROM metrics.\"load\") WHERE ts >= '2026-01-01T03:20:00Z' \
         ORDER BY host, ts",
    );
    assert_eq!(of_model.len(), 600);
    assert_eq!(of_model, of_one_pass);
    lives.drain_models();
    let found = rows(&lives, "SELECT key, value, version, label FROM sys.anomalies WHERE value > 80");
    assert_eq!(found, [["c", "90.0", "1", "NULL"]]);
}

#[test]
fn a_challenger_that_is_not_worse_becomes_the_champion_by_itself() {
    let lives = Lives::new();
    write(&lives, 0, 200, calm);
    lives.run(CREATE);
    write(&lives, 200, 300, calm);
    lives.drain_models();
    assert_eq!(one(&lives, "RETRAIN MODEL load"), "model load: version 2 is the challenger");
    let states = "SELECT version, state FROM sys.model_versions ORDER BY version";
    assert_eq!(rows(&lives, states), [["1", "champion"], ["2", "challenger"]]);
    write(&lives, 300, 400, calm);
    lives.drain_models();
    let shadow = rows(
        &lives,
        "SELECT count(*), count(challenger_score), min(version), max(version) FROM model_scores('load') WHERE ts >= '2026-01-01T05:00:00Z'",
    );
    assert_eq!(shadow, [["600", "600", "1", "1"]], "both score, the champion answers");
    write(&lives, 400, 600, calm);
    lives.drain_models();
    assert_eq!(rows(&lives, states), [["1", "fallback"], ["2", "champion"]]);
    assert_eq!(one(&lives, "SELECT reason FROM sys.model_versions WHERE version = 2"), "promoted by rule");
    write(&lives, 600, 610, calm);
    let versions = rows(
        &lives,
        "SELECT version, count(*) FROM model_scores('load') WHERE version IS NOT NULL GROUP BY version ORDER BY version",
    );
    assert_eq!(versions.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["1", "2"]);
    scored(&lives);
}

/// A unit that was wrong while the second version was trained; killed again and again.
#[test]
fn a_bad_version_is_found_and_rolled_back_by_rule_and_no_row_is_scored_twice_or_missed() {
    let mut lives = Lives::new();
    write(&lives, 0, 300, calm);
    lives.run(CREATE);
    write(&lives, 300, 330, calm);
    lives.drain_models();
    // milliseconds for seconds: what the new version learns last
    write(&lives, 330, 700, |_, _, value| value * 1_000.0);
    lives.drain_models();
    lives.kill();
    lives.run("RETRAIN MODEL load");
    let promoted = one(&lives, "ALTER MODEL load PROMOTE");
    assert!(promoted.starts_with("model load: version 2 is the champion of rows from"), "{promoted}");
    let before = scored(&lives);
    // and now it is right again
    for minute in (700..900).step_by(20) {
        write(&lives, minute, minute + 20, calm);
        lives.drain_models();
        if minute % 60 == 0 {
            lives.kill();
        }
    }
    let version = "SELECT version, state, reason FROM sys.model_versions ORDER BY version";
    assert_eq!(
        rows(&lives, version),
        [["1", "champion", "rolled back by rule"], ["2", "rolled back", "promoted"]],
        "{:?}",
        rows(&lives, "SELECT * FROM sys.model_health")
    );
    let all = scored(&lives);
    let old: Vec<_> = all.iter().filter(|row| before.iter().any(|old| old[..2] == row[..2])).cloned().collect();
    assert_eq!(old, before, "a score that was given stays");
    let by_version = |version: &str| all.iter().filter(|row| row[2] == version).count();
    assert!(by_version("1") > 6 * 400 && by_version("2") > 0, "{} {}", by_version("1"), by_version("2"));
    // what was stored as anomalous is what the scores say
    let told = rows(&lives, "SELECT key, ts, version, score FROM sys.anomalies ORDER BY key, ts");
    let said =
        rows(&lives, "SELECT host, ts, version, score FROM model_scores('load') WHERE is_anomaly ORDER BY host, ts");
    assert_eq!(told, said);
    // the version that came back does not know of the wrong unit
    let calm_again =
        one(&lives, "SELECT count(*) FROM model_scores('load') WHERE is_anomaly AND ts >= '2026-01-01T14:00:00Z'");
    assert_eq!(calm_again, "0");
}

#[test]
fn an_incident_is_no_reason_to_roll_back() {
    let lives = Lives::new();
    write(&lives, 0, 300, calm);
    lives.run(CREATE);
    lives.run("RETRAIN MODEL load");
    lives.run("ALTER MODEL load PROMOTE");
    write(&lives, 300, 340, calm);
    write(&lives, 340, 440, |_, _, value| value + 40.0);
    lives.drain_models();
    assert_eq!(one(&lives, "SELECT champion FROM sys.models"), "2");
    let found: u64 = one(&lives, "SELECT alarms FROM sys.model_health WHERE role = 'champion'").parse().unwrap();
    assert!(found > 6, "the incident is seen");
}

#[test]
fn training_again_gives_the_same_hash_unless_the_rows_changed() {
    let lives = Lives::new();
    write(&lives, 0, 100, calm);
    lives.run(&format!("{CREATE} SEED 7 LAST '1h'"));
    write(&lives, 100, 150, calm);
    let verify = "RETRAIN MODEL load VERIFY";
    let seen = rows(&lives, verify);
    assert_eq!((&*seen[0][1], seen[0][2] == seen[0][3], &*seen[0][4]), ("true", true, "360"), "{seen:?}");
    assert_eq!(rows(&lives, "SELECT version FROM sys.model_versions").len(), 1, "nothing was stored");
    write(&lives, 90, 91, |_, _, value| value + 1.0);
    let seen = rows(&lives, &format!("{verify} VERSION 1"));
    assert_eq!((&*seen[0][1], &*seen[0][6]), ("false", "values of its time have changed since"));
    lives.run("DELETE FROM metrics.\"load\" WHERE host = 'a'");
    assert_eq!(rows(&lives, verify)[0][6], "rows of its time came or went since");
    assert!(refused(&lives, &format!("{verify} VERSION 3")).contains("model load has no version 3: there are 1"));
}

#[test]
fn labels_move_the_boundary_of_the_rows_that_follow() {
    let lives = Lives::new();
    write(&lives, 0, 200, calm);
    lives.run(CREATE);
    // a bit too high once an hour, and everybody knows why
    let backup = |minute: i64, _: &str, value: f64| if minute % 60 == 0 { 58.5 } else { value };
    write(&lives, 200, 400, backup);
    lives.drain_models();
    let ids = rows(&lives, "SELECT id FROM sys.anomalies WHERE value = 58.5");
    assert!(ids.len() >= 6, "{ids:?}");
    for id in &ids {
        lives.run(&format!("LABEL ANOMALY {} AS 'false_positive'", id[0]));
    }
    let boundary: f64 = one(&lives, "SELECT boundary FROM sys.models").parse().unwrap();
    let highest: f64 =
        one(&lives, "SELECT max(score) FROM sys.anomalies WHERE label = 'false_positive'").parse().unwrap();
    assert!(boundary > 1.0 && boundary <= highest, "{boundary}");
    let precision: f64 = one(&lives, "SELECT precision FROM sys.model_health").parse().unwrap();
    assert!(precision < 0.2, "{precision}");
    let before = one(&lives, "SELECT count(*) FROM sys.anomalies");
    assert!(before.parse::<usize>().unwrap() >= ids.len());
    assert_eq!(
        one(&lives, "SELECT count(*) FROM model_scores('load') WHERE is_anomaly"),
        before,
        "what was told stays told"
    );
    assert!(refused(&lives, "LABEL ANOMALY 999999 AS 'true_positive'").contains("there is no anomaly 999999"));
}

#[test]
fn a_dropped_model_is_gone_and_everything_else_outlives_a_kill() {
    let mut lives = Lives::new();
    write(&lives, 0, 100, calm);
    lives.run(CREATE);
    lives.run(&CREATE.replace("load TYPE", "other TYPE").replace("'mad'", "'auto'"));
    let listed = "SELECT name, method, champion, versions, watched_to FROM sys.models ORDER BY name";
    let hashes =
        "SELECT model, version, hash, rows, series, backtest_alarm_rate FROM sys.model_versions ORDER BY model";
    let before = (rows(&lives, listed), rows(&lives, hashes));
    lives.kill();
    assert_eq!((rows(&lives, listed), rows(&lives, hashes)), before);
    assert_eq!(one(&lives, "DROP MODEL load"), "model load dropped, its anomalies stay in sys.anomalies");
    assert_eq!(one(&lives, "DROP MODEL IF EXISTS load"), "there is no model load");
    lives.kill();
    assert_eq!(rows(&lives, "SELECT name FROM sys.models"), [["other"]]);
    assert_eq!(rows(&lives, "SELECT model FROM sys.model_versions"), [["other"]]);
    assert!(refused(&lives, "SELECT * FROM model_scores('load')").contains("there is no model load"));
    let shown = rows(&lives, "SHOW MODELS");
    let described = rows(&lives, "DESCRIBE MODEL other");
    assert_eq!(described.iter().map(|row| row[1].clone()).collect::<Vec<_>>(), shown[0]);
}

#[test]
fn what_cannot_be_learnt_is_refused_with_a_hint() {
    let lives = Lives::new();
    write(&lives, 0, 20, calm);
    let create = |on: &str, key: &str, rest: &str| {
        format!("CREATE MODEL m TYPE ANOMALY ON ({on}) {key} TIME ts VALUE value {rest}")
    };
    let load = "SELECT ts, host, value FROM metrics.\"load\"";
    for (sql, message) in [
        (
            create(&format!("{load} WHERE ts > now() - INTERVAL '1 day'"), "KEY (host)", ""),
            "now() gives another answer at another time",
        ),
        (create(&format!("{load} WHERE value > 1000"), "KEY (host)", ""), "has no rows: nothing can be learnt"),
        (create(load, "KEY (hots)", ""), "hots"),
        (create("SELECT 1", "", ""), "ts"),
        (create(load, "KEY (host)", "SEASONALITY '0s'"), "is not a duration"),
        (
            create("SELECT ts, host AS score, value FROM metrics.\"load\"", "KEY (score)", ""),
            "the key column score would stand beside",
        ),
        (create(load, "KEY (host, host)", ""), "twice in KEY"),
        (create("SELECT ts, value FROM model_scores('x')", "", ""), "cannot learn from the scores of models"),
        (create("SELECT ts, host, value FROM nowhere", "KEY (host)", ""), "nowhere"),
        ("RETRAIN MODEL m".to_owned(), "there is no model m: SHOW MODELS lists all (there is none yet)"),
        (
            "SELECT * FROM model_scores(m)".to_owned(),
            "takes the name of a model: write SELECT * FROM model_scores('lat')",
        ),
    ] {
        let said = refused(&lives, &sql);
        assert!(said.contains(message), "{sql}: {said}");
    }
    lives.run(&create(load, "KEY (host)", "WATERMARK '0s'"));
    assert!(refused(&lives, &create(load, "KEY (host)", "")).contains("model m exists"));
    assert!(refused(&lives, "ALTER MODEL m ROLLBACK").contains("no version before this one"));
    assert!(refused(&lives, "ALTER MODEL m PROMOTE").contains("has no challenger"));
    assert!(refused(&lives, "ALTER MODEL m PROMOTE VERSION 1").contains("is the champion"));
}

#[test]
fn scores_are_a_table_like_any_other() {
    let lives = Lives::new();
    write(&lives, 0, 100, calm);
    lives.run(CREATE);
    write(&lives, 100, 160, calm);
    let counted = rows(
        &lives,
        "WITH s AS (SELECT * FROM model_scores('load') WHERE host IN ('a', 'b')) SELECT s.host, count(s.score), count(*) FROM s \
         JOIN metrics.\"load\" l ON l.ts = s.ts AND l.host = s.host AND l.value = s.value GROUP BY s.host ORDER BY s.host",
    );
    assert_eq!(counted, [["a", "60", "160"], ["b", "60", "160"]]);
    let without_key = CREATE.replace("load TYPE", "total TYPE").replace("KEY (host) ", "").replace(
        "SELECT ts, host, value FROM metrics.\"load\"",
        "SELECT time_bucket('1m', ts) AS ts, sum(value) AS value FROM metrics.\"load\" GROUP BY 1",
    );
    lives.run(&without_key);
    write(&lives, 160, 170, calm);
    assert_eq!(one(&lives, "SELECT count(score) FROM model_scores('total')"), "10");
}

/// What detector `name` must have written, as one SELECT.
fn judged(name: &str, by: &str, until: &str) -> String {
    let call = format!(
        "model_score('{by}', 9223372036854775807, ts, CAST(value AS DOUBLE), host) OVER (PARTITION BY host ORDER BY ts)"
    );
    let fields = ["score", "expected", "lo", "hi", "is_anomaly", "tier"].map(|f| format!("{call}['{f}'] AS {f}"));
    format!(
        "SELECT * FROM (SELECT ts, '{name}' AS detector, host, CAST(value AS DOUBLE) AS value, {}, CAST({call}['version'] AS INT) AS \
         version FROM metrics.\"load\") WHERE ts <= (SELECT max(ts) FROM metrics.\"load\") - INTERVAL '{until}'",
        fields.join(", ")
    )
}

#[test]
fn a_detector_that_uses_a_model_has_the_rows_of_the_select_whatever_becomes_of_its_versions() {
    for seed in 0..6 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut lives = Lives::new();
        write(&lives, 0, 120, calm);
        lives.run(&CREATE.replace("USING 'mad'", "USING 'ewma' PROMOTE MANUAL"));
        lives.run("CREATE DETECTOR now ON load KEY (host) USING MODEL load INTO found");
        lives.run(
            "CREATE DETECTOR later ON load KEY (host) VALUE value USING MODEL load WATERMARK '5m' LATE REVISE ESCALATE (TIER 1 WHEN score > 0.3) \
             INTO found",
        );
        let (mut at, mut trained) = (120, 0);
        for step in 0..24 {
            match rng.random_range(0..12) {
                0 if trained < 3 => {
                    trained += 1;
                    lives.run("RETRAIN MODEL load");
                }
                1 => drop(lives.query("ALTER MODEL load PROMOTE")),
                2 => drop(lives.query("ALTER MODEL load ROLLBACK")),
                3 => {
                    let late = rng.random_range(60..at);
                    write(&lives, late, late + 1, |_, _, value| value + 1.0);
                }
                4 => lives.kill(),
                5 => lives.drain_models(),
                6 => {
                    lives.drain_models();
                    for id in rows(&lives, "SELECT id FROM sys.anomalies WHERE label IS NULL ORDER BY id DESC LIMIT 2")
                    {
                        lives.run(&format!("LABEL ANOMALY {} AS 'false_positive'", id[0]));
                    }
                }
                7 => lives.drain(),
                _ => {
                    let minutes = rng.random_range(1..40);
                    write(
                        &lives,
                        at,
                        at + minutes,
                        |minute, _, value| if minute % 17 == 0 { value + 9.0 } else { value },
                    );
                    at += minutes;
                }
            }
            if step % 6 == 5 {
                lives.drain();
                for (name, by, until) in [("now", "load", "0 s"), ("later", "load, subspace above 0.3", "5 minutes")] {
                    let got = lives.table(&format!("SELECT * FROM found WHERE detector = '{name}'"));
                    let expected = lives.table(&judged(name, by, until));
                    assert!(expected.len() >= 6 * 110, "{}", expected.len());
                    assert_eq!(difference(&got, &expected, &[]), None, "{name}, seed {seed}, step {step}");
                }
            }
        }
        let versions = rows(&lives, "SELECT DISTINCT version FROM found WHERE version IS NOT NULL");
        assert!(!versions.is_empty(), "somebody judged");
    }
}

#[test]
fn a_new_champion_judges_rows_that_it_was_late_for_without_a_row_more() {
    let lives = Lives::new();
    write(&lives, 0, 120, calm);
    lives.run(&CREATE.replace("WATERMARK '0s'", "WATERMARK '30m'"));
    lives.run("CREATE DETECTOR d ON load KEY (host) USING MODEL load INTO found");
    write(&lives, 120, 200, calm);
    lives.run("RETRAIN MODEL load");
    lives.drain_models();
    lives.drain();
    let newest = "SELECT version FROM found WHERE version IS NOT NULL ORDER BY ts DESC, host LIMIT 1";
    assert_eq!(one(&lives, newest), "1");
    lives.run("ALTER MODEL load PROMOTE");
    lives.drain();
    // the model has watched rows up to half an hour before the newest: those after it are of the new champion
    assert_eq!(one(&lives, newest), "2");
    let rows_of = "SELECT count(*) FROM found WHERE version = 2";
    assert_eq!(one(&lives, rows_of), (6 * 30).to_string());
    assert_eq!(difference(&lives.table("SELECT * FROM found"), &lives.table(&judged("d", "load", "0 s")), &[]), None);
    let refused = |sql: &str| refused(&lives, sql);
    assert_eq!(refused("DROP MODEL load"), "detector d uses model load: drop it first");
    for (rest, reason) in [
        ("KEY (host) USING MODEL lod", "there is no model lod: SHOW MODELS lists all (load)"),
        ("USING MODEL load", "the key of model load is (host): name as many labels, in this order"),
        ("KEY (host) USING MODEL load ESCALATE (TIER 1 WHEN score > 1) SEASON '1d'", "expected INTO, found SEASON"),
    ] {
        let said = refused(&format!("CREATE DETECTOR e ON load {rest} INTO found"));
        assert!(said.contains(reason), "{rest}: {said}");
    }
    let explained = rows(&lives, "EXPLAIN DETECTOR d");
    assert!(explained.contains(&vec!["models".to_owned(), "load".to_owned()]), "{explained:?}");
    lives.run("DROP DETECTOR d");
    lives.run("DROP MODEL load");
}

#[test]
fn what_forgotten_versions_said_stays_in_the_table_of_a_detector() {
    let mut lives = Lives::new();
    write(&lives, 0, 60, calm);
    lives.run(CREATE);
    lives.run("CREATE DETECTOR d ON load KEY (host) USING MODEL load INTO found");
    for version in 2..=7 {
        write(&lives, version * 60 - 60, version * 60, calm);
        lives.drain_models();
        lives.run("RETRAIN MODEL load");
        lives.run("ALTER MODEL load PROMOTE");
        lives.drain();
        if version % 2 == 0 {
            lives.kill();
        }
    }
    write(&lives, 420, 430, calm);
    lives.drain();
    let versions = "SELECT version, count(*) FROM found WHERE version IS NOT NULL GROUP BY version ORDER BY version";
    let by_version = rows(&lives, versions);
    assert_eq!(by_version.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["1", "2", "3", "4", "5", "6", "7"]);
    let kept = one(&lives, "SELECT min(version) FROM sys.model_versions");
    assert!(kept.parse::<u32>().unwrap() > 1, "{kept}");
    let known = format!("SELECT * FROM ({}) WHERE version IS NOT NULL", judged("d", "load", "0 s"));
    let first = one(&lives, &format!("SELECT CAST(min(ts) AS VARCHAR) FROM ({known})"));
    let got = lives.table(&format!("SELECT * FROM found WHERE ts >= '{first}'"));
    assert!(got.len() > 6 * 60);
    assert_eq!(difference(&got, &lives.table(&known), &[]), None);
}

#[test]
fn a_champion_that_outlives_its_challengers_judges_by_all_that_it_has_seen() {
    let mut lives = Lives::new();
    write(&lives, 0, 120, calm);
    lives.run(&CREATE.replace("USING 'mad'", "USING 'ewma' PROMOTE MANUAL"));
    lives.run("CREATE DETECTOR d ON load KEY (host) USING MODEL load INTO found");
    for round in 0..7 {
        let begins = 120 + round * 60;
        write(&lives, begins, begins + 60, |minute, _, value| value + (minute / 40) as f64);
        lives.drain_models();
        lives.run("RETRAIN MODEL load");
        lives.drain();
        if round == 3 {
            lives.kill();
        }
    }
    write(&lives, 100, 101, |_, _, value| value + 3.0);
    write(&lives, 540, 560, calm);
    lives.drain();
    assert_eq!(one(&lives, "SELECT count(*) FROM sys.model_versions"), "4");
    let all = lives.table(&judged("d", "load", "0 s"));
    assert_eq!(difference(&lives.table("SELECT * FROM found"), &all, &[]), None);
    let by_first = one(&lives, "SELECT count(*) FROM found WHERE version = 1 AND score IS NOT NULL");
    assert_eq!(by_first, (6 * 440).to_string(), "version 1 has judged every row since its training");
}
