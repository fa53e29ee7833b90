#![allow(clippy::unwrap_used)]
use foretell_proto::prometheus::v2::histogram::{Count, ZeroCount};
use foretell_proto::prometheus::v2::{self, BucketSpan};
use prost::Message as _;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

/// A histogram that a sender might send.
fn random_histogram(random: &mut StdRng) -> v2::Histogram {
    let (float, custom) = (random.random_bool(0.5), random.random_bool(0.3));
    let side = |random: &mut StdRng| {
        let spans: Vec<BucketSpan> = (0..random.random_range(0..4))
            .map(|i| BucketSpan {
                offset: random.random_range(if i == 0 && !custom { -9..9 } else { 0..5 }),
                length: random.random_range(0..5),
            })
            .collect();
        let buckets: u32 = spans.iter().map(|span| span.length).sum();
        let counts: Vec<f64> = (0..buckets).map(|_| random.random_range(0.0..9.0)).collect();
        let mut before = 0;
        let deltas = (0..buckets).map(|_| {
            let count = random.random_range(0..1_000_000i64);
            count - std::mem::replace(&mut before, count)
        });
        let deltas = deltas.collect::<Vec<i64>>();
        if float { (spans, Vec::new(), counts) } else { (spans, deltas, Vec::new()) }
    };
    let (positive_spans, positive_deltas, positive_counts) = side(random);
    let (negative_spans, negative_deltas, negative_counts) = if custom { Default::default() } else { side(random) };
    v2::Histogram {
        count: Some(if float { Count::CountFloat(random.random()) } else { Count::CountInt(random.random()) }),
        sum: f64::from_bits(random.random::<u64>() | 1),
        schema: if custom { CUSTOM_SCHEMA } else { random.random_range(-4..9) },
        zero_threshold: random.random(),
        zero_count: Some(if float { ZeroCount::ZeroCountFloat(7.5) } else { ZeroCount::ZeroCountInt(7) }),
        negative_spans,
        negative_deltas,
        negative_counts,
        positive_spans,
        positive_deltas,
        positive_counts,
        reset_hint: random.random_range(0..4),
        timestamp: random.random(),
        custom_values: if custom { (0..40).map(f64::from).collect() } else { Vec::new() },
        start_timestamp: random.random(),
    }
}

/// The message back from the columns of the only row.
fn message_of(columns: &Histograms, head: &Head) -> v2::Histogram {
    let (float, count, zero) = (columns.float[0], columns.count[0], columns.zero_count[0]);
    let row = |side: usize| {
        let spans = columns.spans[side].values_of(0).iter().map(|&(offset, length)| BucketSpan { offset, length });
        (spans.collect(), columns.deltas[side].values_of(0).to_vec(), columns.counts[side].values_of(0).to_vec())
    };
    let (positive_spans, positive_deltas, positive_counts) = row(POSITIVE);
    let (negative_spans, negative_deltas, negative_counts) = row(NEGATIVE);
    v2::Histogram {
        count: Some(if float { Count::CountFloat(f64::from_bits(count)) } else { Count::CountInt(count) }),
        sum: columns.sum[0],
        schema: columns.schema[0],
        zero_threshold: columns.zero_threshold[0],
        zero_count: Some(if float {
            ZeroCount::ZeroCountFloat(f64::from_bits(zero))
        } else {
            ZeroCount::ZeroCountInt(zero)
        }),
        negative_spans,
        negative_deltas,
        negative_counts,
        positive_spans,
        positive_deltas,
        positive_counts,
        reset_hint: columns.reset_hint[0],
        timestamp: head.ts_ms,
        custom_values: columns.custom_values.values_of(0).to_vec(),
        start_timestamp: columns.start_ms[0],
    }
}

#[test]
fn a_histogram_is_kept_exactly_as_it_was_sent() {
    let mut random = StdRng::seed_from_u64(5);
    for round in 0..2_000 {
        let sent = random_histogram(&mut random).encode_to_vec();
        let mut columns = Histograms::default();
        let head = columns.read(&sent).unwrap();
        columns.check(&head).unwrap_or_else(|fault| panic!("{round}: {fault}"));
        columns.keep(&head, 3, 9);
        assert_eq!(message_of(&columns, &head).encode_to_vec(), sent, "{round}");
        assert_eq!((columns.series.as_slice(), columns.ts.as_slice()), (&[3][..], &[9][..]));
    }
}

#[test]
fn a_damaged_histogram_is_refused_or_is_what_its_bytes_say() {
    let mut random = StdRng::seed_from_u64(6);
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..300 {
        let sent = random_histogram(&mut random).encode_to_vec();
        for _ in 0..40 {
            let mut bytes = sent.clone();
            let at = random.random_range(0..bytes.len());
            bytes[at] ^= random.random_range(1..=255u8);
            bytes.truncate(random.random_range(bytes.len() / 2..=bytes.len()));
            let mut columns = Histograms::default();
            let Ok(head) = columns.read(&bytes) else {
                refused += 1;
                continue;
            };
            if columns.check(&head).is_err() {
                columns.discard();
                assert_eq!((columns.len(), columns.values()), (0, 0));
                refused += 1;
                continue;
            }
            columns.keep(&head, 0, 0);
            let mut expected = v2::Histogram::decode(&*bytes).unwrap();
            // What is absent is zero, and of the kind that the count is of.
            let float = matches!(expected.count, Some(Count::CountFloat(_)));
            expected.count.get_or_insert(Count::CountInt(0));
            if expected.zero_count.is_none()
                || matches!(expected.zero_count, Some(ZeroCount::ZeroCountFloat(0.0) | ZeroCount::ZeroCountInt(0)))
            {
                expected.zero_count =
                    Some(if float { ZeroCount::ZeroCountFloat(0.0) } else { ZeroCount::ZeroCountInt(0) });
            }
            assert_eq!(message_of(&columns, &head).encode_to_vec(), expected.encode_to_vec(), "{bytes:02x?}");
            taken += 1;
        }
    }
    assert!(taken > 500 && refused > 500, "{taken} taken, {refused} refused");
}

#[test]
fn what_cannot_be_read_again_is_refused() {
    let good = v2::Histogram {
        count: Some(Count::CountInt(3)),
        schema: 2,
        positive_spans: vec![BucketSpan { offset: 1, length: 2 }],
        positive_deltas: vec![1, 1],
        ..v2::Histogram::default()
    };
    let fault = |change: fn(&mut v2::Histogram)| {
        let mut histogram = good.clone();
        change(&mut histogram);
        let mut columns = Histograms::default();
        let head = columns.read(&histogram.encode_to_vec()).unwrap();
        columns.check(&head).err().unwrap_or("nothing")
    };
    assert_eq!(fault(|_| {}), "nothing");
    assert_eq!(fault(|h| h.schema = 53), "unknown schema");
    assert_eq!(fault(|h| h.schema = -10), "unknown schema");
    assert_eq!(fault(|h| h.positive_deltas.truncate(1)), "its spans and its buckets differ in number");
    assert_eq!(fault(|h| h.positive_deltas[1] = -2), "a bucket with a negative count");
    assert_eq!(fault(|h| h.positive_deltas = vec![i64::MAX, 1]), "a bucket with a negative count");
    assert_eq!(fault(|h| h.positive_counts = vec![1.0]), "it has integer deltas and float counts");
    assert_eq!(
        fault(|h| h.zero_count = Some(ZeroCount::ZeroCountFloat(1.0))),
        "its count and its zero count are not of one kind"
    );
    assert_eq!(fault(|h| h.positive_spans.push(BucketSpan { offset: -1, length: 0 })), "spans that overlap");
    assert_eq!(fault(|h| h.positive_spans[0].offset = i32::MAX), "a bucket beyond any float");
    assert_eq!(fault(|h| h.custom_values = vec![1.0]), "custom values in a schema that has none");
    assert_eq!(fault(|h| (h.schema, h.custom_values) = (-53, vec![1.0])), "a bucket beyond the custom values");
    assert_eq!(fault(|h| h.schema = -53), "nothing", "1.0 does not say the borders");
    assert_eq!(fault(|h| (h.schema, h.custom_values) = (-53, vec![2.0, 1.0])), "custom values that do not grow");
    assert_eq!(fault(|h| (h.schema, h.custom_values) = (-53, vec![1.0, 2.0])), "nothing");
    assert_eq!(fault(|h| h.positive_deltas = vec![0; 20_000]), "too many buckets");
}

#[test]
fn a_refused_histogram_leaves_nothing_behind() {
    let mut random = StdRng::seed_from_u64(8);
    let (first, second) = (random_histogram(&mut random), random_histogram(&mut random));
    let mut columns = Histograms::default();
    let head = columns.read(&first.encode_to_vec()).unwrap();
    columns.keep(&head, 0, 0);
    let values = columns.values();
    columns.read(&second.encode_to_vec()).unwrap();
    columns.discard();
    assert_eq!((columns.len(), columns.values()), (1, values));
    assert_eq!(message_of(&columns, &head), first);
}
