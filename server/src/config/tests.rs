#![allow(clippy::unwrap_used)]
use super::*;
use foretell_query::promql::Features;
use std::io::Write as _;

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let file = file(
        "data_dir = \"/file\"\nlisten_http = \"127.0.0.1:1\"\nshutdown_timeout = \"7s\"\n[query]\nconcurrency = 9\n",
    );
    let loaded = load(
        Some(file.path()),
        env(&[
            ("FORETELL_DATA_DIR", "/env"),
            ("FORETELL_LISTEN_HTTP", "127.0.0.1:2"),
            ("FORETELL_QUERY_QUEUE_MAX", "5"),
            ("HOME", "/"),
        ]),
        &Flags::from([("data_dir", "/flag".to_owned())]),
    )
    .unwrap();
    assert_eq!(loaded.config.data_dir().unwrap(), Path::new("/flag"));
    assert_eq!(loaded.config.listen_http, "127.0.0.1:2");
    assert_eq!(loaded.config.shutdown_timeout.to_string(), "7s");
    assert_eq!(loaded.config.query.concurrency, 9);
    assert_eq!(loaded.config.query.queue_max, 5);
    assert_eq!(loaded.origin("data_dir"), "flag --data-dir");
    assert_eq!(loaded.origin("listen_http"), "environment FORETELL_LISTEN_HTTP");
    assert!(loaded.origin("query.concurrency").starts_with("file "));
    assert_eq!(loaded.origin("query.rows_max"), "default");
    let printed = loaded.print().unwrap();
    assert!(printed.contains("wire_bytes_max = \"8MiB\""), "{printed}");
}

#[test]
fn what_print_config_prints_can_be_loaded_again() {
    let first = load(None, env(&[]), &Flags::new()).unwrap();
    let file = file(&first.print().unwrap());
    let second = load(Some(file.path()), env(&[]), &Flags::new()).unwrap();
    assert_eq!(format!("{:?}", first.config), format!("{:?}", second.config));
}

#[test]
fn features_of_promql_are_named_as_in_prometheus() {
    let file = file("[promql]\nenable = [\"promql-duration-expr\", \"promql-binop-fill-modifiers\"]\n");
    let loaded = load(Some(file.path()), env(&[]), &Flags::new()).unwrap();
    assert_eq!(loaded.config.promql.enable.0.len(), 2);
    assert_ne!(loaded.config.query_limits().promql_features, Features::default());
    assert!(loaded.print().unwrap().contains("enable = [\"promql-duration-expr\",\"promql-binop-fill-modifiers\"]"));
    let environment = env(&[("FORETELL_PROMQL_ENABLE", "promql-duration-expr, promql-at-modifier")]);
    let loaded = load(None, environment, &Flags::new()).unwrap();
    assert!(loaded.config.validate().is_ok());
    let environment = env(&[("FORETELL_PROMQL_ENABLE", "promql-magic")]);
    let error = load(None, environment, &Flags::new()).unwrap().config.validate().unwrap_err().to_string();
    assert!(error.contains("promql.enable") && error.contains("known are promql-duration-expr"), "{error}");
}

#[test]
fn unknown_keys_are_errors_that_name_the_nearest_known_one() {
    let typo = file("[limits]\nwire_bytes_mx = 5\n");
    let error = load(Some(typo.path()), env(&[]), &Flags::new()).unwrap_err().to_string();
    assert!(error.contains("limits.wire_bytes_mx; did you mean wire_bytes_max?"), "{error}");
    let error = load(None, env(&[("FORETELL_DATADIR", "x")]), &Flags::new()).unwrap_err().to_string();
    assert!(error.contains("FORETELL_DATADIR; did you mean FORETELL_DATA_DIR?"), "{error}");
}

#[test]
fn values_of_the_wrong_form_are_named_with_their_source() {
    let error = load(None, env(&[("FORETELL_QUERY_TIMEOUT", "soon")]), &Flags::new()).unwrap_err().to_string();
    assert!(error.contains("query.timeout") && error.contains("30s"), "{error}");
    let number = file("[query]\ntimeout = 30\n");
    let error = load(Some(number.path()), env(&[]), &Flags::new()).unwrap_err().to_string();
    assert!(error.contains("no unit"), "{error}");
    assert!(load(Some(Path::new("/does/not/exist.toml")), env(&[]), &Flags::new()).is_err());
}

#[test]
fn only_loopback_and_built_protocols_are_accepted() {
    let with = |key: &'static str, value: &str| {
        load(None, env(&[]), &Flags::from([(key, value.to_owned())])).unwrap().config.validate()
    };
    assert!(with("listen_http", "127.0.0.1:0").is_ok());
    assert!(with("listen_http", "[::1]:0").is_ok());
    assert!(with("listen_http", "none").is_ok());
    assert!(with("listen_http", "0.0.0.0:8484").unwrap_err().to_string().contains("authentication"));
    assert!(with("listen_http", "here").is_err());
    assert!(with("listen_grpc", "none").is_ok());
    assert!(with("listen_grpc", "127.0.0.1:4317").is_ok());
    assert!(with("listen_grpc", "0.0.0.0:4317").unwrap_err().to_string().contains("--listen-grpc"));
    assert!(with("listen_pg", "127.0.0.1:0").unwrap_err().to_string().contains("not built yet"));
    assert!(with("listen_otlp_http", "127.0.0.1:0").is_ok());
}

#[test]
fn rollups_are_off_unless_widths_are_given() {
    let with = |widths: &str| {
        let flags = [("data_dir", "/d"), ("rollup.widths", widths), ("rollup.metrics", "node_.*")];
        load(None, env(&[]), &flags.map(|(key, value)| (key, value.to_owned())).into()).unwrap().config
    };
    let off = load(None, env(&[]), &Flags::from([("data_dir", "/d".to_owned())])).unwrap().config.engine().unwrap();
    assert_eq!((off.rollup_widths.len(), off.rollup_metrics.as_str()), (0, ".*"));
    let on = with(" 5m,1h ").engine().unwrap();
    assert_eq!(on.rollup_widths, [300, 3600].map(std::time::Duration::from_secs));
    assert_eq!(on.rollup_metrics, "node_.*");
    for wrong in ["soon", "5", "0", "5m 1h,x"] {
        let error = with(wrong).validate().unwrap_err().to_string();
        assert!(error.contains("rollup.widths") && error.contains("[\"5m\", \"1h\"]"), "{error}");
    }
    for (impossible, why) in
        [("1ms", "choose one from 1s"), ("2d", "choose one from 1s"), ("1m,2m,3m,4m,5m", "at most 4")]
    {
        let error = with(impossible).validate().unwrap_err().to_string();
        assert!(error.contains("[rollup]") && error.contains(why), "{error}");
    }
}

#[test]
fn the_retention_is_for_ever_unless_it_is_set_and_is_never_nothing() {
    let with = |flags: &[(&'static str, &str)]| {
        let flags = flags.iter().map(|(key, value)| (*key, (*value).to_owned())).chain([("data_dir", "/d".to_owned())]);
        load(None, env(&[("FORETELL_RETENTION_BYTES", "10GiB")]), &flags.collect())
    };
    let without = load(None, env(&[]), &Flags::from([("data_dir", "/d".to_owned())])).unwrap().config.engine().unwrap();
    assert_eq!((without.retention_age, without.retention_bytes), (None, None));
    let loaded = with(&[("retention.age", "90d")]).unwrap();
    let engine = loaded.config.engine().unwrap();
    assert_eq!(engine.retention_age, Some(std::time::Duration::from_secs(90 * 86_400)));
    assert_eq!(engine.retention_bytes, Some(10 << 30));
    assert_eq!(loaded.origin("retention.age"), "flag --retention-age");
    assert_eq!(loaded.origin("retention.bytes"), "environment FORETELL_RETENTION_BYTES");
    let printed = loaded.print().unwrap();
    assert!(printed.contains("age = \"90d\""), "{printed}");
    for nothing in [("retention.age", "0"), ("retention.bytes", "0")] {
        let error = with(&[nothing]).unwrap().config.validate().unwrap_err().to_string();
        assert!(error.contains(nothing.0), "{error}");
    }
    assert!(with(&[("retention.age", "soon")]).is_err());
}

#[test]
fn rule_files_lie_beside_the_configuration_and_lists_have_commas_in_the_environment() {
    let file = file("rule_files = [\"rules/*.yml\", \"/etc/a.yml\"]\n[alerting]\nexternal_labels = [\"a=b\"]\n");
    let env = env(&[("FORETELL_ALERTING_ALERTMANAGERS", "http://127.0.0.1:9093, http://127.0.0.1:9094/am")]);
    let loaded = load(Some(file.path()), env, &Flags::new()).unwrap();
    let config = &loaded.config;
    let beside = file.path().parent().unwrap().join("rules/*.yml").display().to_string();
    assert_eq!(config.rule_files.0, [beside.as_str(), "/etc/a.yml"]);
    assert_eq!(config.alerting.alertmanagers.0, ["http://127.0.0.1:9093", "http://127.0.0.1:9094/am"]);
    assert_eq!(config.alerting.external_labels(), [("a".to_owned(), "b".to_owned())].into());
    assert!(config.validate().is_ok());
    assert!(loaded.print().unwrap().contains("external_labels = [\"a=b\"]"), "{}", loaded.print().unwrap());
}

#[test]
fn alertmanagers_and_labels_that_cannot_be_used_are_named() {
    let with = |key: &'static str, value: &str| {
        let loaded = load(None, env(&[(key, value)]), &Flags::new()).unwrap();
        loaded.config.validate().unwrap_err().to_string()
    };
    for url in ["https://a", "127.0.0.1:9093", "http://", "http://user:secret@a"] {
        let error = with("FORETELL_ALERTING_ALERTMANAGERS", url);
        assert!(error.contains("write http://HOST:PORT"), "{url}: {error}");
    }
    assert!(with("FORETELL_ALERTING_EXTERNAL_LABELS", "a").contains("write name=value"));
    assert!(with("FORETELL_RULES_EVALUATION_INTERVAL", "0").contains("at least 1ms"));
    assert!(with("FORETELL_RULES_SERIES_MAX", "0").contains("rules.series_max"));
}
