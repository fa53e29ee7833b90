//! The ways in which the same rows can come into a store: sizes, splits, orders, flushes, merges, restarts.
use std::sync::Arc;
use std::time::Duration;

use foretell_engine::clock::ManualClock;
use foretell_engine::fs::{FaultFs, Fs, OsFs};
use foretell_engine::{Engine, EngineConfig, WriteBatch};
use foretell_query::QueryLimits;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::history::{History, Sent};
use crate::store::Store;

/// How rows come.
#[derive(Debug)]
struct Manner {
    /// A real directory, with a real catalogue, or files in memory.
    real: bool,
    batch_rows_max: usize,
    order: Order,
    /// Percentages, after each batch.
    flush: u32,
    compact: u32,
    reopen: u32,
    repeat: u32,
}

#[derive(Clone, Copy, Debug)]
enum Order {
    AsSent,
    Reversed,
    Shuffled,
    ByTime,
}

fn one_of<T: Copy>(random: &mut StdRng, choices: &[T]) -> T {
    choices[random.random_range(0..choices.len())]
}

/// A store with the rows of `history`, and how they came.
pub(crate) fn arrive(history: &History, random: &mut StdRng) -> (Store, String) {
    let directory = tempfile::tempdir().unwrap();
    let config = EngineConfig {
        background: false,
        sync_every_commit: false,
        group_commit_window: Duration::ZERO,
        partition_width: Duration::from_secs(one_of(random, &[600, 3_600, 6 * 3_600, 86_400, 30 * 86_400])),
        memtable_bytes_max: one_of(random, &[2_000, 64_000, 128 << 20]),
        memtable_run_rows: one_of(random, &[1, 7, 100, 1_000, 256 << 10]),
        wal_segment_bytes: one_of(random, &[2_000, 64_000, 64 << 20]),
        feed_bytes_max: one_of(random, &[0, 1 << 20]),
        ..EngineConfig::new(directory.path())
    };
    let manner = Manner {
        real: random.random_bool(0.2),
        batch_rows_max: one_of(random, &[20, 300, 2_000]),
        order: one_of(random, &[Order::AsSent, Order::Reversed, Order::Shuffled, Order::ByTime]),
        flush: one_of(random, &[0, 5, 40]),
        compact: one_of(random, &[0, 3, 20]),
        reopen: one_of(random, &[0, 0, 3]),
        repeat: one_of(random, &[0, 10]),
    };
    let what = format!("{manner:?} {config:?}");
    let fs: Arc<dyn Fs> = if manner.real { Arc::new(OsFs) } else { Arc::new(FaultFs::new()) };
    let mut sender = Sender { engine: None, config, fs, manner };
    sender.open();
    for epoch in &history.epochs {
        sender.send(history, &epoch.rows, random);
        if let Some(delete) = &epoch.delete {
            sender.engine().delete(&delete.selector).unwrap();
        }
    }
    let limits = QueryLimits { spread_small: random.random_bool(0.5), ..QueryLimits::default() };
    (Store::over(sender.engine.unwrap(), directory, limits), what)
}

struct Sender {
    /// `None` only between two lives.
    engine: Option<Engine>,
    config: EngineConfig,
    fs: Arc<dyn Fs>,
    manner: Manner,
}

impl Sender {
    fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    fn open(&mut self) {
        self.engine = None;
        let (fs, clock) = (Arc::clone(&self.fs), Arc::new(ManualClock::new(0)));
        self.engine = Some(Engine::open_with(self.config.clone(), fs, clock).unwrap());
    }

    fn send(&mut self, history: &History, rows: &[Sent], random: &mut StdRng) {
        let mut rows = rows.to_vec();
        match self.manner.order {
            Order::AsSent => {}
            Order::Reversed => rows.reverse(),
            Order::Shuffled => rows.shuffle(random),
            Order::ByTime => rows.sort_by_key(|row| row.1),
        }
        let mut rest = rows.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(random.random_range(1..=self.manner.batch_rows_max).min(rest.len()));
            self.write(history, now);
            let happens = |percent: u32, random: &mut StdRng| random.random_range(0..100) < percent;
            if happens(self.manner.repeat, random) {
                self.write(history, now);
            }
            if happens(self.manner.flush, random) {
                self.engine().flush().unwrap();
            }
            if happens(self.manner.compact, random) {
                self.engine().compact().unwrap();
            }
            if happens(self.manner.reopen, random) {
                self.open();
            }
            rest = later;
        }
    }

    fn write(&self, history: &History, rows: &[Sent]) {
        let mut batch = WriteBatch::default();
        for &(series, ts, value) in rows {
            batch.push(self.engine().resolve(&history.series[series].label_set()).unwrap(), ts, value);
        }
        self.engine().write(batch).unwrap().wait().unwrap();
    }
}
