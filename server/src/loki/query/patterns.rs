//! `patterns`: the templates of lines, and how many lines of each there were when.
//!
//! The miner sees the lines of this answer only. Ids come from lines alone, so they are those of `log_template_id`.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use foretell_ml::template::{Miner, MinerOptions, TemplateId};
use foretell_query::Memory;
use serde_json::{Value, json};

use super::super::logql::LogQuery;
use super::params::Params;
use super::read::{Deadline, Rows, Select, Sink, blocking, scan};
use crate::app::App;
use crate::error::ApiError;
use crate::http::respond;

const OPTIONS: MinerOptions = MinerOptions { clusters_max: 4_096, bytes_max: 4 << 20 };
/// Memory of the miner, its tables included.
const MINER_BYTES: usize = 3 * OPTIONS.bytes_max;
/// Counts of templates and times.
const COUNTS_MAX: usize = 400_000;
const COUNT_BYTES: usize = 64;
/// Templates of an answer, the most frequent ones.
const PATTERNS_MAX: usize = 300;
const SECOND_NS: i64 = 1_000_000_000;
/// Lines are counted in spans of 10 s, unless the request says otherwise.
const STEP_NS: i64 = 10 * SECOND_NS;

pub(super) async fn answer(app: &Arc<App>, params: &Params) -> Result<Response, ApiError> {
    let query = params.lines()?;
    let range = params.range()?;
    let step = if params.one("step").is_some() { params.grid()?.step } else { STEP_NS };
    let memory = app.store()?.database.memory("patterns of lines");
    memory.resize(MINER_BYTES)?;
    let sink = Counts { query: query.clone(), step, miner: Miner::new(OPTIONS), counts: HashMap::new(), memory };
    let text = params.one("query").unwrap_or_default();
    let select = Select { query: &query, text, range, order: String::new(), until: Deadline::of(app) };
    let counts = scan(app, select, sink).await?;
    let data = blocking(move || Ok(counts.patterns())).await?;
    Ok(respond::json(StatusCode::OK, json!({ "status": "success", "data": data }).to_string()))
}

struct Counts {
    query: LogQuery,
    step: i64,
    miner: Miner,
    /// Lines of a template within a span of time.
    counts: HashMap<(TemplateId, i64), u64>,
    memory: Memory,
}

impl Sink for Counts {
    fn take(&mut self, rows: &Rows<'_>) -> Result<(), ApiError> {
        for row in 0..rows.len() {
            let mut entry = rows.entry(row);
            if !self.query.apply(&mut entry) {
                continue;
            }
            let id = self.miner.learn(&entry.line);
            let span = entry.ts.div_euclid(self.step).saturating_mul(self.step);
            *self.counts.entry((id, span)).or_default() += 1;
            if self.counts.len() > COUNTS_MAX {
                let why =
                    format!("more than {COUNTS_MAX} counts of templates: ask for less time or with a longer step");
                return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "execution", why));
            }
        }
        Ok(self.memory.resize(MINER_BYTES + self.counts.capacity() * COUNT_BYTES)?)
    }
}

impl Counts {
    /// The most frequent first. Lines whose templates there was no room for are left out.
    fn patterns(self) -> Vec<Value> {
        let mut all: HashMap<TemplateId, BTreeMap<i64, u64>> = HashMap::new();
        for ((id, span), count) in self.counts {
            *all.entry(self.miner.resolve(id)).or_default().entry(span).or_default() += count;
        }
        let mut all: Vec<(u64, String, BTreeMap<i64, u64>)> = all
            .into_iter()
            .filter_map(|(id, counts)| Some((counts.values().sum::<u64>(), pattern(&self.miner.text(id)?), counts)))
            .collect();
        all.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        all.truncate(PATTERNS_MAX);
        let shown = all.into_iter().map(|(_, pattern, counts)| {
            let samples: Vec<(i64, u64)> =
                counts.into_iter().map(|(span, count)| (span.div_euclid(SECOND_NS), count)).collect();
            json!({ "pattern": pattern, "samples": samples })
        });
        shown.collect()
    }
}

/// A template as `|>` takes it.
fn pattern(template: &str) -> String {
    let mut pattern = template.replace("<*>", "<_>");
    while pattern.contains("<_><_>") {
        pattern = pattern.replace("<_><_>", "<_>");
    }
    pattern
}
