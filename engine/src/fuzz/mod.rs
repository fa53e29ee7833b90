//! Decoders against bytes that no encoder wrote: each must answer with an error or a value, never panic, never take long and
//! never allocate on the word of a length. Seeds are what the encoders write; inputs are those, mutated, behind the
//! checksum that would catch them on disk. `make fuzz FUZZ=3600` is the full form.
mod mutate;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Builder, ListBuilder, StringArray, UInt64Array};
use arrow::record_batch::RecordBatch;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::backup;
use crate::catalog::read_series_file;
use crate::codec::{
    Effort, Packer, SequencesDecoder, Span, Spans, SpansEncoder, Timelines, TimelinesEncoder, Unpacker, ValuesDecoder,
    ValuesEncoder,
};
use crate::format::{self, Reader, envelope};
use crate::fs::{FaultFs, Fs};
use crate::manifest::{Change, Manifest};
use crate::records::{RecordTable, Records, Unique};
use crate::state::StateMap;
use crate::tombstone::{Deletion, Tombstone};
use crate::types::{LabelSet, Lsn, SeriesId, SeriesSet, TimeRange};
use crate::wal::{self, fuzzed};
use crate::write_batch::WriteBatch;

/// Inputs of one target in a short run.
const SHORT_RUN: u64 = 6_000;
/// No input may take longer.
const INPUT_MAX: Duration = Duration::from_secs(2);
/// Resident memory that a run may add.
const MEMORY_MAX_KIB: u64 = 512 << 10;

/// A decoder and what its encoder writes.
struct Target {
    name: &'static str,
    seeds: Vec<Vec<u8>>,
    run: fn(&[u8]),
}

fn path() -> &'static Path {
    Path::new("/fuzz/file")
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

impl Target {
    /// One input, drawn from its number.
    fn input(&self, number: u64) -> Vec<u8> {
        let mut rng = SmallRng::seed_from_u64(number);
        let mut input = self.seeds[rng.random_range(0..self.seeds.len())].clone();
        let other = &self.seeds[rng.random_range(0..self.seeds.len())];
        mutate::mutate(&mut input, other, &mut rng);
        input
    }

    fn fuzz(&self) {
        self.seeds.iter().for_each(|seed| (self.run)(seed));
        let (begun, before) = (Instant::now(), peak_kib());
        let only = number("FUZZ_INPUT");
        let until = number("FUZZ_SECONDS").map(Duration::from_secs);
        let first = number("FUZZ_SEED").unwrap_or(1) << 32;
        let mut done = 0;
        while until.map_or(done < SHORT_RUN, |until| begun.elapsed() < until) {
            let number = only.unwrap_or(first + done);
            let (input, started) = (self.input(number), Instant::now());
            let ran = std::panic::catch_unwind(|| (self.run)(&input));
            let replay =
                format!("replay: FUZZ_INPUT={number} cargo test --release --workspace --lib fuzz::{}", self.name);
            assert!(ran.is_ok(), "{}: panic on {} bytes {input:02x?}\n{replay}", self.name, input.len());
            assert!(started.elapsed() < INPUT_MAX, "{}: {:?}\n{replay}", self.name, started.elapsed());
            assert!(
                peak_kib() < before + MEMORY_MAX_KIB || !done.is_multiple_of(64),
                "{}: memory\n{replay}",
                self.name
            );
            done += 1;
            if only.is_some() {
                break;
            }
        }
        println!("{}: {done} inputs from {} seeds in {:?}", self.name, self.seeds.len(), begun.elapsed());
    }
}

fn labels(n: u64) -> LabelSet {
    LabelSet::from_pairs([("__name__", "m"), ("n", n.to_string().as_str())]).unwrap()
}

fn deletion(n: u64) -> Deletion {
    let series: SeriesSet = (0..n * n).map(|k| SeriesId(((k % 3) << 32) | (k / 2))).collect();
    Deletion { series, range: TimeRange { start: -5, end: n as i64 } }
}

/// Numbers, texts and lists, some of them NULL.
fn records(n: u64) -> Arc<Records> {
    let mut lists = ListBuilder::new(Float64Builder::new());
    for row in 0..n {
        (0..row % 4).for_each(|k| lists.values().append_value(k as f64 * 0.5));
        lists.append(row % 3 != 1);
    }
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("lists", Arc::new(lists.finish()), true),
        ("number", Arc::new(UInt64Array::from_iter((0..n).map(|row| (row % 3 != 0).then_some(row << 20)))), true),
        ("text", Arc::new(StringArray::from_iter_values((0..n).map(|row| format!("text {}", row % 2)))), true),
    ];
    Arc::new(Records {
        table: RecordTable::new("fuzzed", Unique::WholeRow).unwrap(),
        series: (0..n).map(|row| SeriesId(row / 2)).collect(),
        ts: (0..n as i64).map(|row| row * 1_000).collect(),
        columns: RecordBatch::try_from_iter_with_nullable(columns).unwrap(),
    })
}

fn batches() -> Vec<WriteBatch> {
    let deletes = WriteBatch { deletes: vec![deletion(1), deletion(9)], ..WriteBatch::default() };
    let mut batches = vec![WriteBatch::default(), deletes];
    for n in 1..6u64 {
        let mut batch = WriteBatch::default();
        (0..n * n).for_each(|k| batch.push(SeriesId(k / 2), 1_000 * (k as i64 % n as i64), k as f64 * 0.37));
        batch.state = vec![(b"key".to_vec(), Some(vec![1, 2, 3])), (b"gone".to_vec(), None)];
        batch.records = vec![records(n)];
        batches.push(batch);
    }
    batches
}

fn columns() -> Vec<(Vec<i64>, Vec<f64>)> {
    let of = |n: i64, value: &dyn Fn(i64) -> f64| {
        ((0..n).map(|k| k * 15_000_000_000 + k % 3).collect(), (0..n).map(value).collect())
    };
    vec![
        of(1, &|_| 1.0),
        of(100, &|k| k as f64 * 0.1),
        of(300, &|k| (k as f64 * 0.7).sin()),
        of(50, &|k| if k % 7 == 0 { f64::NAN } else { k as f64 }),
        of(500, &|_| 42.0),
    ]
}

#[test]
fn wal_payloads() {
    let mut seeds: Vec<_> = batches().iter().map(fuzzed::batch).collect();
    seeds.push(fuzzed::definitions(&[(SeriesId(1), labels(1)), (SeriesId(9), labels(2))]));
    Target { name: "wal_payloads", seeds, run: |bytes| fuzzed::read_payload(bytes, path()) }.fuzz();
}

#[test]
fn wal_records() {
    let seeds = (0..4).map(|n| batches().iter().flat_map(|batch| fuzzed::record(n, batch)).collect());
    Target { name: "wal_records", seeds: seeds.collect(), run: fuzzed::read_records }.fuzz();
}

#[test]
fn timelines() {
    let encode = |(ts, _): &(Vec<i64>, Vec<f64>)| {
        let (mut page, mut out) = (TimelinesEncoder::default(), Vec::new());
        page.push(ts);
        page.push(&ts[ts.len() / 2..]);
        page.finish(&mut Packer::new(Effort::Thorough).unwrap(), &mut out);
        out
    };
    let run = |bytes: &[u8]| {
        for count in [1, 2, 700] {
            let mut input = Reader::new(bytes, path(), 0);
            let decoded =
                Timelines::decode(&mut Unpacker::default(), &mut SequencesDecoder::default(), &mut input, count);
            if let Ok(decoded) = decoded {
                assert_eq!((0..count).map(|k| decoded.get(k).len()).sum::<usize>(), decoded.rows());
            }
        }
    };
    Target { name: "timelines", seeds: columns().iter().map(encode).collect(), run }.fuzz();
}

#[test]
fn spans() {
    let seed = |series: u32| {
        let (mut spans, mut out) = (SpansEncoder::default(), Vec::new());
        for k in 0..series {
            let whole = Span { timeline: k, from: 0, rows: 40 + k };
            spans.push(&[whole, Span { timeline: k / 2, from: 7, rows: 1 + k }][..1 + k as usize % 2]);
        }
        spans.finish(&mut Packer::new(Effort::Thorough).unwrap(), &mut out);
        out
    };
    let run = |bytes: &[u8]| {
        let (mut spans, mut offsets) = (Spans::default(), Vec::new());
        for (series, timelines) in [(1, 1), (2, 9), (12, 12), (8192, 1)] {
            let mut input = Reader::new(bytes, path(), 0);
            if spans.decode(&mut Unpacker::default(), &mut input, series, timelines, &mut offsets).is_ok() {
                for k in 0..series {
                    let rows: u32 = spans.of(k).iter().map(|span| span.rows).sum();
                    assert_eq!(rows, offsets[k + 1] - offsets[k]);
                    assert!(spans.of(k).iter().all(|span| span.timeline < timelines));
                }
            }
        }
    };
    Target { name: "spans", seeds: [1, 2, 12].into_iter().map(seed).collect(), run }.fuzz();
}

#[test]
fn value_columns() {
    let encode = |(_, values): &(Vec<i64>, Vec<f64>)| {
        let mut out = Vec::new();
        let offsets = [0, values.len() as u32];
        ValuesEncoder::default().encode(&mut Packer::new(Effort::Thorough).unwrap(), values, &offsets, &mut out);
        out
    };
    let run = |bytes: &[u8]| {
        let (mut decoder, mut values) = (ValuesDecoder::default(), Vec::new());
        for rows in [&[1][..], &[100], &[300], &[50, 50], &[8192]] {
            let _ = decoder.decode(&mut Unpacker::default(), &mut Reader::new(bytes, path(), 0), rows, &mut values);
        }
    };
    Target { name: "value_columns", seeds: columns().iter().map(encode).collect(), run }.fuzz();
}

#[test]
fn chunks_of_rollups() {
    use crate::rollup::fuzzed::{chunks, read_chunk};
    Target { name: "chunks_of_rollups", seeds: chunks(), run: read_chunk }.fuzz();
}

#[test]
fn footers_of_rollups() {
    use crate::rollup::fuzzed::{footers, read_footer};
    Target { name: "footers_of_rollups", seeds: footers(), run: read_footer }.fuzz();
}

/// A file system with `bytes` at `path()`.
fn with_file(bytes: &[u8]) -> FaultFs {
    let fs = FaultFs::new();
    fs.create_dir(Path::new("/fuzz")).unwrap();
    fs.create(path()).unwrap().append(bytes).unwrap();
    fs
}

/// What a run of calls on an empty file system leaves at `path()`.
fn written(write: impl FnOnce(&FaultFs)) -> Vec<u8> {
    let fs = FaultFs::new();
    fs.create_dir(Path::new("/fuzz")).unwrap();
    write(&fs);
    fs.map(path()).unwrap().to_vec()
}

#[test]
fn manifests() {
    let seed = |edits: u64| {
        written(|fs| {
            let mut manifest = Manifest::open(Arc::new(fs.clone()), path(), 3600).unwrap();
            for n in 0..edits {
                let name = format!("wal/{n}");
                let changes = [
                    Change::Flushed(Lsn(n)),
                    Change::NextFile(n),
                    Change::Removed(name),
                    Change::AddTombstone(Tombstone { lsn: Lsn(n), number: 1, deletion: Arc::new(deletion(n)) }),
                    Change::Claims([("consumer".to_owned(), Lsn(n))].into()),
                ];
                manifest.commit(&changes).unwrap();
            }
        })
    };
    let run = |bytes: &[u8]| {
        let fs = with_file(&mutate::with_manifest_checksums(bytes));
        let _ = Manifest::open(Arc::new(fs), path(), 3600);
    };
    Target { name: "manifests", seeds: (1..5).map(seed).collect(), run }.fuzz();
}

/// A file like the others that [`envelope`] wraps, with `body` in it.
fn enveloped(magic: &[u8; 8], body: &[u8]) -> FaultFs {
    with_file(&envelope::seal(*magic, 1, body).unwrap())
}

#[test]
fn state_files() {
    let seed = |n: u64| {
        let mut body = n.to_le_bytes().to_vec();
        format::put_varint(&mut body, n);
        (0..n).for_each(|k| {
            format::put_bytes(&mut body, &k.to_le_bytes());
            format::put_bytes(&mut body, &vec![k as u8; n as usize]);
        });
        body
    };
    // what the first version wrote
    let run = |bytes: &[u8]| drop(StateMap::read_file(&enveloped(b"FTELSTA\0", bytes), path()));
    let whole = StateMap::read_file(&enveloped(b"FTELSTA\0", &seed(5)), path()).unwrap();
    assert_eq!(whole.1, Lsn(5));
    Target { name: "state_files", seeds: (0..6).map(seed).collect(), run }.fuzz();
    let seed = |n: u64| {
        let mut state = StateMap::default();
        let pair = |k: u64| (k.to_le_bytes().to_vec(), Some(vec![k as u8; 97 * k as usize]));
        state.apply(&(0..n).map(pair).collect::<Vec<_>>());
        written(|fs| drop(state.write_file(fs, path(), Lsn(n)).unwrap()))
    };
    let run = |bytes: &[u8]| {
        let fs = with_file(&mutate::with_state_checksum(bytes));
        drop(StateMap::read_file(&fs, path()).map(|(state, _)| state.check()));
    };
    Target { name: "state_files_2", seeds: (0..6).map(seed).collect(), run }.fuzz();
}

#[test]
fn series_files() {
    let seed = |n: u64| {
        let mut body = Vec::new();
        format::put_varint(&mut body, n);
        for k in 0..n {
            format::put_zigzag(&mut body, 1 + k as i64 % 2);
            format::put_varint(&mut body, 0);
            format::put_bytes(&mut body, labels(k).as_bytes());
        }
        body
    };
    let run = |bytes: &[u8]| drop(read_series_file(&enveloped(b"FTELSER\0", bytes), path()));
    assert_eq!(read_series_file(&enveloped(b"FTELSER\0", &seed(4)), path()).unwrap().len(), 4);
    Target { name: "series_files", seeds: (0..5).map(seed).collect(), run }.fuzz();
}

#[test]
fn lists_of_backups() {
    let seed = |n: u64| {
        let mut body = [7u64.to_le_bytes(), n.to_le_bytes()].concat();
        format::put_varint(&mut body, n);
        for k in 0..n {
            format::put_bytes(&mut body, format!("partitions/{k}/{k}.segment").as_bytes());
            format::put_varint(&mut body, 1 << k);
            body.extend_from_slice(&[k as u8; 4]);
        }
        body
    };
    let run = |bytes: &[u8]| {
        let fs = FaultFs::new();
        fs.create_dir(Path::new("/b/backups")).unwrap();
        let sealed = envelope::seal(*b"FTELBAK\0", 1, bytes).unwrap();
        fs.create(Path::new("/b/backups/x.backup")).unwrap().append(&sealed).unwrap();
        let _ = backup::backups_with(Path::new("/b"), &(Arc::new(fs) as Arc<dyn Fs>));
    };
    Target { name: "lists_of_backups", seeds: (0..5).map(seed).collect(), run }.fuzz();
}

#[test]
fn wrapped_files() {
    // The wrapping itself, behind its checksum: lengths that the compressed bytes do not keep.
    let seeds = (0..5).map(|n| envelope::seal(*b"FTELSTA\0", 1, &vec![n as u8; n * 100]).unwrap()).collect();
    let run = |bytes: &[u8]| {
        let fs = with_file(&mutate::with_envelope_checksum(bytes));
        drop(StateMap::read_file(&fs, path()));
    };
    Target { name: "wrapped_files", seeds, run }.fuzz();
}

#[test]
fn logs() {
    // A whole file, its checksums right: what a check and what an open make of it.
    let seed = |n: u64| {
        let mut file = fuzzed::header(1);
        (1..)
            .zip(batches().into_iter().take(n as usize))
            .for_each(|(lsn, batch)| file.extend(fuzzed::record(lsn, &batch)));
        file
    };
    let run = |bytes: &[u8]| {
        let fs = FaultFs::new();
        fs.create_dir(Path::new("/wal")).unwrap();
        let file = Path::new("/wal/00000000000000000001.wal");
        fs.create(file).unwrap().append(&mutate::with_log_checksums(bytes)).unwrap();
        let _ = wal::check(&fs, Path::new("/wal"), Lsn(1), |_| Ok(()));
        let log = wal::Log::open(&fs, Path::new("/wal"), Lsn(1)).unwrap();
        let _ = log.read(|_| true).and_then(|whole| log.finish(whole, &wal::WalFiles::default()));
    };
    Target { name: "logs", seeds: (0..7).map(seed).collect(), run }.fuzz();
}

#[test]
fn segments() {
    let seed = |(ts, values): &(Vec<i64>, Vec<f64>)| {
        written(|fs| {
            let mut writer = crate::segment::SegmentWriter::create(fs, path(), 0, 0, (Lsn(1), Lsn(2))).unwrap();
            (1..4).for_each(|series| writer.append(SeriesId(series), ts, values).unwrap());
            writer.finish().unwrap();
        })
    };
    let run = |bytes: &[u8]| {
        let fs = with_file(&mutate::with_segment_checksums(bytes));
        let Ok(segment) = crate::segment::Segment::open_unlisted(&fs, path()) else { return };
        let mut decoder = crate::segment::BlockDecoder::alone();
        for index in 0..segment.blocks().len().min(50) {
            let mut block = crate::segment::Block::default();
            let loaded =
                block.load(&mut decoder, &segment, index).and_then(|()| block.load_values(&mut decoder, &segment));
            let series = if loaded.is_ok() { block.series().len() } else { 0 };
            let _ = (0..series).try_for_each(|k| block.select(&mut decoder, &segment, k));
            // Some series of it, and of these the rows between two of its instants.
            let (zone, ids) = (&segment.blocks()[index], [SeriesId(1), SeriesId(3)]);
            let middle = zone.min_ts / 2 + zone.max_ts / 2;
            for range in [TimeRange { start: middle, end: i64::MAX }, TimeRange { start: zone.min_ts, end: middle }] {
                let _ = block
                    .load(&mut decoder, &segment, index)
                    .and_then(|()| block.load_values_of(&mut decoder, &segment, &ids, range));
            }
        }
        let mut checker = crate::segment::Checker::new(&segment, TimeRange::ALL);
        let _ = (0..segment.blocks().len().min(50)).try_for_each(|index| {
            checker.read(index)?;
            checker.compare_zone(index)
        });
        let _ = checker.compare_series();
        let _ = segment.blocks().iter().filter(|zone| zone.inside(TimeRange::ALL)).count();
    };
    Target { name: "segments", seeds: columns().iter().map(seed).collect(), run }.fuzz();
}

#[test]
#[should_panic(expected = "replay: FUZZ_INPUT=")]
fn the_harness_catches_a_decoder_that_panics() {
    let run = |bytes: &[u8]| assert!(bytes.len() < 2 || bytes[1] != 0xff, "the canary");
    Target { name: "canary", seeds: vec![vec![0; 8]], run }.fuzz();
}
