//! Criterion micro-benchmarks of the two inner loops: decoding a remote write body and updating a detector.
use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use foretell_benches::run::score::day_curve;
use foretell_benches::workload::Kind;
use foretell_benches::workload::encode::BodyEncoder;
use foretell_ml::detect::{Detector, DetectorOptions, Method};
use foretell_proto::prometheus::v1::WriteRequest;
use foretell_server::remote_write::{DecodeLimits, Decoder, Protocol};
use prost::Message;

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for (name, kind) in [("node", Kind::Node), ("tsbs", Kind::Tsbs)] {
        let mut encoder = BodyEncoder::default();
        kind.fleet(2_000, 1, 1_700_000_000_000).scrape(0, |labels, ts, value| encoder.push(labels, ts, value));
        let samples = encoder.samples() as u64;
        let Ok(body) = encoder.finish().map(<[u8]>::to_vec) else { continue };
        group.throughput(Throughput::Elements(samples));
        let mut decoder = Decoder::new(1, DecodeLimits::default());
        group.bench_function(format!("{name}/foretell"), |bencher| {
            bencher.iter(|| decoder.decode(Protocol::V1, black_box(&body)).map(|request| request.ts.len()));
        });
        group.bench_function(format!("{name}/prost"), |bencher| {
            bencher.iter(|| {
                let raw = snap::raw::Decoder::new().decompress_vec(black_box(&body)).unwrap_or_default();
                WriteRequest::decode(&*raw).map(|request| request.timeseries.len())
            });
        });
    }
    group.finish();
}

fn detect(criterion: &mut Criterion) {
    const POINTS: usize = 10_000;
    let (ts, values) = day_curve(POINTS, 1);
    let mut group = criterion.benchmark_group("detect");
    group.throughput(Throughput::Elements(POINTS as u64));
    for method in Method::ALL {
        group.bench_function(method.name(), |bencher| {
            bencher.iter_batched(
                || Detector::new(method, DetectorOptions::default()),
                |detector| {
                    let Ok(mut detector) = detector else { return 0 };
                    ts.iter().zip(&values).filter(|&(&t, &v)| detector.update(t, v).score.is_some()).count()
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    decode(&mut criterion);
    detect(&mut criterion);
    criterion.final_summary();
}
