//! `logs` and `spans`: what builders took is what SQL shows, with and without what lets groups be passed over.
use std::sync::Arc;

use foretell_engine::{Engine, SeriesId, WriteBatch};
use foretell_query::QueryLimits;
use foretell_query::event::{Log, LogBuilder, Signal, Span, SpanBuilder, SpanEvent, SpanLink, Value};

use crate::store::{MINUTE, START, Store};

fn stream(engine: &Engine, signal: Signal, service: &str, resource: &[(&str, &str)]) -> SeriesId {
    engine.resolve(&signal.stream(service, resource.iter().copied()).unwrap()).unwrap()
}

fn commit(engine: &Engine, records: foretell_engine::Records) {
    engine.write(WriteBatch { records: vec![Arc::new(records)], ..WriteBatch::default() }).unwrap().wait().unwrap();
}

fn trace(number: u32) -> [u8; 16] {
    let mut id = [7; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    id
}

fn trace_hex(number: u32) -> String {
    format!("{number:08x}{}", "07".repeat(12))
}

/// Lines `from` to `to`, one a second, of a shop and of a database.
fn lines(engine: &Engine, from: u32, to: u32) {
    let streams =
        ["shop", "db"].map(|service| stream(engine, Signal::Logs, service, &[("host", "a"), ("zone", service)]));
    let mut builder = LogBuilder::new(Signal::Logs.known_columns(engine));
    for n in from..to {
        let body = format!("GET /cart/item{n} took {}ms: Order {} done", n % 500, n / 10);
        let log = Log {
            observed_ts: (n % 2 == 0).then_some(START),
            severity: Some(if n % 100 == 0 { "ERROR" } else { "info" }),
            severity_number: Some(if n % 100 == 0 { 17 } else { 9 }),
            body: (n % 1000 != 999).then_some(body.as_str()),
            trace_id: (n % 3 == 0).then(|| trace(n / 30)),
            span_id: (n % 3 == 0).then_some([1, 2, 3, 4, 5, 6, 7, (n % 251) as u8]),
            scope: None,
        };
        let user = format!("user-{}", n % 70);
        let attributes = [
            ("http.status", if n % 10 == 3 { Value::Text("none") } else { Value::Integer(200 + i64::from(n % 5)) }),
            ("user", Value::Text(&user)),
            ("ratio", Value::Double(f64::from(n) / 2.0)),
            ("cached", Value::Boolean(n % 2 == 0)),
        ];
        let attributes = attributes.into_iter().take(if n % 7 == 0 { 0 } else { 4 });
        let rare = (n % 4000 == 77).then_some(("rare.key", Value::Json("[1,2]")));
        builder.push(streams[(n % 2) as usize], START + i64::from(n) * 1_000_000_000, &log, attributes.chain(rare));
    }
    commit(engine, builder.finish().unwrap());
}

/// Some in two files, some in memory, some twice.
fn store() -> Store {
    let store = Store::empty(QueryLimits::default());
    lines(&store.engine, 0, 30_000);
    store.engine.flush().unwrap();
    lines(&store.engine, 29_000, 36_000);
    store.engine.flush().unwrap();
    lines(&store.engine, 35_990, 36_010);
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_comes_back_with_all_it_has() {
    let store = store();
    assert_eq!(store.cell("SELECT count(*) FROM logs").await, "36010", "what was sent twice is there once");
    let rows = store.rows("SELECT * FROM logs WHERE ts = '2026-01-01T00:00:30Z'").await.unwrap();
    assert_eq!(
        rows,
        [[
            "2026-01-01T00:00:30Z",
            "2026-01-01T00:00:00Z",
            "shop",
            "info",
            "9",
            "GET /cart/item30 took 30ms: Order 3 done",
            &trace_hex(1),
            "010203040506071e",
            "{cached: true, http.status: 200, ratio: 15, user: user-30}",
            "{host: a, zone: shop}",
            "NULL",
            "{cached: boolean, http.status: integer, ratio: double, user: text}",
        ]]
    );
    let columns = "SELECT attributes['http.status'], attributes['none'], attributes, body FROM logs WHERE ts = ";
    let rows = store.rows(&format!("{columns}'2026-01-01T00:00:33Z'")).await.unwrap();
    assert_eq!(rows[0][..2], ["none", "NULL"]);
    let types =
        "SELECT attributes['user'], attribute_types['user'], attribute_types['http.status'] FROM logs WHERE ts = ";
    let rows = store.rows(&format!("{types}'2026-01-01T00:00:33Z'")).await.unwrap();
    assert_eq!(rows[0], ["user-33", "text", "text"]);
    let rare = "SELECT attributes['rare.key'], service FROM logs WHERE attributes['rare.key'] IS NOT NULL ORDER BY ts";
    let rows = store.rows(rare).await.unwrap();
    assert_eq!(rows.len(), 9);
    assert!(rows.iter().all(|row| row == &["[1,2]", "db"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_find_the_rows_that_they_find_without_help() {
    let store = store();
    let trace = trace_hex(777);
    for compacted in [false, true] {
        if compacted {
            store.engine.flush().unwrap();
            store.engine.compact().unwrap();
        }
        for (filter, expected) in [
            ("match(body, 'order 1234 DONE')".to_owned(), "10"),
            ("match(body, 'item12345')".to_owned(), "1"),
            ("match(body, 'item1234')".to_owned(), "1"),
            ("match(body, 'nowhere')".to_owned(), "0"),
            ("body LIKE '% Order 1234 done'".to_owned(), "10"),
            ("body LIKE '%item3500_ %'".to_owned(), "10"),
            ("body LIKE '%ITEM3500%'".to_owned(), "0"),
            (format!("trace_id = '{trace}'"), "10"),
            (format!("trace_id IN ('{trace}', '{}')", trace_hex(778)), "20"),
            (format!("trace_id = '{}'", trace.to_uppercase().replace('7', "A")), "0"),
            ("severity_number >= 17".to_owned(), "361"),
            ("severity = 'ERROR' AND service = 'shop'".to_owned(), "361"),
            ("attributes['http.status'] = '203' AND ts < '2026-01-01T00:01:00Z'".to_owned(), "5"),
            ("attributes['http.status'] = 'none'".to_owned(), "3086"),
            ("attributes['user'] = 'user-69' AND resource['zone'] = 'shop'".to_owned(), "0"),
            ("attributes['rare.key'] = '[1,2]'".to_owned(), "9"),
            ("attributes['cached'] = 'true' AND ts < '2026-01-01T00:00:10Z'".to_owned(), "4"),
            ("body IS NULL".to_owned(), "36"),
        ] {
            let found = store.cell(&format!("SELECT count(*) FROM logs WHERE {filter}")).await;
            // The same where no filter can be pushed down.
            let whole = "(SELECT * FROM logs LIMIT 1000000)";
            let without = store.cell(&format!("SELECT count(*) FROM {whole} WHERE {filter}")).await;
            assert_eq!(found, without, "{filter}");
            if !filter.contains("'none'") {
                assert_eq!(found, expected, "{filter}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_keys_that_a_statement_names_are_read() {
    let store = store();
    let plan = async |sql: &str| store.rows(&format!("EXPLAIN {sql}")).await.unwrap().concat().join("\n");
    let narrow = plan("SELECT attributes['user'], count(*) FROM logs GROUP BY 1").await;
    assert!(narrow.contains(r#"attributes=["user"]"#), "{narrow}");
    let two = plan("SELECT attributes['user'] FROM logs WHERE attributes['cached'] = 'true'").await;
    assert!(two.contains(r#"attributes=["cached", "user"]"#), "{two}");
    for whole in
        ["SELECT attributes, attributes['user'] FROM logs", "SELECT * FROM logs WHERE attributes['user'] = 'x'"]
    {
        let plan = plan(whole).await;
        assert!(!plan.contains("attributes=["), "{whole}\n{plan}");
    }
    let words = plan("SELECT ts FROM logs WHERE match(body, 'Order 5')").await;
    assert!(words.contains("Words"), "{words}");
    let both = "SELECT count(*) FROM (SELECT attributes['user'] AS u FROM logs) WHERE u = 'user-1'";
    assert_eq!(
        store.cell(both).await,
        store.cell("SELECT count(*) FROM logs WHERE attributes['user'] = 'user-1'").await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_source_can_be_deleted_and_metrics_do_not_see_them() {
    let store = store();
    crate::store::write(&store.engine, &[("__name__", "up"), ("zone", "db")], &[(START, 1.0)]);
    store.rows("DELETE FROM logs WHERE service = 'db' AND ts < '2026-01-01T00:01:00Z'").await.unwrap();
    let left = "SELECT service, count(*) FROM logs WHERE ts < '2026-01-01T00:01:00Z' GROUP BY service";
    assert_eq!(store.rows(left).await.unwrap(), [["shop", "30"]]);
    let error = store.error("DELETE FROM logs WHERE match(body, 'order')").await.to_string();
    assert!(error.contains("cannot delete by"), "{error}");
    assert_eq!(store.rows("SELECT metric, labels FROM sys.series").await.unwrap(), [["up", "{zone: db}"]]);
    store.rows("DELETE FROM samples WHERE labels['zone'] = 'db'").await.unwrap();
    assert_eq!(
        store.cell("SELECT count(*) FROM logs WHERE service = 'db' AND ts < '2026-01-01T00:02:00Z'").await,
        "30"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_there_before_the_first_row_and_bad_calls_say_what_to_do() {
    let store = Store::empty(QueryLimits::default());
    for sql in ["SELECT * FROM logs WHERE trace_id = 'x'", "SELECT attributes['a'], duration FROM spans"] {
        assert!(store.rows(sql).await.unwrap().is_empty(), "{sql}");
    }
    for (sql, part) in [
        ("SELECT match(body, service) FROM logs", "must be a constant"),
        ("SELECT match(ts, 'x') FROM logs", "match takes a text and words"),
    ] {
        lines(&store.engine, 0, 10);
        let error = store.error(sql).await.to_string();
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(store.cell("SELECT match('A b', 'B')").await, "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_come_back_with_events_and_links() {
    let store = Store::empty(QueryLimits::default());
    let shop = stream(&store.engine, Signal::Spans, "shop", &[("host", "a")]);
    let mut builder = SpanBuilder::new(None);
    for n in 0..20_000u32 {
        let event = SpanEvent { ts: START + 5, name: "retry", attributes: vec![("n", Value::Integer(2))] };
        let link = SpanLink { trace_id: trace(1), span_id: [9; 8], trace_state: "", attributes: Vec::new() };
        let (events, links) = if n == 5 { (vec![event], vec![link]) } else { (Vec::new(), Vec::new()) };
        let span = Span {
            duration: i64::from(n) * 1000,
            trace_id: trace(n / 4),
            span_id: [0, 0, 0, 0, (n >> 24) as u8, (n >> 16) as u8, (n >> 8) as u8, n as u8],
            parent_span_id: (n % 4 > 0).then_some([1; 8]),
            name: if n % 2 == 0 { "GET /cart" } else { "SELECT" },
            kind: Some("server"),
            status: (n % 50 == 0).then_some("error"),
            status_message: None,
            events: &events,
            links: &links,
        };
        let code = [("http.status", Value::Integer(200))];
        builder.push(shop, START + i64::from(n) * MINUTE / 1000, &span, code).unwrap();
    }
    commit(&store.engine, builder.finish().unwrap());
    for flushed in [false, true] {
        if flushed {
            store.engine.flush().unwrap();
        }
        let trace =
            format!("SELECT span_id, parent_span_id, name, duration FROM spans WHERE trace_id = '{}'", trace_hex(1));
        let rows = store.rows(&format!("{trace} ORDER BY ts")).await.unwrap();
        assert_eq!(rows.len(), 4);
        assert_eq!(rows[0], ["0000000000000004", "NULL", "GET /cart", "4000"]);
        assert_eq!(rows[1], ["0000000000000005", "01".repeat(8).as_str(), "SELECT", "5000"]);
        assert_eq!(store.cell("SELECT count(*) FROM spans WHERE duration >= 19990000").await, "10");
        assert_eq!(store.cell("SELECT count(*) FROM spans WHERE duration BETWEEN 1000 AND 2000").await, "2");
        assert_eq!(store.cell("SELECT count(*) FROM spans WHERE status = 'error' AND service = 'shop'").await, "400");
        let event = "SELECT e['name'], e['attributes'] FROM (SELECT unnest(events) AS e FROM spans)";
        assert_eq!(store.rows(event).await.unwrap(), [["retry", "{n: 2}"]]);
        let link = "SELECT l['span_id'] FROM (SELECT unnest(links) AS l FROM spans)";
        assert_eq!(store.cell(link).await, "09".repeat(8));
        assert_eq!(store.cell("SELECT count(*) FROM spans WHERE attributes['http.status'] = '200'").await, "20000");
    }
}

/// A call: id of the span, of its parent (0 for none), service, start and end in milliseconds.
type Call<'a> = (u8, u8, &'a str, i64, i64);

fn calls(engine: &Engine, of: u32, calls: &[Call<'_>]) {
    let mut builder = SpanBuilder::new(Signal::Spans.known_columns(engine));
    for &(id, parent, service, from, to) in calls {
        let span = Span {
            duration: (to - from) * 1_000_000,
            trace_id: trace(of),
            span_id: [id; 8],
            parent_span_id: (parent > 0).then_some([parent; 8]),
            name: "call",
            ..Span::default()
        };
        let stream = stream(engine, Signal::Spans, service, &[]);
        builder.push(stream, START + from * 1_000_000, &span, []).unwrap();
    }
    commit(engine, builder.finish().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_shown_as_a_tree_and_by_what_it_waited_for() {
    let store = Store::empty(QueryLimits::default());
    let id = trace_hex(5);
    let tree =
        format!("SELECT depth, service, span_id, parent_span_id, duration, own_duration FROM trace_tree('{id}')");
    assert!(store.rows(&tree).await.unwrap().is_empty(), "no span was ever written");
    let found = [(1, 0, "web", 0, 100), (2, 1, "cart", 10, 60), (3, 1, "ads", 10, 30), (4, 2, "db", 20, 50)];
    calls(&store.engine, 5, &found[..3]);
    store.engine.flush().unwrap();
    // The rest comes later, with other traces around it, and once more.
    calls(&store.engine, 5, &found[3..]);
    calls(&store.engine, 5, &found[..1]);
    calls(&store.engine, 6, &[(9, 0, "web", 0, 3), (8, 1, "ads", 1, 2)]);
    for compacted in [false, true] {
        if compacted {
            store.engine.flush().unwrap();
            store.engine.compact().unwrap();
        }
        let rows = store.rows(&format!("{tree} ORDER BY position")).await.unwrap();
        let shown: Vec<String> =
            rows.iter().map(|row| format!("{} {} {} {}", row[0], row[1], row[4], row[5])).collect();
        assert_eq!(
            shown,
            [
                "0 web 100000000 50000000",
                "1 cart 50000000 20000000",
                "2 db 30000000 30000000",
                "1 ads 20000000 20000000"
            ]
        );
        assert_eq!((rows[0][2].as_str(), rows[0][3].as_str()), ("0101010101010101", "NULL"));
        assert_eq!(rows[2][3], "0202020202020202");
        let path =
            format!("SELECT service, ts, duration FROM critical_path('{}') ORDER BY position", id.to_uppercase());
        let rows = store.rows(&path).await.unwrap();
        let path: Vec<String> = rows.iter().map(|row| format!("{} {}", row[0], row[2])).collect();
        assert_eq!(path, ["web 10000000", "cart 10000000", "db 30000000", "cart 10000000", "web 40000000"]);
        assert_eq!(rows[1][1], "2026-01-01T00:00:00.010Z");
        let by_service = format!("SELECT sum(duration) FROM critical_path('{id}') WHERE service <> 'ads'");
        assert_eq!(store.cell(&by_service).await, "100000000", "the path is as long as the trace");
        let orphan = format!("SELECT count(*) FROM trace_tree('{}') WHERE depth = 0", trace_hex(6));
        assert_eq!(store.cell(&orphan).await, "2");
        assert_eq!(store.cell(&format!("SELECT count(*) FROM trace_tree('{}')", trace_hex(7))).await, "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_names_no_trace_says_how_to_name_one() {
    let store = Store::empty(QueryLimits::default());
    for args in ["", "'abc'", "NULL", "7", "'0af7651916cd43dd8448eb211c80319g'", "'a', 'b'"] {
        for function in ["trace_tree", "critical_path"] {
            let error = store.error(&format!("SELECT * FROM {function}({args})")).await.to_string();
            assert!(error.contains("32 hexadecimal digits"), "{function}({args}): {error}");
        }
    }
}
