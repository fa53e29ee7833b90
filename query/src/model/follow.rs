//! Following the data: a model is shown its new rows step by step, and trained anew when that is due.
use std::sync::Arc;

use foretell_engine::clock::{Clock, SystemClock};
use futures::StreamExt;

use super::definition::{Journal, Phase, Reason, journal_key};
use super::rows::{Order, ask, bounds, query_of, rows};
use super::run::aside;
use super::watch::Watch;
use super::{Counts, Model, Models, of_model};
use crate::database::Database;
use crate::error::{Error, Result};

/// Most of the time of rows that one step reads, ns.
const STEP_NS: i64 = 86_400_000_000_000;

impl Models {
    /// Shows a model its new rows. Answers whether there may be more.
    async fn step(self: &Arc<Self>, database: &Arc<Database>, model: &Arc<Model>) -> Result<bool> {
        let mut slot = model.watch.lock().await;
        let snapshot = self.engine.snapshot();
        let definition = model.definition.clone();
        if model.known.read().seen == snapshot.lsn().0 || !self.models.read().contains_key(&definition.name) {
            return Ok(false);
        }
        let known = model.known.read().clone();
        let shown_to = slot.get_or_insert_with(|| Watch::new(&known.journal)).shown_to();
        let found = bounds(database, &definition, &snapshot, Some(shown_to)).await?;
        let watched = found.filter(|(first, last)| *first <= last.saturating_sub(definition.watermark_ns));
        let Some((first, last)) = watched else {
            model.known.write().seen = snapshot.lsn().0;
            return Ok(false);
        };
        let to = last.saturating_sub(definition.watermark_ns).min(first.saturating_add(STEP_NS));
        let sql = query_of(&definition, Some(shown_to), to, Order::ByTime);
        let mut response = ask(database, sql, &snapshot, None).await?;
        // what fails from here on may have seen some of the rows: it is shown all again
        let Some(mut watch) = slot.take() else { return Ok(false) };
        let (models, journal, versions) = (Arc::clone(self), Arc::clone(&known.journal), known.versions);
        let (watch, journal, found, phase) = aside(move |runtime| {
            let mut anomalies = Vec::new();
            while let Some(batch) = runtime.block_on(response.stream.next()) {
                let batch = batch.map_err(Error::from_datafusion)?;
                let rows = rows(&batch, definition.keys.len())?;
                Counts::add(&models.counts.rows, rows.len() as u64);
                anomalies.extend(watch.show(&definition, &journal, &snapshot, rows)?);
            }
            watch.advance(to);
            let mut next = Journal::clone(&journal);
            next.watched_to = next.watched_to.max(to);
            let advice = watch.advice(&definition, &journal, |number| versions.get(&number).cloned());
            let phase = advice.map(|phase| Phase { at: SystemClock.now_ns(), ..phase });
            next.phases.extend(phase.clone());
            if next != *journal {
                let mut state = models.number(&mut anomalies, &snapshot);
                state.push((journal_key(&definition.name), Some(next.encode())));
                models.write(state)?;
            }
            Ok((watch, next, anomalies.len(), phase))
        })
        .await?;
        Counts::add(&self.counts.anomalies, found as u64);
        if let Some(phase) = &phase {
            match phase.reason {
                Reason::RolledBackByRule => Counts::add(&self.counts.rolled_back, 1),
                Reason::PromotedByRule => Counts::add(&self.counts.promoted, 1),
                _ => {}
            }
            let (model, reason) = (&model.definition.name, phase.reason.name());
            tracing::info!(model, reason, champion = phase.champion, "a model changed its versions by rule");
        }
        let mut known = model.known.write();
        known.journal = Arc::new(journal);
        known.records = watch.records.clone();
        known.error = None;
        *slot = Some(watch);
        Ok(true)
    }

    /// Shows every model its new rows, and trains those that are due. What fails is in `sys.models` and tried again later.
    pub(crate) async fn step_all(self: &Arc<Self>, database: &Arc<Database>) {
        for model in self.all() {
            let outcome = self.follow(database, &model).await;
            let failed = outcome.as_ref().err();
            if let Some(error) = failed {
                Counts::add(&self.counts.failures, 1);
                tracing::warn!(model = model.definition.name, %error, "a model could not be shown its rows");
                model.known.write().error = Some(error.message.clone());
            }
        }
    }

    /// Waits until every model has been shown all rows up to now.
    ///
    /// # Errors
    /// The first model's that fails.
    pub(crate) async fn catch_up(self: &Arc<Self>, database: &Arc<Database>) -> Result<()> {
        for model in self.all() {
            self.follow(database, &model).await.map_err(|error| of_model(&model.definition.name, error))?;
        }
        Ok(())
    }

    async fn follow(self: &Arc<Self>, database: &Arc<Database>, model: &Arc<Model>) -> Result<()> {
        while self.step(database, model).await? {}
        let due = {
            let known = model.known.read();
            let last = known.versions.values().map(|version| version.last_ts).max().unwrap_or(i64::MAX);
            let due = model.definition.retrain_ns.map(|every| last.saturating_add(every.max(1)));
            let waits = known.journal.phases.last().is_some_and(|phase| phase.challenger.is_some());
            due.is_some_and(|due| known.journal.watched_to >= due) && !waits
        };
        if due {
            let _one = self.changing.lock().await;
            self.retrain(database, model, None).await?;
        }
        Ok(())
    }
}
