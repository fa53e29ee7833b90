//! The same rows, come in any manner and stored in any way, give the same answers: those of brute force.
//!
//! ```text
//!  history (seed) ──┬──> arrival: sizes, splits, order, flushes, merges, restarts ──> store ─┐
//!                   ├──> arrival: others                                          ──> store ─┤
//!                   └──> rows of each metric ──> question: statement, expected answer ───────┴─> compare, before and
//!                                                                                                after all merges
//! ```
//! CI asks 500 questions; `FORETELL_METAMORPHIC=10000` (`make metamorphic`) asks so many, and `FORETELL_METAMORPHIC_SEED`
//! picks the first history. A failure prints the line that asks its questions again.
mod answer;
mod arrival;
mod history;
mod question;

use std::time::Instant;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::store::Store;
use answer::{cells, compare};
use arrival::arrive;
use history::{Flaw, History};
use question::{Question, Questions};

/// Questions about one history.
const QUESTIONS: usize = 50;

/// Says how to ask again when a test fails in a round.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let command = "cargo test --release --locked --workspace --test query -- --nocapture metamorphic::the_same";
            let seed = self.0;
            eprintln!(
                "seed {seed}; replay: FORETELL_METAMORPHIC={QUESTIONS} FORETELL_METAMORPHIC_SEED={seed} {command}"
            );
        }
    }
}

/// Tells one history to two stores and asks them; the first wrong answer, or how many were right.
async fn round(seed: u64, flaw: Flaw) -> Result<usize, String> {
    let mut random = StdRng::seed_from_u64(seed);
    let history = History::random(&mut random);
    let tables = history.tables(flaw);
    let questions = Questions::about(&tables);
    let stores = [arrive(&history, &mut random), arrive(&history, &mut random)];
    let questions: Vec<Question> = (0..QUESTIONS).map(|_| questions.draw(&mut random)).collect();
    let mut asked = 0;
    for (number, question) in questions.iter().enumerate() {
        for (store, manner) in &stores {
            ask(store, question).await.map_err(|e| format!("question {number}, {e}\nrows came by {manner}"))?;
            asked += 1;
        }
    }
    for (store, _) in &stores {
        store.engine.flush().unwrap();
        store.engine.compact().unwrap();
    }
    for (number, question) in questions.iter().enumerate() {
        let (store, manner) = &stores[number % 2];
        ask(store, question).await.map_err(|e| format!("merged, question {number}, {e}\nrows came by {manner}"))?;
        asked += 1;
    }
    Ok(asked)
}

async fn ask(store: &Store, question: &Question) -> Result<(), String> {
    let answer = store.query(&question.sql).await.map_err(|error| format!("{}: {error}", question.sql))?;
    compare(&question.expected, cells(&answer)).map_err(|difference| format!("{}: {difference}", question.sql))
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().filter(|text| !text.is_empty()).map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_rows_give_the_answers_of_brute_force_however_they_came() {
    let (questions, first) = (number("FORETELL_METAMORPHIC", 500), number("FORETELL_METAMORPHIC_SEED", 1));
    let (begun, mut asked) = (Instant::now(), 0);
    for seed in first..first + questions.div_ceil(QUESTIONS as u64) {
        let _replay = Replay(seed);
        asked += round(seed, Flaw::None).await.unwrap_or_else(|difference| panic!("{difference}"));
    }
    println!("metamorphic: {questions} questions, {asked} answers, {:.1} s", begun.elapsed().as_secs_f64());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_brute_force_is_noticed() {
    for flaw in [Flaw::LostRow, Flaw::ChangedValue, Flaw::OlderWins, Flaw::ForgottenDeletes] {
        let mut noticed = false;
        for seed in 1..6 {
            noticed = noticed || round(seed, flaw).await.is_err();
        }
        assert!(noticed, "{flaw:?}");
    }
}
