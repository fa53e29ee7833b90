#![allow(clippy::unwrap_used)]
use super::*;

fn check(from: &str, expect: &str) {
    let sql = format!("SELECT * FROM {from}");
    let mut statement = Parser::parse_sql(&GenericDialect {}, &sql).unwrap().remove(0);
    let got = match resolve(&mut statement) {
        Ok(()) => statement.to_string(),
        Err(error) => error.message,
    };
    assert!(got.contains(expect), "{got}");
}

#[test]
fn a_call_becomes_a_grouped_subquery() {
    check(
        "forecast((SELECT * FROM t), id => [host, 'A.b'], horizon => $1, level => 0.9) AS f",
        "FROM (SELECT not_unique(\"host\") AS \"host\", not_unique(\"A.b\") AS \"A.b\", \"$answer\"['ts'] AS ts, \"$answer\"['value'] AS value, \"$answer\"['lo'] AS lo, \
         \"$answer\"['hi'] AS hi FROM (SELECT \"host\", \"A.b\", unnest(forecast(ts, value, $1, NULL, 0.9, NULL, NULL)) AS \"$answer\" \
         FROM (SELECT * FROM t) AS \"$rows\" GROUP BY \"host\", \"A.b\")) AS f",
    );
    check(
        "Time_To_Exhaustion(metrics.disk, ts => t, value => v / 2, capacity => 90, horizon => '2h')",
        "FROM (SELECT \"$answer\"['ts'] AS ts, \"$answer\"['earliest'] AS earliest, \"$answer\"['latest'] AS latest \
         FROM (SELECT time_to_exhaustion(t, v / 2, 90, '2h', NULL, NULL, NULL) AS \"$answer\" \
         FROM (SELECT * FROM metrics.disk) AS \"$rows\"))",
    );
}

#[test]
fn columns_become_a_struct_under_their_names() {
    let call = |values: &str| format!("detect_anomalies(t, {values}, id => host, method => 'pca')");
    let expect = |values: &str| format!("detect_anomalies(ts, named_struct({values}), 'pca', NULL)");
    check(
        &call("values => [Cpu, \"B.c\", 'D', e / 2]"),
        &expect("'cpu', Cpu, 'B.c', \"B.c\", 'D', \"D\", 'e / 2', e / 2"),
    );
    check(&call("value => cpu"), &expect("'cpu', cpu"));
    check("detect_anomalies(t)", "detect_anomalies(ts, named_struct('value', value), NULL, NULL)");
    check("detect_anomalies(t, values => [a], value => b)", "argument 'value' is given twice");
    check("detect_anomalies(t, values => [a, A])", "column 'a' is twice in 'values'");
    check("detect_anomalies(t, values => [])", "'values' takes 1 to 256 columns, not 0: write SELECT");
    let many = |n: usize| {
        format!("detect_anomalies(t, values => [{}])", (0..n).map(|i| format!("c{i}")).collect::<Vec<_>>().join(", "))
    };
    check(&many(257), "'values' takes 1 to 256 columns, not 257");
    check(&many(256), "'c255', c255");
    check("detect_anomalies(t, id => [score])", "a column 'score' of the answer");
    check(
        "detect_anomalies(t, sesson => '1d')",
        "unknown argument 'sesson' of detect_anomalies: known are ts, values, method, season, id",
    );
}

#[test]
fn regressors_are_columns_or_their_names() {
    let expect = "unnest(forecast(ts, value, 4, NULL, NULL, NULL, [holiday, \"Big sale\"])) AS";
    check("forecast(t, horizon => 4, regressors => [holiday, 'Big sale'])", expect);
    check("forecast(t, horizon => 4, regressors => 'holiday')", "NULL, NULL, NULL, \"holiday\")");
}

#[test]
fn calls_inside_one_another_are_all_resolved() {
    check(
        "forecast((SELECT * FROM forecast(t, horizon => 3)), horizon => 4) JOIN u ON true",
        "unnest(forecast(ts, value, 4, NULL, NULL, NULL, NULL)) AS \"$answer\" FROM (SELECT * FROM (SELECT",
    );
}

#[test]
fn two_relations_become_the_sides_of_an_aggregate() {
    check(
        "explain_change((SELECT * FROM t), u, dims => [Host, 'A.b', attributes['k']]) AS e",
        "FROM (SELECT unnest(explain_change(\"$selected\", 'host', \"$dim0\", 'A.b', \"$dim1\", 'attributes[''k'']', \"$dim2\")) AS \"$answer\" \
         FROM (SELECT true AS \"$selected\", Host AS \"$dim0\", \"A.b\" AS \"$dim1\", attributes['k'] AS \"$dim2\" \
         FROM (SELECT * FROM t) AS \"$rows\" UNION ALL SELECT false AS \"$selected\", Host AS \"$dim0\", \"A.b\" AS \"$dim1\", \
         attributes['k'] AS \"$dim2\" FROM (SELECT * FROM u) AS \"$baseline\"))) AS e",
    );
}

#[test]
fn series_are_gathered_before_they_are_clustered() {
    check(
        "cluster_series(t, id => [Host], value => v / 2, clusters => 3)",
        "FROM (SELECT \"host\", \"$answer\"['cluster_id'] AS cluster_id, \"$answer\"['distance'] AS distance, \
         \"$answer\"['is_medoid'] AS is_medoid FROM (SELECT \"host\", cluster_series(\"$series\", 3) OVER (ORDER BY \"host\") \
         AS \"$answer\" FROM (SELECT \"host\", array_agg(named_struct('ts', ts, 'value', v / 2)) AS \"$series\" \
         FROM (SELECT * FROM t) AS \"$rows\" GROUP BY \"host\")))",
    );
}

#[test]
fn a_function_that_reads_the_store_gets_its_arguments_in_order() {
    check("correlate(window => '1h', metric => 'm', step => '1m')", "FROM correlate('m', '1h', NULL, '1m')");
    check("correlate('m', '1h') AS c", "FROM correlate('m', '1h') AS c");
}

#[test]
fn other_tables_stay_as_they_are() {
    check("t, promql('up', 1, 2, 3) AS p", "SELECT * FROM t, promql('up', 1, 2, 3) AS p");
}

#[test]
fn faults_are_told_with_what_is_known() {
    check(
        "forecast(t, horizn => 3)",
        "unknown argument 'horizn' of forecast: known are ts, value, horizon, method, level, season, regressors, id",
    );
    check("forecast(t)", "argument 'horizon' is missing: write SELECT * FROM forecast(TABLE");
    check("time_to_exhaustion(t, horizon => 3)", "argument 'capacity' is missing");
    check("forecast()", "the first argument is a relation");
    check("forecast(1 + 1, horizon => 3)", "the first argument is a relation");
    check("forecast(horizon => 3)", "the first argument is a relation");
    check("forecast(t, 3)", "arguments after the relation are named");
    check("forecast(t, horizon => 3, horizon => 4)", "'horizon' is given twice");
    check("forecast(t, id => a, id => b, horizon => 3)", "'id' is given twice");
    check("forecast(t, id => [a, A], horizon => 3)", "column 'a' is twice in 'id'");
    check("forecast(t, id => [lo], horizon => 3)", "a column 'lo' of the answer");
    check("forecast(t, id => [a + 1], horizon => 3)", "must be names of columns");
    check("explain_change(t, dims => [a])", "the second argument is a relation: write SELECT * FROM explain_change(");
    check("explain_change(t, u)", "argument 'dims' is missing");
    check("explain_change(t, u, dims => [])", "'dims' must be 1 to 16 columns");
    check("explain_change(t, u, dims => [a, A])", "dimension 'a' is twice in 'dims'");
    check("explain_change(t, u, dims => a, dims => b)", "'dims' is given twice");
    check("cluster_series(t)", "argument 'id' is missing: write SELECT * FROM cluster_series(TABLE t");
    check(
        "cluster_series(t, id => a, k => 3)",
        "unknown argument 'k' of cluster_series: known are ts, value, clusters, id",
    );
    check("correlate(metric => 'm')", "argument 'window' is missing: write SELECT * FROM correlate(metric =>");
    check(
        "correlate(metric => 'm', window => '1h', lag => 3)",
        "unknown argument 'lag' of correlate: known are metric, window, at, step, max_lag, candidates, limit",
    );
    check("explain_change(t, u, by => a)", "unknown argument 'by' of explain_change: known are dims");
}
