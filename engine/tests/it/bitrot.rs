//! One bit flipped, in any file of a small store: found, with file and offset, or harmless; and what a reader finds, or
//! might have found, [`verify_with`] finds too. `FORETELL_BITROT_FLIPS=10000` is the full form (`make bitrot`).
//!
//! The only loss that nobody can notice is a flip in the very last record of the log: nothing after it proves that it had
//! been synced, so it looks like the torn end of a write that nobody was told of. Those are counted apart.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foretell_engine::clock::ManualClock;
use foretell_engine::fs::{FaultFs, Fs};
use foretell_engine::verify::{Progress, verify_with};
use foretell_engine::{Engine, EngineConfig, Error, Result, SeriesId, TimeRange, WriteBatch};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::deletes::one_of;
use crate::records::{mirror, mirrored};
use crate::support::{HOUR, Replay, Rows, all, batch, number, put, scan, scratch, seeds, series, side_by_side, write};

/// What a store answers.
#[derive(Clone, Debug, PartialEq)]
struct Answers {
    rows: Rows,
    records: Rows,
    names: Vec<(SeriesId, String)>,
    state: Vec<(Vec<u8>, Vec<u8>)>,
}

fn read(engine: &Engine) -> Result<Answers> {
    let snapshot = engine.snapshot();
    let found = snapshot.select(&all())?;
    let ids: Vec<SeriesId> = found.iter().map(|series| series.id).collect();
    Ok(Answers {
        rows: scan(&snapshot, &ids, TimeRange::ALL)?,
        records: mirrored(&snapshot)?,
        names: found.into_iter().map(|series| (series.id, format!("{:?}", series.labels))).collect(),
        state: snapshot.state_prefix(b"")?.into_iter().map(|(key, value)| (key, value.to_vec())).collect(),
    })
}

/// A store on the real file system with every kind of file, not cleanly stopped: timestamps that series share, and a
/// delete that no merge has carried out yet.
struct Original {
    /// By path inside the store.
    files: BTreeMap<PathBuf, Vec<u8>>,
    answers: Answers,
    /// Without the last commit.
    before_last: Answers,
    /// Where the last record of the log begins.
    last_record: (PathBuf, usize),
    config: EngineConfig,
}

impl Original {
    fn new() -> Self {
        let dir = scratch();
        let mut config = EngineConfig::new(dir.path());
        config.background = false;
        config.partition_width = Duration::from_secs(3600);
        config.wal_segment_bytes = 600;
        config.group_commit_window = Duration::ZERO;
        let open = || Engine::open(config.clone()).unwrap();
        let engine = open();
        let fill = |engine: &Engine, from: u32| {
            for n in from..from + 40 {
                let id = series(engine, n % 17);
                let rows: Vec<_> = (0..12)
                    .map(|k| (id, i64::from(n % 5) * HOUR + i64::from(k * 7 + n), f64::from(n) * 0.37))
                    .collect();
                let records = vec![mirror(&rows)];
                engine.write(WriteBatch { records, ..batch(&rows) }).unwrap().wait().unwrap();
                if n % 9 == 8 {
                    engine.flush().unwrap();
                }
            }
            let ids: Vec<SeriesId> = (0..17).map(|n| series(engine, n)).collect();
            for scrape in 0..20 {
                let ts = 6 * HOUR + i64::from(from + scrape) * 15_000_000_000;
                write(engine, &ids.iter().map(|&id| (id, ts, f64::from(scrape) * 0.1)).collect::<Vec<_>>());
            }
            engine.flush().unwrap();
            engine.delete(&one_of(&[3, 4], 0, HOUR)).unwrap();
            engine.flush().unwrap();
            let state = vec![put("key", "value"), put(&format!("from {from}"), "x")];
            engine.write(WriteBatch { state, ..WriteBatch::default() }).unwrap().wait().unwrap();
        };
        fill(&engine, 0);
        engine.compact().unwrap();
        // the catalogue's files are written by a clean stop
        engine.close().unwrap();
        drop(engine);
        let engine = open();
        fill(&engine, 40);
        let before_last = read(&engine).unwrap();
        let newest = list(dir.path()).into_iter().rfind(|path| path.starts_with("wal")).unwrap();
        let last_record = std::fs::metadata(dir.path().join(&newest)).unwrap().len() as usize;
        write(&engine, &[(series(&engine, 1), 5 * HOUR, 1.0)]);
        let answers = read(&engine).unwrap();
        drop(engine);
        let bytes = |path: PathBuf| (path.clone(), std::fs::read(dir.path().join(path)).unwrap());
        let files = list(dir.path()).into_iter().map(bytes).collect();
        Self { files, answers, before_last, last_record: (newest, last_record), config }
    }

    /// A copy of the files without the catalogue, in memory, of a store in `root`.
    fn in_memory(&self, root: &Path) -> FaultFs {
        let fs = FaultFs::new();
        for (path, bytes) in self.files.iter().filter(|(path, _)| !path.starts_with("catalogue")) {
            let path = root.join(path);
            fs.create_dir(path.parent().unwrap()).unwrap();
            fs.create(&path).unwrap().append(bytes).unwrap();
        }
        fs
    }

    fn judge(&self, path: &Path, offset: usize, answers: Result<Answers>) -> Verdict {
        match answers {
            Ok(answers) if answers == self.answers => Verdict::Harmless,
            Ok(answers) if answers == self.before_last && self.in_last_record(path, offset) => Verdict::TornEnd,
            Ok(_) => Verdict::Silent("other answers without an error".into()),
            Err(Error::Corruption { path: at, offset: near, .. })
                if at.ends_with(path) && near <= self.files[path].len() as u64 =>
            {
                Verdict::Found
            }
            // A last edit with a flipped bit is dropped as a torn one; the files then do not fit what is left.
            Err(Error::Corruption { .. }) if path.ends_with("MANIFEST") => Verdict::Found,
            // RocksDB names the file in its own words
            Err(Error::Catalogue(text)) if path.starts_with("catalogue") && text.len() > 10 => Verdict::Found,
            Err(Error::Corruption { path: at, .. }) if path.starts_with("catalogue") && at.ends_with("catalogue") => {
                Verdict::Found
            }
            Err(error) => Verdict::Silent(format!("an error that does not lead to the file: {error}")),
        }
    }

    fn in_last_record(&self, path: &Path, offset: usize) -> bool {
        path == self.last_record.0 && offset >= self.last_record.1
    }
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Found,
    Harmless,
    TornEnd,
    Silent(String),
}

/// Paths inside `root`, sorted.
fn list(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut dirs) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The answers of the store with one bit of one of our own files flipped, and whether a check of the whole store finds it.
fn ours(original: &Original, template: &FaultFs, path: &Path, bit: usize) -> (Result<Answers>, bool) {
    let fs = template.fork();
    fs.flip_bit(&Path::new("/store").join(path), bit);
    let dynamic = Arc::new(fs.clone()) as Arc<dyn Fs>;
    let checked = verify_with(Path::new("/store"), &dynamic, &Progress::default());
    (answers(original, Path::new("/store"), fs), checked.is_err() || checked.is_ok_and(|report| !report.is_clean()))
}

fn answers(original: &Original, root: &Path, fs: FaultFs) -> Result<Answers> {
    let config = EngineConfig { data_dir: root.to_owned(), ..original.config.clone() };
    let engine = Engine::open_with(config, Arc::new(fs), Arc::new(ManualClock::new(0)))?;
    read(&engine)
}

/// The answers of the store with one bit of one of RocksDB's files flipped: these on the real file system, ours in memory.
fn rocksdbs(original: &Original, path: &Path, bit: usize) -> Result<Answers> {
    let dir = scratch();
    std::fs::create_dir(dir.path().join("catalogue")).unwrap();
    for (other, bytes) in original.files.iter().filter(|(other, _)| other.starts_with("catalogue")) {
        let to = dir.path().join(other);
        let mut bytes = bytes.clone();
        if other == path {
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        std::fs::write(to, bytes).unwrap();
    }
    answers(original, dir.path(), original.in_memory(dir.path()).with_real_catalogue())
}

#[test]
fn any_flipped_bit_is_found_or_harmless() {
    let original = Original::new();
    let template = original.in_memory(Path::new("/store"));
    let sound = verify_with(Path::new("/store"), &(Arc::new(template.fork()) as Arc<dyn Fs>), &Progress::default());
    assert!(sound.unwrap().is_clean());
    let files: Vec<&PathBuf> = original.files.iter().filter(|file| !file.1.is_empty()).map(|file| file.0).collect();
    for kind in ["MANIFEST", "segment", "series", "state", "wal", "sst"] {
        assert!(files.iter().any(|path| path.to_string_lossy().ends_with(kind)), "no {kind}: {files:?}");
    }
    let (ours_of, theirs): (Vec<&PathBuf>, Vec<&PathBuf>) =
        files.iter().copied().partition(|path| !path.starts_with("catalogue"));
    let counts: Mutex<BTreeMap<String, [u64; 3]>> = Mutex::default();
    side_by_side(seeds("FORETELL_BITROT_SEED", "FORETELL_BITROT_FLIPS", 400), |seed| {
        let _replay = Replay::of("FORETELL_BITROT_SEED", seed, "bitrot::any_flipped");
        let mut rng = StdRng::seed_from_u64(seed);
        // a real directory for each flip costs more: one flip in eight is in RocksDB's files
        let of = if seed % 8 == 7 { &theirs } else { &ours_of };
        let path = of[rng.random_range(0..of.len())];
        let bit = rng.random_range(0..original.files[path].len() * 8);
        let (answers, verified) = match path.starts_with("catalogue") {
            true => (rocksdbs(&original, path, bit), true),
            false => ours(&original, &template, path, bit),
        };
        let verdict = original.judge(path, bit / 8, answers);
        // Of these files every byte is covered by a checksum, whether or not a query needs it.
        let covered = ["segment", "series", "state"]
            .iter()
            .any(|kind| path.extension().is_some_and(|extension| extension == *kind));
        assert!(verified || !(covered || verdict == Verdict::Found), "verify missed bit {bit} of {}", path.display());
        let kind = path.extension().or(path.file_name()).unwrap().to_string_lossy().into_owned();
        let kind = if path.starts_with("catalogue") { "catalogue".to_owned() } else { kind };
        let place = match verdict {
            Verdict::Found => 0,
            Verdict::Harmless => 1,
            Verdict::TornEnd => 2,
            Verdict::Silent(what) => panic!("bit {} of byte {} of {}: {what}", bit % 8, bit / 8, path.display()),
        };
        counts.lock().unwrap().entry(kind).or_default()[place] += 1;
        1
    });
    println!("file kind: [found, harmless, torn end of the log] {:?}", counts.into_inner().unwrap());
}

#[test]
fn the_harness_catches_answers_that_changed_without_an_error() {
    // The canary: one bit of one value.
    let original = Original::new();
    let mut answers = original.answers.clone();
    *answers.rows.first_entry().unwrap().get_mut() ^= 1;
    let path = original.files.keys().find(|path| path.to_string_lossy().ends_with("segment")).unwrap();
    assert!(matches!(original.judge(path, 100, Ok(answers)), Verdict::Silent(_)));
    assert!(matches!(original.judge(path, 100, Ok(original.before_last.clone())), Verdict::Silent(_)));
    assert_eq!(number("FORETELL_NOT_SET", 3), 3);
}
