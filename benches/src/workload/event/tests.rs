use super::line::{COMMON, Lines, RARE, services};
use super::span::{Traces, USER};
use super::*;

fn all(events: &mut dyn Events, services: &[String]) -> (Vec<u8>, String) {
    let (mut requests, mut json) = (Requests::new(services), String::new());
    while events.next(&mut requests, &mut json) {}
    (requests.finish(), json)
}

#[test]
fn the_same_seed_gives_the_same_lines_and_needles_are_counted() {
    let services = services(5);
    let lines = || Lines::new(7, 2_000, services.clone(), 1_700_000_000_000, 1_000_000);
    let (mut one, mut two) = (lines(), lines());
    let (body, json) = all(&mut one, &services);
    assert_eq!((&body, &json), (&all(&mut two, &services).0, &json));
    assert_eq!(json.lines().count(), 2_000);
    let with = |word: &str| json.lines().filter(|line| line.contains(word)).count() as u64;
    assert_eq!((one.known().rare, one.known().common), (with(RARE), with(COMMON)));
    assert_eq!(one.known().rare, 3);
}

#[test]
fn traces_are_trees_within_their_callers() {
    let services = span::services();
    let mut traces = Traces::new(7, 3_000, 1_700_000_000_000, 1_000_000);
    let (_, json) = all(&mut traces, &services);
    let spans: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(spans.len() as u64, traces.spans());
    let by_id: std::collections::HashMap<&str, &serde_json::Value> =
        spans.iter().map(|span| (span["span_id"].as_str().unwrap(), span)).collect();
    for span in &spans {
        assert_eq!(span["attributes"].as_object().unwrap().len(), 11);
        let Some(parent) = span["parent_span_id"].as_str() else { continue };
        let (parent, number) = (by_id[parent], |span: &serde_json::Value, key: &str| span[key].as_i64().unwrap());
        assert_eq!(parent["trace_id"], span["trace_id"]);
        assert!(number(span, "ts") >= number(parent, "ts"));
        let end = |span: &serde_json::Value| number(span, "ts") + number(span, "duration");
        assert!(end(span) <= end(parent), "{span} in {parent}");
    }
    let known = traces.known();
    let of_trace = spans.iter().filter(|span| span["trace_id"] == hex(&known.trace)).count() as u64;
    assert_eq!((of_trace, known.of_user), (known.trace_spans, json.matches(USER).count() as u64));
}
