//! Remote write 2.0: what a sender gets for what it sends.
use foretell_proto::prometheus::v1::{MetricMetadata, WriteRequest};
use foretell_proto::prometheus::v2::histogram::{Count, ZeroCount};
use foretell_proto::prometheus::v2::{BucketSpan, Exemplar, Histogram, Metadata, Request, Sample, TimeSeries};
use prost::Message as _;

use crate::support::{Answer, Server, compress, now_ms};

/// Builds a request, one symbol for each string.
#[derive(Default)]
struct Builder(Request);

impl Builder {
    fn refs(&mut self, labels: &[(&str, &str)]) -> Vec<u32> {
        if self.0.symbols.is_empty() {
            self.0.symbols.push(String::new());
        }
        let mut reference = |text: &str| {
            let known = self.0.symbols.iter().position(|symbol| symbol == text);
            known.unwrap_or_else(|| {
                self.0.symbols.push(text.to_owned());
                self.0.symbols.len() - 1
            }) as u32
        };
        labels.iter().flat_map(|(name, value)| [reference(name), reference(value)]).collect()
    }

    fn series(mut self, labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Self {
        let samples =
            samples.iter().map(|&(timestamp, value)| Sample { value, timestamp, start_timestamp: 0 }).collect();
        let labels_refs = self.refs(labels);
        self.0.timeseries.push(TimeSeries { labels_refs, samples, ..TimeSeries::default() });
        self
    }

    /// Describes the series that was added last.
    fn meaning(mut self, kind: i32, help: &str, unit: &str) -> Self {
        let refs = self.refs(&[(help, unit)]);
        let metadata = Metadata { r#type: kind, help_ref: refs[0], unit_ref: refs[1] };
        self.0.timeseries.last_mut().unwrap().metadata = Some(metadata);
        self
    }

    fn send(&self, server: &Server) -> Answer {
        send(server, &self.0.encode_to_vec())
    }
}

fn send(server: &Server, raw: &[u8]) -> Answer {
    let headers = [
        ("Content-Encoding", "snappy"),
        ("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
        ("X-Prometheus-Remote-Write-Version", "2.0.0"),
    ];
    server.post("/api/v1/write", &headers, &compress(raw))
}

/// Samples, histograms and exemplars that the answer says are written.
fn written(answer: &Answer) -> [&str; 3] {
    ["samples", "histograms", "exemplars"]
        .map(|what| answer.header(&format!("x-prometheus-remote-write-{what}-written")))
}

#[test]
fn samples_of_both_protocols_are_samples_of_one_series() {
    let server = Server::start();
    let labels = [("__name__", "t_two"), ("job", "a")];
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let answer = Builder::default().series(&labels, &[(1_000, 1.5), (2_000, stale)]).send(&server);
    assert_eq!((answer.status, answer.text.as_str(), written(&answer)), (204, "", ["2", "0", "0"]));
    let series = crate::support::Series::of("t_two", "a").sample(2_000, stale).sample(3_000, f64::INFINITY);
    assert_eq!(server.write(&[series]).status, 204);
    let rows = server.rows("SELECT job, value FROM metrics.\"t_two\" ORDER BY ts");
    assert_eq!(
        rows,
        [["a".into(), serde_json::json!(1.5)], ["a".into(), "NaN".into()], ["a".into(), "Infinity".into()]]
    );
    assert_eq!(server.rows("SELECT count(*) FROM sys.series")[0][0], 1);
    assert_eq!(server.metric("foretell_remote_write_requests_total{protocol=\"2.0\",status=\"204\"}"), 1.0);
}

#[test]
fn a_partly_invalid_request_keeps_its_valid_samples_and_says_how_many() {
    let server = Server::start();
    let far = now_ms() + 10 * 86_400_000;
    let good = [("__name__", "t_part"), ("job", "a")];
    for (labels, ts, expected) in [
        (&[("__name__", "t_part_x"), ("a", "1"), ("a", "2")][..], 1_000, "duplicate label name \"a\""),
        (&[("__name__", "t_part_x"), ("", "1")], 1_000, "empty name"),
        (&[], 1_000, "series without labels"),
        (&[("__name__", "t_part_x")], far, "too far ahead"),
        (&[("__name__", "t_part_x")], i64::MIN, "outside the years"),
    ] {
        let request = Builder::default().series(&good, &[(1_000, 1.0)]).series(labels, &[(ts, 1.0)]);
        let answer = request.series(&good, &[(2_000, 1.0)]).send(&server);
        assert_eq!((answer.status, written(&answer)), (400, ["2", "0", "0"]), "{}", answer.text);
        assert!(answer.error().contains(expected), "{}", answer.text);
        assert!(answer.error().contains("1 samples dropped, 2 samples stored"), "{}", answer.text);
    }
    assert_eq!(server.count("t_part"), 2);
    assert_eq!(server.rows("SELECT count(*) FROM samples")[0][0], 2);
}

#[test]
fn a_broken_request_is_refused_as_a_whole() {
    let server = Server::start();
    let good = Builder::default().series(&[("__name__", "t_broken"), ("job", "a")], &[(1_000, 1.0)]);
    let broken = |change: fn(&mut Request)| {
        let mut request = good.0.clone();
        change(&mut request);
        request.encode_to_vec()
    };
    for (what, raw) in [
        ("beyond the end of the symbols", broken(|request| request.timeseries[0].labels_refs[3] = 5)),
        ("beyond the end of the symbols", broken(|request| drop(request.symbols.pop()))),
        ("odd number", broken(|request| request.timeseries[0].labels_refs.truncate(3))),
        ("not the empty string", broken(|request| drop(request.symbols.remove(0)))),
        ("remote write 1.0", crate::support::encode(&[crate::support::Series::of("t_broken", "a").sample(1_000, 1.0)])),
    ] {
        let answer = send(&server, &raw);
        assert_eq!((answer.status, written(&answer)), (400, ["0", "0", "0"]), "{what}: {}", answer.text);
        assert!(answer.error().contains(what), "{what}: {}", answer.text);
        assert!(
            answer.error().starts_with("cannot decode the body as io.prometheus.write.v2.Request"),
            "{}",
            answer.text
        );
    }
    let answer = server.write_bytes(&compress(&good.0.encode_to_vec()));
    assert_eq!(answer.status, 400, "a 2.0 request under the content type of 1.0");
    assert_eq!(server.rows("SELECT count(*) FROM samples")[0][0], 0);
    assert_eq!(good.send(&server).status, 204);
}

#[test]
fn symbols_and_samples_of_a_request_are_bounded() {
    let server = Server::start_with_file("[limits]\nsymbols_per_request_max = 5\nsamples_per_request_max = 2\n");
    let labels = [("__name__", "t_bound"), ("job", "a")];
    assert_eq!(Builder::default().series(&labels, &[(1_000, 1.0), (2_000, 1.0)]).send(&server).status, 204);
    let answer = Builder::default().series(&labels, &[(1, 1.0), (2, 1.0), (3, 1.0)]).send(&server);
    assert_eq!((answer.status, written(&answer)), (413, ["0", "0", "0"]), "{}", answer.text);
    let answer = Builder::default().series(&labels, &[(1, 1.0)]).series(&[("__name__", "other")], &[]).send(&server);
    assert_eq!(answer.status, 413, "{}", answer.text);
    assert!(answer.error().contains("more than 5 symbols"), "{}", answer.text);
    assert_eq!(server.count("t_bound"), 2);
}

/// An integer histogram of schema 0 with two buckets, and one around zero.
fn histogram(ts: i64) -> Histogram {
    Histogram {
        count: Some(Count::CountInt(10)),
        sum: 18.5,
        zero_threshold: 0.5,
        zero_count: Some(ZeroCount::ZeroCountInt(1)),
        positive_spans: vec![BucketSpan { offset: 1, length: 2 }],
        positive_deltas: vec![3, 2],
        negative_spans: vec![BucketSpan { offset: 0, length: 1 }],
        negative_deltas: vec![1],
        reset_hint: 2,
        timestamp: ts,
        start_timestamp: 500,
        ..Histogram::default()
    }
}

const HISTOGRAMS: &str = "SELECT ts, labels['job'], count, sum, schema, is_float, zero_count, reset_hint, start_ts, buckets \
    FROM histograms WHERE metric = 't_native' ORDER BY ts";

#[test]
fn native_histograms_and_exemplars_come_back_as_they_were_sent() {
    let server = Server::start();
    let mut request = Builder::default().series(&[("__name__", "t_native"), ("job", "a")], &[]);
    let refs = request.refs(&[("trace_id", "4bf9")]);
    let series = &mut request.0.timeseries[0];
    let float = Histogram {
        count: Some(Count::CountFloat(2.5)),
        schema: -53,
        positive_spans: vec![BucketSpan { offset: 0, length: 3 }],
        positive_counts: vec![0.5, 1.5, 0.5],
        custom_values: vec![1.0, 5.0],
        timestamp: 2_000,
        ..Histogram::default()
    };
    series.histograms = vec![histogram(1_000), float];
    let exemplar = |value| Exemplar { labels_refs: refs.clone(), value, timestamp: 1_000 };
    series.exemplars = vec![exemplar(0.25), exemplar(0.75)];
    for _ in 0..2 {
        let answer = request.send(&server);
        assert_eq!((answer.status, written(&answer)), (204, ["0", "2", "2"]), "{}", answer.text);
    }
    let bucket = |lo: serde_json::Value, hi: serde_json::Value, count: f64| serde_json::json!({"lo": lo, "hi": hi, "count": count});
    let number = serde_json::Value::from;
    let expected = [
        serde_json::json!([
            "1970-01-01T00:00:01.000000000Z",
            "a",
            10.0,
            18.5,
            0,
            false,
            1.0,
            "no",
            "1970-01-01T00:00:00.500000000Z",
            [
                bucket(number(-1.0), number(-0.5), 1.0),
                bucket(number(-0.5), number(0.5), 1.0),
                bucket(number(1.0), number(2.0), 3.0),
                bucket(number(2.0), number(4.0), 5.0)
            ]
        ]),
        serde_json::json!([
            "1970-01-01T00:00:02.000000000Z",
            "a",
            2.5,
            0.0,
            -53,
            true,
            0.0,
            "unknown",
            null,
            [
                bucket(number("-Infinity"), number(1.0), 0.5),
                bucket(number(1.0), number(5.0), 1.5),
                bucket(number(5.0), number("Infinity"), 0.5)
            ]
        ]),
    ];
    let exemplars = "SELECT value, exemplar_labels['trace_id'], metric FROM exemplars ORDER BY value";
    let traces = [serde_json::json!([0.25, "4bf9", "t_native"]), serde_json::json!([0.75, "4bf9", "t_native"])];
    let check = |server: &Server, when: &str| {
        assert_eq!(serde_json::json!(server.rows(HISTOGRAMS)), serde_json::json!(expected), "{when}");
        assert_eq!(serde_json::json!(server.rows(exemplars)), serde_json::json!(traces), "{when}");
    };
    check(&server, "from memory");
    let server = Server::start_in(server.kill(), &[]);
    check(&server, "after kill -9");
    let server = Server::start_in(server.stop(), &[]);
    check(&server, "from segments");
}

#[test]
fn bad_histograms_and_exemplars_are_named_and_the_rest_is_kept() {
    let server = Server::start();
    let mut request = Builder::default().series(&[("__name__", "t_native")], &[(1_000, 1.0)]);
    let unnamed = request.refs(&[("", "x")]);
    let series = &mut request.0.timeseries[0];
    let broken = Histogram { positive_deltas: vec![1], ..histogram(2_000) };
    series.histograms = vec![histogram(1_000), broken];
    series.exemplars = vec![Exemplar { labels_refs: unnamed, value: 1.0, timestamp: 1_000 }];
    let answer = request.send(&server);
    assert_eq!((answer.status, written(&answer)), (400, ["1", "1", "0"]), "{}", answer.text);
    let error = answer.error();
    assert!(error.contains("native histogram refused: its spans and its buckets differ in number"), "{error}");
    assert!(error.contains("1 native histograms dropped, 1 exemplars dropped"), "{error}");
    request.0.timeseries[0].exemplars[0].labels_refs = vec![99, 0];
    let answer = request.send(&server);
    assert_eq!((answer.status, written(&answer)), (400, ["0", "0", "0"]), "{}", answer.text);
    assert_eq!(server.rows("SELECT count(*) FROM histograms")[0][0], 1);
}

fn metadata(server: &Server) -> Vec<String> {
    let rows = server.rows("SELECT metric, type, help, unit FROM sys.metadata ORDER BY metric");
    rows.iter().map(|row| row.iter().map(|cell| cell.as_str().unwrap()).collect::<Vec<_>>().join("|")).collect()
}

#[test]
fn metadata_of_both_protocols_are_stored_once_and_the_newest_wins() {
    let server = Server::start();
    let sample = [(1_000, 1.0)];
    let described = |help: &str| {
        let mut request = Builder::default();
        for name in ["t_wait_bucket", "t_wait_sum", "t_wait_count"] {
            request = request.series(&[("__name__", name), ("job", "a")], &sample).meaning(3, help, "seconds");
        }
        request
            .series(&[("__name__", "t_done_total")], &sample)
            .meaning(1, "done", "")
            .series(&[("__name__", "t_no")], &sample)
            .meaning(0, "", "")
    };
    let written = || server.metric("foretell_remote_write_metadata_total");
    assert_eq!(described("a wait").send(&server).status, 204);
    assert_eq!(metadata(&server), ["t_done_total|counter|done|", "t_wait|histogram|a wait|seconds"]);
    assert_eq!(written(), 2.0);
    assert_eq!(described("a wait").send(&server).status, 204);
    assert_eq!(written(), 2.0, "unchanged metadata are not written again");
    assert_eq!(described("the wait").send(&server).status, 204);
    assert_eq!(written(), 3.0);
    let first =
        MetricMetadata { r#type: 5, metric_family_name: "t_sizes".into(), help: "sizes".into(), unit: "bytes".into() };
    let same =
        MetricMetadata { r#type: 1, metric_family_name: "t_done_total".into(), help: "done".into(), ..first.clone() };
    let same = MetricMetadata { unit: String::new(), ..same };
    let request = WriteRequest { metadata: vec![first, same], ..WriteRequest::default() };
    assert_eq!(server.write_bytes(&compress(&request.encode_to_vec())).status, 204);
    assert_eq!(written(), 4.0, "of what 2.0 has stored, 1.0 changes nothing");
    let expected = ["t_done_total|counter|done|", "t_sizes|summary|sizes|bytes", "t_wait|histogram|the wait|seconds"];
    assert_eq!(metadata(&server), expected);
    let server = Server::start_in(server.kill(), &[]);
    assert_eq!(metadata(&server), expected, "after kill -9");
    assert_eq!(described("the wait").send(&server).status, 204);
    assert_eq!(server.metric("foretell_remote_write_metadata_total"), 0.0, "nor after a restart");
}

#[test]
fn a_reference_of_metadata_must_be_inside_the_symbols() {
    let server = Server::start();
    let mut request = Builder::default().series(&[("__name__", "t_meta")], &[(1_000, 1.0)]).meaning(1, "help", "");
    request.0.timeseries[0].metadata.as_mut().unwrap().help_ref = 99;
    let answer = request.send(&server);
    assert_eq!((answer.status, written(&answer)), (400, ["0", "0", "0"]), "{}", answer.text);
    assert!(metadata(&server).is_empty());
}
