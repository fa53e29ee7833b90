//! A year of scrapes with late rows, overwrites and deletes answers as a brute-force model does, whatever happens to the
//! store.
//!
//! ```text
//!  story (seed) ──┬──> engine: write, delete, flush, merge, restart, kill
//!                 └──> model                                                 and, when the year is over:
//!                        └── check: every row bit for bit, random            merged to the end, restarted, killed,
//!                            selections, newest values, names, counts        restored from a backup, repaired
//!                                                                            without a catalogue
//! ```
//! CI lives through years of few series. `FORETELL_YEAR=full` (`make year`) takes 1,000 series and tens of millions of rows;
//! `FORETELL_YEAR_SEED` picks the year. A failure prints the line that lives through it again.
mod check;
mod model;
mod story;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use foretell_engine::backup::{Begun, restore};
use foretell_engine::repair::{Options, repair};
use foretell_engine::verify::{Progress, verify};
use foretell_engine::{Engine, EngineConfig, ErrorKind, MatchOp, Matcher, Selector, SeriesId, TimeRange, WriteBatch};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tempfile::TempDir;

use check::{Outcome, View};
use model::{Flaw, Model, Row};
use story::{DAY, Form, Sent, Span, Story};

use crate::support::{labels, scratch};

/// The memtable is flushed at this size whatever the dice say.
const MEMTABLE_BYTES_MAX: u64 = 200 << 20;

fn short(seed: u64) -> Form {
    Form { seed, series: 100, days: 365, step_minutes: 700..2900, epoch_hours: 24..200, partition_days: 20..91 }
}

fn full(seed: u64) -> Form {
    Form { seed, series: 1000, days: 365, step_minutes: 10..40, epoch_hours: 6..72, partition_days: 1..8 }
}

/// As [`short`], for tests of the test.
fn tiny(seed: u64) -> Form {
    Form { days: 60, step_minutes: 300..900, partition_days: 5..20, ..short(seed) }
}

/// A store, what it should hold, and the dice.
struct World {
    /// `None` only between two lives.
    engine: Option<Engine>,
    config: EngineConfig,
    model: Model,
    story: Story,
    random: StdRng,
    directory: TempDir,
    batch_rows_max: usize,
    compared: u64,
    /// Rows that rollups have answered for.
    rolled_up: u64,
}

impl World {
    fn new(form: &Form, flaw: Flaw) -> Self {
        let mut random = StdRng::seed_from_u64(form.seed ^ 0x5eed);
        // The full form is too much for memory.
        let directory = if form.series > 100 { tempfile::tempdir().unwrap() } else { scratch() };
        let mut config = EngineConfig::new(directory.path().join("store"));
        config.background = false;
        let days = random.random_range(form.partition_days.clone());
        config.partition_width = Duration::from_nanos((days * DAY) as u64);
        config.memtable_run_rows = [100, 5_000, 256 << 10][random.random_range(0..3)];
        config.wal_segment_bytes = [1 << 20, 64 << 20][random.random_range(0..2)];
        config.group_commit_window = Duration::ZERO;
        config.rollup_widths = [DAY / 2, days.min(7) * DAY].map(|width| Duration::from_nanos(width as u64)).to_vec();
        let mut model = Model::new(flaw);
        let story = Story::new(form, &mut model);
        let engine = Some(Engine::open(config.clone()).unwrap());
        Self {
            engine,
            config,
            model,
            story,
            random,
            directory,
            batch_rows_max: form.series * 20,
            compared: 0,
            rolled_up: 0,
        }
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    /// Everything that happens in the year.
    fn live(&mut self) -> Result<(), String> {
        while let Some(rows) = self.story.epoch(&mut self.model) {
            self.send(&rows);
            if let Some(selector) = self.story.deletion() {
                self.delete(&selector);
            }
            self.interrupt()?;
        }
        Ok(())
    }

    /// Writes `rows` in batches of any size.
    fn send(&mut self, rows: &[Sent]) {
        let (mut rest, mut handles) = (rows, Vec::new());
        // Asked for anew each time: a series that was forgotten meanwhile comes back.
        let mut ids: HashMap<usize, SeriesId> = HashMap::new();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(self.random.random_range(1..=self.batch_rows_max).min(rest.len()));
            let mut batch = WriteBatch::default();
            for &(series, ts, bits) in now {
                let labels = &self.model.tracks[series].labels;
                let id = *ids.entry(series).or_insert_with(|| self.engine().resolve(labels).unwrap());
                batch.push(id, ts, f64::from_bits(bits));
                self.model.push(series, ts, bits);
            }
            handles.push(self.engine().write(batch).unwrap());
            rest = later;
        }
        for handle in handles {
            handle.wait().unwrap();
        }
    }

    fn delete(&mut self, selector: &Selector) {
        if let Err(error) = self.engine().delete(selector) {
            assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
            self.engine().flush().unwrap();
            self.engine().compact().unwrap();
            self.engine().delete(selector).unwrap();
        }
        self.model.delete(selector);
    }

    /// What happens between two epochs.
    fn interrupt(&mut self) -> Result<(), String> {
        match self.random.random_range(0..100) {
            0..25 => self.engine().flush().unwrap(),
            25..35 => drop(self.engine().compact().unwrap()),
            35..38 => self.restart(),
            38..41 => self.kill(),
            41..46 => self.glance()?,
            _ if self.engine().stats().memtable_bytes > MEMTABLE_BYTES_MAX => self.engine().flush().unwrap(),
            _ => {}
        }
        Ok(())
    }

    /// Opens the store again after a clean stop.
    fn restart(&mut self) {
        self.engine().close().unwrap();
        self.kill();
    }

    /// Opens the store again, without a goodbye.
    fn kill(&mut self) {
        self.engine = None;
        self.engine = Some(Engine::open(self.config.clone()).unwrap());
    }

    /// A few comparisons.
    fn glance(&mut self) -> Result<(), String> {
        let (span, engine) = (self.story.span(), self.engine.as_ref().unwrap());
        let view = View::of(engine, &mut self.model)?;
        self.compared += view.some(span, 3, &mut self.random)?;
        self.rolled_up += view.rolled_up.get();
        Ok(())
    }

    /// Every comparison.
    fn check(&mut self, when: &str) -> Result<(), String> {
        let (span, engine) = (self.story.span(), self.engine.as_ref().unwrap());
        let checked = View::of(engine, &mut self.model)
            .and_then(|view| Ok((view.check(span, &mut self.random)?, view.rolled_up.get())));
        let (compared, rolled_up) = checked.map_err(|difference| format!("{when}: {difference}"))?;
        (self.compared, self.rolled_up) = (self.compared + compared, self.rolled_up + rolled_up);
        let on_disk = self.engine().stats().segment_rows;
        eprintln!("  {when}: {} rows, {on_disk} in segments", self.model.rows());
        Ok(())
    }

    /// What happens to the store of a whole year.
    fn survive(&mut self) -> Result<(), String> {
        self.check("with memtables and much to merge")?;
        self.engine().flush().unwrap();
        self.check("flushed")?;
        self.engine().compact().unwrap();
        let stats = self.engine().stats();
        if stats.tombstones != 0 || stats.segment_rows < self.model.rows() {
            return Err(format!("merged to the end, {} rows: {stats:?}", self.model.rows()));
        }
        self.check("merged to the end")?;
        self.restart();
        self.check("restarted")?;
        self.back_up("0");
        self.encore();
        self.kill();
        self.check("killed with late rows in the log")?;
        self.back_up("1");
        self.encore();
        self.back_up("2");
        self.restored()?;
        self.repaired()?;
        self.encore();
        self.engine().flush().unwrap();
        self.engine().compact().unwrap();
        self.check("gone on after the repair")
    }

    /// Late rows and a delete.
    fn encore(&mut self) {
        let rows = self.story.encore(&self.model);
        self.send(&rows);
        if let Some(selector) = self.story.deletion() {
            self.delete(&selector);
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn back_up(&self, label: &str) {
        let begun = Begun { at_ns: 0, label };
        self.engine().backup(&self.path("backup"), &begun, &Progress::default()).unwrap();
    }

    /// The newest backup, as a store of its own.
    fn restored(&mut self) -> Result<(), String> {
        let place = self.path("restored");
        restore(&self.path("backup"), None, &place, &Progress::default()).unwrap();
        clean(&place)?;
        let config = EngineConfig { data_dir: place, ..self.config.clone() };
        let original = self.engine.replace(Engine::open(config).unwrap());
        self.check("restored from a backup")?;
        self.engine = original;
        Ok(())
    }

    /// The store after a repair that found no catalogue.
    fn repaired(&mut self) -> Result<(), String> {
        self.engine().close().unwrap();
        self.engine = None;
        std::fs::remove_dir_all(self.path("store/catalogue")).unwrap();
        let done = repair(&self.config.data_dir, Options::default(), &Progress::default()).unwrap();
        if done.after.is_none() || !done.losses.is_empty() {
            return Err(format!("the repair did not mend all: {done:#?}"));
        }
        clean(&self.config.data_dir)?;
        self.engine = Some(Engine::open(self.config.clone()).unwrap());
        self.check("repaired without a catalogue")
    }
}

/// Whether `verify` finds nothing.
fn clean(store: &Path) -> Result<(), String> {
    let report = verify(store, &Progress::default()).unwrap();
    if report.is_clean() { Ok(()) } else { Err(format!("{}: {report:#?}", store.display())) }
}

/// Says how to live through a year again when a test fails in it.
struct Replay {
    form: Form,
    full: bool,
}

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (form, seed) = (if self.full { "full" } else { "short" }, self.form.seed);
            let command = "cargo test --release --locked --workspace --test engine -- --nocapture year::a_year";
            eprintln!("seed {seed}; replay: FORETELL_YEAR={form} FORETELL_YEAR_SEED={seed} {command}");
        }
    }
}

#[test]
fn a_year_answers_as_a_brute_force_model_does_whatever_happens_to_the_store() {
    let full_form = std::env::var("FORETELL_YEAR").is_ok_and(|form| form == "full");
    let seed: Option<u64> =
        std::env::var("FORETELL_YEAR_SEED").ok().filter(|s| !s.is_empty()).map(|s| s.parse().unwrap());
    let seeds = seed.map_or_else(|| if full_form { vec![1] } else { vec![1, 2] }, |seed| vec![seed]);
    for seed in seeds {
        let form = if full_form { full(seed) } else { short(seed) };
        let replay = Replay { form, full: full_form };
        let begun = Instant::now();
        let mut world = World::new(&replay.form, Flaw::None);
        let outcome = world.live().and_then(|()| world.survive());
        outcome.unwrap_or_else(|difference| panic!("{difference}"));
        println!(
            "year, seed {seed}: {} series, {} rows sent, {} deleted, {} kept, {} compared, {:.1} s",
            world.model.tracks.len(),
            world.model.pushed,
            world.model.deleted,
            world.model.rows(),
            world.compared,
            begun.elapsed().as_secs_f64()
        );
        assert!(world.rolled_up > 0, "rollups answer");
        assert!(world.model.deleted > 100 && world.model.rows() > 5_000, "the year proves something");
    }
}

#[test]
fn a_wrong_model_is_noticed() {
    for flaw in [Flaw::OlderWins, Flaw::ForgottenDelete, Flaw::LostLateRow] {
        let mut world = World::new(&tiny(7), flaw);
        let outcome = world.live().and_then(|()| world.check("at the end"));
        assert!(outcome.is_err(), "{flaw:?} is not noticed");
    }
}

#[test]
fn a_row_that_the_engine_lost_is_noticed() {
    let mut world = World::new(&tiny(8), Flaw::None);
    world.live().and_then(|()| world.check("at the end")).unwrap();
    let track = world.model.tracks.iter().find(|track| track.rows.len() > 10).unwrap();
    let matcher = |(name, value): (&str, &str)| Matcher { name: name.into(), op: MatchOp::Equal, value: value.into() };
    let mut matchers: Vec<Matcher> = track.labels.iter().map(matcher).collect();
    if track.labels.get("mode").is_none() {
        matchers.push(matcher(("mode", "")));
    }
    let ts = track.rows[5].0;
    let selector = Selector { metric: None, matchers, range: TimeRange { start: ts, end: ts } };
    assert_eq!(world.engine().delete(&selector).unwrap().series, 1);
    let difference = world.check("robbed").unwrap_err();
    assert!(difference.contains(&ts.to_string()), "{difference}");
}

#[test]
fn each_comparison_alone_notices_a_changed_bit_and_a_lost_and_an_invented_row() {
    let mut world = World::new(&tiny(9), Flaw::None);
    world.live().and_then(|()| world.check("at the end")).unwrap();
    let (span, engine) = (world.story.span(), world.engine.as_ref().unwrap());
    let faults: [fn(&mut Vec<Row>); 3] = [
        |rows| rows.last_mut().unwrap().1 ^= 1,
        |rows| {
            rows.pop();
        },
        |rows| rows.push((rows.last().unwrap().0.saturating_add(1), 0)),
    ];
    for (number, fault) in faults.iter().enumerate() {
        let sound: Vec<Vec<Row>> = world.model.tracks.iter().map(|track| track.rows.clone()).collect();
        // The last row of time itself can have none after it.
        let able = |rows: &[Row]| rows.last().is_some_and(|last| last.0 < i64::MAX);
        world.model.tracks.iter_mut().filter(|track| able(&track.rows)).for_each(|track| fault(&mut track.rows));
        let view = View::of(engine, &mut world.model).unwrap();
        let mut often = |compare: fn(&View<'_>, Span, &mut StdRng) -> Outcome| {
            (0..100).any(|_| compare(&view, span, &mut world.random).is_err())
        };
        assert!(often(|view, _, random| view.all_rows(random)), "rows, fault {number}");
        assert!(often(|view, span, random| view.selection(span, random)), "selections, fault {number}");
        assert!(often(|view, span, random| view.last_values(span, random)), "newest values, fault {number}");
        assert_eq!(view.count().is_err(), number > 0, "counts, fault {number}");
        for (track, rows) in world.model.tracks.iter_mut().zip(sound) {
            track.rows = rows;
        }
    }
    assert!(View::of(engine, &mut world.model).unwrap().names().is_ok());
    let invented = world.model.add(labels(&[("__name__", "m_info"), ("never", "seen")]));
    world.model.push(invented, 1, 1);
    let missing = View::of(engine, &mut world.model).err().unwrap();
    assert!(missing.contains("never"), "{missing}");
}
