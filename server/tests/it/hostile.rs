//! PromQL that nobody honest sends: the right code within the deadline, memory within its bounds, other users answered
//! meanwhile, and nothing goes on for a client that has gone away.
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::api::{encode, form as ask};
use crate::support::{Answer, Series, Server, wait_until};

/// Longest that a refusal may take on a machine that others use, too.
const SOON: Duration = Duration::from_secs(15);
/// Works for as long as one lets it: six billion samples of windows, made from hardly any.
const ENDLESS: &str = "stddev_over_time(vector(1)[7d:1s])";

fn ask_range(server: &Server, expr: &str, timeout: &str) -> Answer {
    let (start, end) = ("0", "10999");
    ask(server, "query_range", &[("query", expr), ("start", start), ("end", end), ("step", "1"), ("timeout", timeout)])
}

fn load(server: &Server, series: usize) {
    let one = |i: usize| Series::of("t_requests", &i.to_string()).sample(0, 0.0).sample(60_000, i as f64);
    assert_eq!(server.write(&(0..series).map(one).collect::<Vec<_>>()).status, 204);
}

/// `text`, short enough for a message.
fn brief(text: &str) -> &str {
    text.char_indices().nth(200).map_or(text, |(end, _)| &text[..end])
}

#[test]
fn what_is_too_much_to_read_is_refused_before_it_is_parsed() {
    let mut server = Server::start();
    load(&server, 10);
    let nested = |open: &str, inner: &str, close: &str, times: usize| {
        format!("{}{inner}{}", open.repeat(times), close.repeat(times))
    };
    for (what, expr) in [
        ("1e5 terms", vec!["1"; 100_000].join("+")),
        ("1e4 terms", vec!["up"; 10_000].join(" or ")),
        ("parentheses", nested("(", "up", ")", 20_000)),
        ("a few parentheses too many", nested("(", "up", ")", 101)),
        ("functions", nested("abs(", "up", ")", 5_000)),
        ("subqueries", nested("max_over_time(", "up", "[1m:1s])", 3_000)),
        ("unary minus", format!("{}1", "-".repeat(60_000))),
        ("brackets", "[".repeat(60_000)),
        ("braces", "{".repeat(60_000)),
        ("an open string", format!("up{{a=\"{}", "\\".repeat(60_001))),
        ("a regex bomb", "up{a=~\"(.{1000}){1000}\"}".to_owned()),
        ("nested repetitions", "up{a=~\"((((a{99}){99}){99}){99})\"}".to_owned()),
        ("many heavy patterns", vec!["up{a=~\"\\\\w{900}\"}"; 300].join(" or ")),
        ("a bomb in a function", "label_replace(up, \"a\", \"b\", \"c\", \"(.{1000}){1000}\")".to_owned()),
        ("a bad pattern", "up{a=~\"(((((\"}".to_owned()),
        ("a duration without end", format!("up[{}1m]", "1m+".repeat(3_000))),
        ("a duration out of range", "up[99999999999999999999y]".to_owned()),
        ("a huge number as a duration", "up[1e300]".to_owned()),
        ("an instant out of range", "up @ 1e300".to_owned()),
        ("nothing", "()".to_owned()),
    ] {
        let begun = Instant::now();
        for route in ["query", "format_query"] {
            let answer = ask(&server, route, &[("query", &expr), ("time", "60")]);
            assert_eq!(answer.status, 400, "{what}, {route}: {}", brief(&answer.text));
            assert_eq!(answer.json()["errorType"], "bad_data", "{what}: {}", brief(&answer.text));
            assert!(answer.error().len() < 2_000, "{what}");
        }
        assert!(begun.elapsed() < SOON, "{what}: {:?}", begun.elapsed());
    }
    assert!(server.is_alive());
    // What is long but within the limits is answered.
    let wide = vec!["t_requests"; 1_000].join(" or ");
    let answer = ask(&server, "query", &[("query", &wide), ("time", "60")]);
    assert_eq!(answer.status, 200, "{}", brief(&answer.text));
    let deep = nested("abs(", "t_requests", ")", 90);
    assert_eq!(ask(&server, "query", &[("query", &deep), ("time", "60")]).status, 200);
    let chain = vec!["1"; 1_000].join("+");
    for route in ["query", "format_query"] {
        let answer = ask(&server, route, &[("query", &chain), ("time", "60")]);
        assert_eq!(answer.status, 200, "{route}: {}", brief(&answer.text));
    }
    assert!(server.is_alive());
}

#[test]
fn what_would_hold_too_much_is_refused_within_its_memory() {
    let mut server = Server::start();
    load(&server, 3_000);
    let before = server.metric("process_resident_memory_bytes");
    let steps =
        ask(&server, "query_range", &[("query", "t_requests"), ("start", "0"), ("end", "1000000000"), ("step", "1")]);
    assert_eq!(steps.status, 400, "1e9 steps: {}", brief(&steps.text));
    for expr in [
        "sum_over_time(vector(1)[30y:1ms])",
        "max_over_time(max_over_time(t_requests[1y:1s])[1y:1s])",
        "max_over_time(sum(max_over_time(t_requests[1y:1m]))[1y:1m])",
        "count_values(\"v\", t_requests * time())",
        "t_requests * on(job) group_left t_requests",
    ] {
        let begun = Instant::now();
        let answer = ask_range(&server, expr, "10s");
        assert!(matches!(answer.status, 422 | 503), "{expr}: {} {}", answer.status, brief(&answer.text));
        if answer.status == 422 {
            assert!(answer.error().contains("too many samples"), "{expr}: {}", brief(&answer.text));
        }
        assert!(begun.elapsed() < SOON, "{expr}: {:?}", begun.elapsed());
    }
    wait_until("all queries end", || server.count_queries() == 0);
    let after = server.metric("process_resident_memory_bytes");
    let share = server.metric("foretell_memory_share_bytes{share=\"query\"}");
    assert!(
        after - before < 2.0 * share + 200e6,
        "resident memory grew from {before} to {after} with a share of {share}"
    );
    assert!(server.is_alive());
}

#[test]
fn the_most_samples_are_configured_and_named() {
    let server = Server::start_with_file("[query]\nmax_samples = 1000\n");
    load(&server, 600);
    let answer = ask(&server, "query", &[("query", "sum(t_requests)"), ("time", "60")]);
    assert_eq!(answer.status, 422, "{}", answer.text);
    assert_eq!(answer.json()["errorType"], "execution");
    assert!(
        answer.error().starts_with("query processing would load too many samples into memory in query execution"),
        "{}",
        answer.text
    );
    let fewer = ask(&server, "query", &[("query", "sum(t_requests{job=~\"1.\"})"), ("time", "60")]);
    assert_eq!(fewer.status, 200, "{}", fewer.text);
}

#[test]
fn a_deadline_ends_what_works_for_ever_and_others_are_answered_meanwhile() {
    let mut server = Server::start_with_file("[query]\nconcurrency = 3\n");
    load(&server, 10);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (server, done) = (&server, &done);
        let hostile: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(move || {
                    for _ in 0..3 {
                        let begun = Instant::now();
                        let answer = ask_range(server, ENDLESS, "1s");
                        assert_eq!(answer.status, 503, "{}", brief(&answer.text));
                        assert_eq!(answer.json()["errorType"], "timeout", "{}", brief(&answer.text));
                        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
                    }
                })
            })
            .collect();
        let honest = scope.spawn(move || {
            let mut answered = 0;
            while !done.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let answer = ask(server, "query", &[("query", "sum(t_requests)"), ("time", "60")]);
                assert_eq!(answer.status, 200, "{}", brief(&answer.text));
                assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
                answered += 1;
            }
            answered
        });
        for thread in hostile {
            thread.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert!(honest.join().unwrap() > 3);
    });
    wait_until("the work ends with its query", || server.count_queries() == 0);
    assert!(server.is_alive());
}

#[test]
fn a_client_that_goes_away_takes_its_query_with_it() {
    let server = Server::start();
    let body = encode(&[("query", ENDLESS), ("start", "0"), ("end", "10999"), ("step", "1")]);
    let mut stream = server.connect();
    let head = format!(
        "POST /api/v1/query_range HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    wait_until("the query runs", || server.count_queries() == 1);
    drop(stream);
    // Long before its deadline of 30 s.
    let begun = Instant::now();
    wait_until("the query ends", || server.count_queries() == 0);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn sql_around_promql_is_bounded_alike() {
    let mut server = Server::start();
    load(&server, 10);
    let call = |expr: &str| {
        let expr = expr.replace('\'', "''");
        format!("SELECT count(*) FROM promql('{expr}', '1970-01-01T00:00:00Z', '1970-01-01T03:03:19Z', '1s')")
    };
    assert_eq!(server.rows(&call("sum(t_requests)"))[0][0], 360);
    for (expr, status) in [
        ("sum(", 400),
        ("up[5m]", 400),
        ("max_over_time(max_over_time(t_requests[1y:1s])[1y:1s])", 422),
        ("up{a=~\"(.{1000}){1000}\"}", 400),
    ] {
        let answer = server.sql(&call(expr));
        assert_eq!(answer.status, status, "{expr}: {}", brief(&answer.text));
    }
    let begun = Instant::now();
    let headers = [("Content-Type", "text/plain")];
    let answer = server.post("/api/v1/sql?timeout=1s", &headers, call(ENDLESS).as_bytes());
    assert_eq!(answer.status, 503, "{}", brief(&answer.text));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    wait_until("the work ends with its query", || server.count_queries() == 0);
    assert!(server.is_alive());
}

impl Server {
    /// Queries in flight, but for the one that asks.
    fn count_queries(&self) -> u64 {
        self.rows("SELECT count(*) FROM sys.queries WHERE sql NOT LIKE '%sys.queries%'")[0][0].as_u64().unwrap()
    }
}
