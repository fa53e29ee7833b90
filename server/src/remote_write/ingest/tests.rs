#![allow(clippy::unwrap_used)]
use foretell_engine::{EngineConfig, ErrorKind, LabelSet};
use foretell_proto::prometheus::{v1, v2};
use prost::Message as _;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tempfile::TempDir;

use super::*;

#[test]
fn rows_of_refused_series_leave_no_gap() {
    let mut batch =
        WriteBatch { ts: (0..8).collect(), values: (0..8).map(f64::from).collect(), ..WriteBatch::default() };
    let mut runs = [2, 1, 3, 2];
    assert_eq!(drop_runs(&mut batch, &mut runs, &[1, 3]), 3);
    assert_eq!(runs, [2, 0, 3, 0]);
    assert_eq!(batch.ts, [0, 1, 3, 4, 5]);
    assert_eq!(batch.values, [0.0, 1.0, 3.0, 4.0, 5.0]);
}

#[test]
fn a_pool_keeps_no_more_workers_than_it_may() {
    let pool = WorkerPool::new(1, DecodeLimits::default(), LabelLimits::default());
    fn nested(pool: &WorkerPool, depth: usize) {
        if depth > 0 {
            pool.with(|_| nested(pool, depth - 1));
        }
    }
    nested(&pool, 3 * pool.idle_max);
    assert_eq!(pool.idle.lock().len(), pool.idle_max);
}

/// Label pairs and samples (ms, bits) of some series.
type Sent = Vec<(Vec<(String, String)>, Vec<(i64, u64)>)>;
/// Rows in order.
type Rows = Vec<(SeriesId, i64, u64)>;

fn random_request(random: &mut StdRng) -> Sent {
    let text = |random: &mut StdRng, letters: &[&str]| -> String {
        (0..random.random_range(1..12)).map(|_| letters[random.random_range(0..letters.len())]).collect()
    };
    let series = |random: &mut StdRng| {
        let mut names: Vec<String> = (0..random.random_range(0..8)).map(|_| text(random, &["a", "b", "_"])).collect();
        names.push("__name__".to_owned());
        names.sort();
        names.dedup();
        let labels = names.into_iter().map(|name| (name, text(random, &["x", "y", "é", "\u{1f980}", "\""]))).collect();
        let sample = |random: &mut StdRng| {
            let bits = if random.random_bool(0.5) { random.random() } else { random.random_range(0..9u64) };
            // prost leaves out -0.0 as if it were 0.
            (random.random_range(-9_000_000_000..9_000_000_000), if bits == 1 << 63 { 0 } else { bits })
        };
        (labels, (0..random.random_range(1..5)).map(|_| sample(random)).collect())
    };
    let mut sent: Sent = (0..random.random_range(1..20)).map(|_| series(random)).collect();
    sent.push(sent[random.random_range(0..sent.len())].clone());
    sent
}

fn in_v1(sent: &Sent) -> Vec<u8> {
    let timeseries = sent.iter().map(|(labels, samples)| v1::TimeSeries {
        labels: labels.iter().cloned().map(|(name, value)| v1::Label { name, value }).collect(),
        samples: samples
            .iter()
            .map(|&(timestamp, bits)| v1::Sample { value: f64::from_bits(bits), timestamp })
            .collect(),
        ..v1::TimeSeries::default()
    });
    v1::WriteRequest { timeseries: timeseries.collect(), ..v1::WriteRequest::default() }.encode_to_vec()
}

fn in_v2(sent: &Sent, random: &mut StdRng) -> Vec<u8> {
    let mut symbols = vec![String::new()];
    for text in sent.iter().flat_map(|(labels, _)| labels).flat_map(|(name, value)| [name, value]) {
        let at = random.random_range(1..=symbols.len());
        if !symbols.contains(text) {
            symbols.insert(at, text.clone());
        }
    }
    let reference = |text: &String| symbols.iter().position(|symbol| symbol == text).unwrap() as u32;
    let timeseries = sent.iter().map(|(labels, samples)| v2::TimeSeries {
        labels_refs: labels.iter().flat_map(|(name, value)| [reference(name), reference(value)]).collect(),
        samples: samples
            .iter()
            .map(|&(timestamp, bits)| v2::Sample {
                value: f64::from_bits(bits),
                timestamp,
                start_timestamp: timestamp.min(0),
            })
            .collect(),
        ..v2::TimeSeries::default()
    });
    let timeseries = timeseries.collect();
    v2::Request { symbols, timeseries }.encode_to_vec()
}

struct Receiver {
    engine: Engine,
    worker: Worker,
    _dir: TempDir,
}

impl Receiver {
    fn new() -> Self {
        Self::over(|_| ())
    }

    fn over(change: impl FnOnce(&mut EngineConfig)) -> Self {
        let dir = TempDir::new().unwrap();
        let mut config = EngineConfig::new(dir.path());
        change(&mut config);
        let engine = Engine::open(config).unwrap();
        Self { engine, worker: Worker::new(7, DecodeLimits::default(), LabelLimits::default()), _dir: dir }
    }

    fn take(&mut self, protocol: Protocol, raw: &[u8]) -> Result<(Rows, Report), IngestError> {
        let body = snap::raw::Encoder::new().compress_vec(raw).unwrap();
        let Prepared { batch, report, .. } = self.worker.batch(&self.engine, protocol, &body, i64::MAX)?;
        let bits = batch.values.iter().map(|value| value.to_bits());
        Ok((batch.series.into_iter().zip(batch.ts).zip(bits).map(|((id, ts), bits)| (id, ts, bits)).collect(), report))
    }

    /// What prost and the rules make of a 2.0 request; `None` when it must be refused as a whole.
    fn expected(&self, request: &v2::Request) -> Option<(Rows, bool)> {
        if request.symbols.first().is_some_and(|first| !first.is_empty()) {
            return None;
        }
        let (mut rows, mut clean) = (Rows::new(), true);
        for series in &request.timeseries {
            let symbols: Option<Vec<&String>> =
                series.labels_refs.iter().map(|&at| request.symbols.get(at as usize)).collect();
            let symbols = symbols.filter(|symbols| symbols.len() % 2 == 0)?;
            let mut pairs: Vec<(&str, &str)> =
                symbols.chunks(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
            pairs.sort_unstable();
            let twice = pairs.windows(2).any(|pair| pair[0].0 == pair[1].0);
            let nameless = pairs.iter().any(|pair| pair.0.is_empty());
            pairs.retain(|pair| !pair.1.is_empty());
            let kept: Vec<_> = series
                .samples
                .iter()
                .filter(|sample| (i64::MIN / 1_000_000..=i64::MAX / 1_000_000).contains(&sample.timestamp))
                .collect();
            clean &= kept.len() == series.samples.len();
            if kept.is_empty() {
                continue;
            }
            if twice || nameless || pairs.is_empty() {
                clean = false;
                continue;
            }
            // The engine has a rule of its own: no zero bytes.
            let Ok(labels) = LabelSet::from_pairs(pairs) else {
                clean = false;
                continue;
            };
            let id = self.engine.resolve(&labels).unwrap();
            rows.extend(kept.iter().map(|sample| (id, sample.timestamp * 1_000_000, sample.value.to_bits())));
        }
        Some((rows, clean))
    }
}

#[test]
fn a_request_gives_the_same_rows_in_either_protocol() {
    let mut receiver = Receiver::new();
    let mut random = StdRng::seed_from_u64(11);
    for round in 0..300 {
        let sent = random_request(&mut random);
        let (rows, report) = receiver.take(Protocol::V1, &in_v1(&sent)).unwrap();
        assert!(report.is_clean(), "{round}: {}", report.message());
        let again = in_v2(&sent, &mut random);
        let (rows_of_v2, report) = receiver.take(Protocol::V2, &again).unwrap();
        assert!(report.is_clean(), "{round}: {}", report.message());
        assert_eq!(rows, rows_of_v2, "{round}");
        assert_eq!(rows.len() as u64, report.samples_stored);
        let expected = receiver.expected(&v2::Request::decode(&*again).unwrap()).unwrap();
        assert_eq!((rows, true), expected, "{round}");
    }
}

#[test]
fn a_damaged_request_is_refused_or_gives_what_it_says() {
    let mut receiver = Receiver::new();
    let mut random = StdRng::seed_from_u64(12);
    let (mut refused, mut taken) = (0, 0);
    for _ in 0..12 {
        let mut sent = random_request(&mut random);
        sent.truncate(4);
        let whole = in_v2(&sent, &mut random);
        let truncated = (0..whole.len()).map(|len| whole[..len].to_vec());
        let mut damaged: Vec<Vec<u8>> = truncated.collect();
        for at in 0..whole.len() {
            for mask in [1 << random.random_range(0..8), random.random_range(1..=255u8), 0x80] {
                let mut bytes = whole.clone();
                bytes[at] ^= mask;
                damaged.push(bytes);
            }
        }
        for bytes in damaged {
            let ours = receiver.take(Protocol::V2, &bytes);
            match (ours, v2::Request::decode(&*bytes)) {
                (Ok((rows, report)), Ok(request)) => {
                    taken += 1;
                    let expected = receiver.expected(&request);
                    let (expected, clean) = expected.unwrap_or_else(|| panic!("{bytes:02x?}"));
                    assert_eq!(rows, expected, "{bytes:02x?}");
                    // A flipped tag makes histograms and exemplars, mostly bad ones, of what were samples.
                    let others = |series: &v2::TimeSeries| series.histograms.len() + series.exemplars.len();
                    if request.timeseries.iter().all(|series| others(series) == 0) {
                        assert_eq!(report.is_clean(), clean, "{bytes:02x?}");
                    }
                }
                (Ok(_), Err(error)) => {
                    // Strings are checked where they are used.
                    let error = error.to_string();
                    assert!(error.contains("invalid string value"), "{error}: {bytes:02x?}");
                }
                (Err(IngestError::Decode(_)), _) => refused += 1,
                (Err(error), _) => panic!("{error}: {bytes:02x?}"),
            }
        }
    }
    assert!(refused > 1_000 && taken > 1_000, "{refused} refused, {taken} taken");
}

#[test]
fn the_other_protocol_s_request_is_refused_and_not_lost() {
    let mut receiver = Receiver::new();
    let mut random = StdRng::seed_from_u64(13);
    let sent = random_request(&mut random);
    let error = receiver.take(Protocol::V2, &in_v1(&sent)).unwrap_err().to_string();
    assert!(error.contains("a field of prometheus.WriteRequest"), "{error}");
    let error = receiver.take(Protocol::V1, &in_v2(&sent, &mut random)).unwrap_err().to_string();
    assert!(error.contains("a field of io.prometheus.write.v2.Request"), "{error}");
}

#[test]
fn symbols_are_bounded() {
    let engine_dir = Receiver::new();
    let limits = DecodeLimits { symbols_max: 3, ..DecodeLimits::default() };
    let mut worker = Worker::new(7, limits, LabelLimits::default());
    let mut take = |symbols: usize| {
        let symbols = (0..symbols).map(|i| if i == 0 { String::new() } else { i.to_string() }).collect();
        let body = v2::Request { symbols, ..v2::Request::default() }.encode_to_vec();
        let body = snap::raw::Encoder::new().compress_vec(&body).unwrap();
        worker.batch(&engine_dir.engine, Protocol::V2, &body, i64::MAX).map(drop)
    };
    assert!(take(3).is_ok());
    assert!(matches!(take(4), Err(IngestError::Decode(DecodeError::TooLarge(_)))));
}

#[test]
fn short_references_to_long_symbols_are_bounded_and_known_series_go_on() {
    let mut receiver = Receiver::new();
    receiver.worker.labels.new_bytes_max = 10_000;
    let mut symbols = vec![String::new(), "__name__".to_owned(), "a".to_owned(), "v".repeat(3_000)];
    let timeseries = (0..10).map(|i| {
        symbols.push(format!("m{i}"));
        v2::TimeSeries {
            labels_refs: vec![1, symbols.len() as u32 - 1, 2, 3],
            samples: vec![v2::Sample { value: 1.0, timestamp: 1, start_timestamp: 0 }],
            ..v2::TimeSeries::default()
        }
    });
    let timeseries = timeseries.collect();
    let body = v2::Request { symbols, timeseries }.encode_to_vec();
    for stored in [3, 6, 9, 10] {
        let (rows, report) = receiver.take(Protocol::V2, &body).unwrap();
        assert_eq!((rows.len(), report.limited), (stored, stored < 10), "{}", report.message());
    }
}

#[test]
fn a_full_store_refuses_before_anything_is_decoded() {
    let mut receiver = Receiver::over(|config| {
        config.background = false;
        config.memtable_total_bytes_max = 10_000;
    });
    let id = receiver.engine.resolve(&LabelSet::from_pairs([("__name__", "m")]).unwrap()).unwrap();
    while receiver.engine.ensure_room().is_ok() {
        let mut batch = WriteBatch::default();
        (0..100).for_each(|ts| batch.push(id, ts, 1.0));
        receiver.engine.write(batch).unwrap().wait().unwrap();
    }
    let unavailable =
        |error: &IngestError| matches!(error, IngestError::Engine(e) if e.kind() == ErrorKind::Unavailable);
    // No request at all: whoever read it would say so.
    let error = receiver.worker.batch(&receiver.engine, Protocol::V1, b"nonsense", i64::MAX).unwrap_err();
    assert!(unavailable(&error), "{error}");
    let error = receiver.worker.rows(&receiver.engine, 0, Duration::ZERO, "sample", |_| unreachable!()).unwrap_err();
    assert!(unavailable(&error), "{error}");
    receiver.engine.flush().unwrap();
    let error = receiver.worker.batch(&receiver.engine, Protocol::V1, b"nonsense", i64::MAX).unwrap_err();
    assert!(matches!(error, IngestError::Decode(_)), "{error}");
}
