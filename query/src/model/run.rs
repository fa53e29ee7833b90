//! The statements about models, over a database.
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use foretell_engine::Snapshot;
use foretell_engine::clock::{Clock, SystemClock};
use futures::StreamExt;
use tokio::runtime::Handle;

use super::definition::{
    ANOMALIES, Anomaly, Definition, Journal, Label, Phase, Reason, Version, anomaly_key, detectors_of, journal_key,
    version_key,
};
use super::rows::{Order, ask, bounds, query_of, repeatable, rows};
use super::statement::ModelStatement;
use super::training::{Trained, Training, fresh};
use super::{Counts, MODELS_MAX, Model, Models, form, list};
use crate::continuous::status::answer;
use crate::database::Database;
use crate::error::{Error, ErrorKind, Result};

/// Learns the rows with times after `after` and up to `to`.
async fn train(
    database: &Arc<Database>,
    definition: &Definition,
    snapshot: &Snapshot,
    after: Option<i64>,
    to: i64,
    timeout: Option<Duration>,
) -> Result<Trained> {
    let mut response = ask(database, query_of(definition, after, to, Order::BySeries), snapshot, timeout).await?;
    let definition = definition.clone();
    aside(move |runtime| {
        let mut training = Training::new(&definition);
        while let Some(batch) = runtime.block_on(response.stream.next()) {
            let batch = batch.map_err(Error::from_datafusion)?;
            for row in rows(&batch, definition.keys.len())? {
                training.learn(row)?;
            }
        }
        training.finish()
    })
    .await
}

/// Does arithmetic on a thread where it holds nobody up.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce(&Handle) -> Result<T> + Send + 'static) -> Result<T> {
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || work(&runtime))
        .await
        .map_err(|error| Error::internal(format!("the work on a model ended early: {error}")))?
}

impl Version {
    fn new(number: u32, trained: &Trained, snapshot: &Snapshot) -> Self {
        Self {
            number,
            trained_at: SystemClock.now_ns(),
            position: snapshot.lsn(),
            first_ts: trained.first_ts,
            last_ts: trained.last_ts,
            rows: trained.rows,
            keys: trained.detectors.len() as u64,
            bytes: trained.bytes,
            hash: trained.hash,
            code: env!("CARGO_PKG_VERSION").to_owned(),
            training: trained.health.clone(),
        }
    }
}

impl Models {
    /// Runs one statement; the answer is a small table.
    ///
    /// # Durability
    /// What a statement changed is on stable storage when its answer is there.
    ///
    /// # Errors
    /// `Invalid`, `NotFound`, or as a query.
    pub(crate) async fn execute(
        self: &Arc<Self>,
        database: &Arc<Database>,
        statement: ModelStatement,
        timeout: Option<Duration>,
    ) -> Result<RecordBatch> {
        if let ModelStatement::Show = statement {
            return list::models(self);
        }
        if let ModelStatement::Describe { name } = &statement {
            return list::description(&*self.find(name)?);
        }
        let _one = self.changing.lock().await;
        match statement {
            ModelStatement::Create { definition, if_not_exists } => {
                let name = definition.name.clone();
                if self.models.read().contains_key(&name) {
                    return if if_not_exists {
                        answer(format!("model {name} exists"))
                    } else {
                        Err(Error::invalid(format!("model {name} exists: drop it first or choose another name")))
                    };
                }
                self.create(database, definition, timeout).await
            }
            ModelStatement::Retrain { name } => {
                let model = self.find(&name)?;
                let number = self.retrain(database, &model, timeout).await?;
                answer(format!("model {name}: version {number} is the challenger"))
            }
            ModelStatement::Verify { name, version } => {
                self.verify(database, &*self.find(&name)?, version, timeout).await
            }
            ModelStatement::Promote { name, version } => {
                let model = self.find(&name)?;
                let next = self
                    .change(&model, |known, last| {
                        let number = version.or(last.challenger).ok_or_else(|| {
                            Error::invalid(format!(
                                "model {name} has no challenger: RETRAIN MODEL {name}, or name a VERSION"
                            ))
                        })?;
                        if !known.versions.contains_key(&number) {
                            return Err(no_version(&name, number, known.versions.keys().copied()));
                        }
                        if number == last.champion {
                            return Err(Error::invalid(format!("version {number} of model {name} is the champion")));
                        }
                        let challenger = last.challenger.filter(|challenger| *challenger != number);
                        let fallback = Some(last.champion);
                        Ok(Phase { champion: number, fallback, challenger, reason: Reason::Promoted, ..last.clone() })
                    })
                    .await?;
                Counts::add(&self.counts.promoted, 1);
                answer(format!(
                    "model {name}: version {} is the champion of rows {}",
                    next.champion,
                    list::since(next.from)
                ))
            }
            ModelStatement::RollBack { name } => {
                let model = self.find(&name)?;
                let next = self
                    .change(&model, |_, last| {
                        let champion = last.fallback.ok_or_else(|| {
                            Error::invalid(format!("model {name} has no version before this one to go back to"))
                        })?;
                        Ok(Phase { champion, fallback: None, reason: Reason::RolledBack, ..last.clone() })
                    })
                    .await?;
                Counts::add(&self.counts.rolled_back, 1);
                answer(format!(
                    "model {name}: version {} is the champion of rows {}",
                    next.champion,
                    list::since(next.from)
                ))
            }
            ModelStatement::Drop { name, if_exists } => {
                let model = match self.find(&name) {
                    Ok(model) => model,
                    Err(_) if if_exists => return answer(format!("there is no model {name}")),
                    Err(error) => return Err(error),
                };
                let _at_rest = model.watch.lock().await;
                self.models.write().remove(&name);
                let (models, owned) = (Arc::clone(self), name.clone());
                aside(move |_| models.delete(&owned)).await?;
                answer(format!("model {name} dropped, its anomalies stay in sys.anomalies"))
            }
            ModelStatement::Label { id, label } => self.label(id, label).await,
            ModelStatement::Show | ModelStatement::Describe { .. } => Err(Error::internal("answered before")),
        }
    }

    async fn create(
        self: &Arc<Self>,
        database: &Arc<Database>,
        definition: Definition,
        timeout: Option<Duration>,
    ) -> Result<RecordBatch> {
        if self.models.read().len() >= MODELS_MAX {
            let message = format!("there are {MODELS_MAX} models already: drop one first");
            return Err(Error::new(ErrorKind::Execution, message));
        }
        fresh(&definition)?;
        if let Some(name) = definition.keys.iter().find(|key| form::COLUMNS.contains(&key.as_str())) {
            return Err(Error::invalid(format!(
                "the key column {name} would stand beside one of that name in model_scores: rename it in the SELECT"
            )));
        }
        if definition.keys.iter().enumerate().any(|(place, key)| definition.keys[..place].contains(key)) {
            return Err(Error::invalid("a column is twice in KEY"));
        }
        let snapshot = self.engine.snapshot();
        repeatable(database, &definition, &snapshot).await?;
        let Some((_, newest)) = bounds(database, &definition, &snapshot, None).await? else {
            return Err(Error::invalid("the query of the model has no rows: nothing can be learnt"));
        };
        let to = newest.saturating_sub(definition.watermark_ns);
        let after = definition.last_ns.map(|last| to.saturating_sub(last));
        let trained = train(database, &definition, &snapshot, after, to, timeout).await?;
        let version = Version::new(1, &trained, &snapshot);
        let phase = Phase {
            from: version.last_ts.saturating_add(1),
            champion: 1,
            fallback: None,
            challenger: None,
            boundary: 1.0,
            reason: Reason::Created,
            at: version.trained_at,
        };
        let journal = Journal { phases: vec![phase], forgotten: 0, watched_to: version.last_ts };
        let (models, stored) = (Arc::clone(self), (definition.clone(), version.clone(), journal.clone()));
        let detectors = trained.detectors;
        aside(move |_| {
            let (definition, version, journal) = stored;
            models.store_version(&definition.name, &version, detectors, &journal, Some(&definition))
        })
        .await?;
        Counts::add(&self.counts.trained, 1);
        let known = super::Known { journal: Arc::new(journal), ..Default::default() };
        let model = Model::new(definition, known);
        let text = format!(
            "model {} created: version 1 has learnt {} rows of {} series",
            model.definition.name, version.rows, version.keys
        );
        model.known.write().versions.insert(1, version);
        self.models.write().insert(model.definition.name.clone(), Arc::new(model));
        answer(text)
    }

    /// Trains a new version, which becomes the challenger. Answers its number.
    pub(super) async fn retrain(
        self: &Arc<Self>,
        database: &Arc<Database>,
        model: &Arc<Model>,
        timeout: Option<Duration>,
    ) -> Result<u32> {
        let definition = &model.definition;
        let snapshot = self.engine.snapshot();
        let Some((_, newest)) = bounds(database, definition, &snapshot, None).await? else {
            return Err(Error::invalid(format!("the query of model {} has no rows any more", definition.name)));
        };
        let to = newest.saturating_sub(definition.watermark_ns);
        let after = definition.last_ns.map(|last| to.saturating_sub(last));
        let trained = train(database, definition, &snapshot, after, to, timeout).await?;
        let mut slot = model.watch.lock().await;
        let known = model.known.read().clone();
        let number = known.versions.keys().last().copied().unwrap_or_default() + 1;
        let version = Version::new(number, &trained, &snapshot);
        let Some(last) = known.journal.phases.last() else { return Err(Error::internal("a model without a phase")) };
        let from = begins(&known.journal).max(version.last_ts.saturating_add(1));
        let mut journal = Journal::clone(&known.journal);
        journal.phases.push(Phase {
            from,
            challenger: Some(number),
            reason: Reason::Retrained,
            at: version.trained_at,
            ..last.clone()
        });
        let mut next = known;
        next.versions.insert(number, version.clone());
        let (old, journal) = next.outdated(&journal);
        if journal.forgotten != next.journal.forgotten {
            // places in the journal have moved
            *slot = None;
        }
        let (models, name, stored) = (Arc::clone(self), definition.name.clone(), journal.clone());
        let (detectors, outdated) = (trained.detectors, old.clone());
        aside(move |_| {
            models.store_version(&name, &version, detectors, &stored, None)?;
            for old in outdated {
                models.write(vec![(version_key(&name, old), None)])?;
                models.clear(&detectors_of(&name, old))?;
            }
            Ok(())
        })
        .await?;
        Counts::add(&self.counts.trained, 1);
        next.versions.retain(|number, _| !old.contains(number));
        next.journal = Arc::new(journal);
        *model.known.write() = next;
        Ok(number)
    }

    /// Trains a version again from what is stored of its time, and compares.
    async fn verify(
        &self,
        database: &Arc<Database>,
        model: &Model,
        version: Option<u32>,
        timeout: Option<Duration>,
    ) -> Result<RecordBatch> {
        let known = model.known.read().clone();
        let number = version.or(known.journal.phases.last().map(|phase| phase.champion)).unwrap_or_default();
        let name = &model.definition.name;
        let version =
            known.versions.get(&number).ok_or_else(|| no_version(name, number, known.versions.keys().copied()))?;
        let snapshot = self.engine.snapshot();
        let after = version.first_ts.checked_sub(1);
        let again = train(database, &model.definition, &snapshot, after, version.last_ts, timeout).await?;
        list::verified(version, &again)
    }

    /// Adds the phase that `next` makes of the last one; it begins after every row that was watched.
    async fn change(
        self: &Arc<Self>,
        model: &Arc<Model>,
        next: impl FnOnce(&super::Known, &Phase) -> Result<Phase>,
    ) -> Result<Phase> {
        let _at_rest = model.watch.lock().await;
        let known = model.known.read().clone();
        let last = known.journal.phases.last().ok_or_else(|| Error::internal("a model without a phase"))?;
        let phase = Phase { from: begins(&known.journal), at: SystemClock.now_ns(), ..next(&known, last)? };
        let mut journal = Journal::clone(&known.journal);
        journal.phases.push(phase.clone());
        let (models, key, bytes) = (Arc::clone(self), journal_key(&model.definition.name), journal.encode());
        aside(move |_| models.write(vec![(key, Some(bytes))])).await?;
        model.known.write().journal = Arc::new(journal);
        Ok(phase)
    }

    async fn label(self: &Arc<Self>, id: u64, label: Label) -> Result<RecordBatch> {
        let snapshot = self.engine.snapshot();
        let stored = snapshot.state(&anomaly_key(id))?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no anomaly {id}: sys.anomalies lists all"))
        })?;
        let mut anomaly = Anomaly::decode(&stored)?;
        anomaly.label = Some(label);
        let (models, bytes) = (Arc::clone(self), anomaly.encode());
        aside(move |_| models.write(vec![(anomaly_key(id), Some(bytes))])).await?;
        let Ok(model) = self.find(&anomaly.model) else { return answer(format!("anomaly {id} is a {}", label.name())) };
        let mut labelled = Vec::new();
        for (_, bytes) in self.engine.snapshot().state_prefix(ANOMALIES)? {
            let other = Anomaly::decode(&bytes)?;
            if other.model == anomaly.model
                && let Some(label) = other.label
            {
                labelled.push((other.score, label));
            }
        }
        let boundary = boundary(&labelled);
        let before = model.known.read().journal.phases.last().map(|phase| phase.boundary);
        if before == Some(boundary) {
            return answer(format!("anomaly {id} is a {}: the boundary stays {boundary}", label.name()));
        }
        self.change(&model, |_, last| Ok(Phase { boundary, reason: Reason::Labelled, ..last.clone() })).await?;
        answer(format!("anomaly {id} is a {}: the boundary is {boundary} from now on", label.name()))
    }
}

/// When a phase begins that is added now: after every row that was watched, and not before the last phase.
fn begins(journal: &Journal) -> i64 {
    let last = journal.phases.last().map_or(i64::MIN, |phase| phase.from);
    journal.watched_to.saturating_add(1).max(last)
}

/// The boundary that makes the fewest mistakes on what somebody labelled: 1, or just above the score of a false positive.
/// Of equally good ones the lowest.
fn boundary(labelled: &[(f64, Label)]) -> f64 {
    let mistakes = |boundary: f64| {
        labelled.iter().filter(|(score, label)| (*score > boundary) != (*label == Label::TruePositive)).count()
    };
    let mut candidates: Vec<f64> = labelled
        .iter()
        .filter(|(score, label)| *label == Label::FalsePositive && score.is_finite())
        .map(|l| l.0)
        .collect();
    candidates.sort_by(f64::total_cmp);
    std::iter::once(1.0)
        .chain(candidates.into_iter().filter(|score| *score > 1.0))
        .fold((1.0, usize::MAX), |best, candidate| {
            let mistakes = mistakes(candidate);
            if mistakes < best.1 { (candidate, mistakes) } else { best }
        })
        .0
}

fn no_version(name: &str, number: u32, known: impl Iterator<Item = u32>) -> Error {
    let known: Vec<String> = known.map(|number| number.to_string()).collect();
    Error::new(ErrorKind::NotFound, format!("model {name} has no version {number}: there are {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boundary_follows_the_labels_that_are_there() {
        use Label::{FalsePositive as F, TruePositive as T};
        assert_eq!(boundary(&[]), 1.0);
        assert_eq!(boundary(&[(1.2, T), (3.0, T)]), 1.0);
        assert_eq!(boundary(&[(1.2, F), (3.0, T)]), 1.2);
        // 1.2 and 1.4 make a mistake each
        assert_eq!(boundary(&[(1.2, F), (1.4, F), (1.3, T), (3.0, T)]), 1.2);
        assert_eq!(boundary(&[(1.2, F), (1.4, F), (3.0, T)]), 1.4);
        // one false positive among many true ones is no reason
        assert_eq!(boundary(&[(2.0, F), (1.1, T), (1.2, T), (1.3, T)]), 1.0);
        assert_eq!(boundary(&[(f64::INFINITY, F)]), 1.0);
    }
}
