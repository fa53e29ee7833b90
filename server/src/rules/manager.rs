//! All groups: started with the store, exchanged by a reload, ended before the store closes.
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use foretell_engine::LabelSet;
use foretell_engine::clock::{Clock as _, SystemClock};
use parking_lot::RwLock;
use prometheus_client::metrics::histogram::Histogram;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::context::Context;
use super::file::{self, GroupSpec, LoadError};
use super::group::{Group, STALE};
use super::notify::{Notifier, Origin, Told};
use super::schedule::{Next, Schedule};
use crate::app::Store;
use crate::remote_write::labels::LabelLimits;

/// How long the end of the server waits for evaluations to end.
const STOP_MAX: Duration = Duration::from_secs(5);
/// A group that starts with the server remembers its alerts after so many evaluations: the first may come before the data.
const EVALUATIONS_BEFORE_RESTORE: u32 = 2;
const NS_PER_MS: i64 = 1_000_000;

/// See the module.
pub(crate) struct Manager {
    settings: Settings,
    /// Set when the store is open.
    context: OnceLock<Arc<Context>>,
    /// What the API shows.
    groups: Shown,
    /// What runs; held while that changes.
    running: tokio::sync::Mutex<Vec<Running>>,
    stop: CancellationToken,
    reloaded_ok: AtomicBool,
    reloaded_at_ns: AtomicI64,
}

/// The groups in force.
pub(super) type Shown = Arc<RwLock<Arc<Vec<Arc<Group>>>>>;

/// A group and its task.
struct Running {
    group: Arc<Group>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Manager {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            context: OnceLock::new(),
            groups: Shown::default(),
            running: tokio::sync::Mutex::default(),
            stop: CancellationToken::new(),
            reloaded_ok: AtomicBool::new(true),
            reloaded_at_ns: AtomicI64::new(SystemClock.now_ns()),
        }
    }

    /// What the configuration says of rules and alerts.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Starts `specs` over an open store. Alerts go on where the last process ended.
    pub(crate) async fn start(
        &self,
        store: Store,
        label_limits: LabelLimits,
        seconds: Histogram,
        specs: Vec<Arc<GroupSpec>>,
    ) {
        let settings = self.settings.clone();
        let origin =
            Origin { external_labels: settings.external_labels.clone(), external_url: settings.external_url.clone() };
        let notifier = Notifier::start(&settings.alertmanagers, settings.queue_max, settings.timeout, origin);
        let context =
            Arc::new(Context::new(store, label_limits, settings, notifier, seconds, Arc::clone(&self.groups)));
        if self.context.set(Arc::clone(&context)).is_err() {
            return;
        }
        let mut running = self.running.lock().await;
        running.extend(specs.into_iter().map(|spec| self.run(&context, Arc::new(Group::new(spec, false)), true)));
        self.show(&running);
    }

    /// Reads the rule files again and exchanges the groups that have changed; the others go on undisturbed. Returns how many
    /// groups there are.
    ///
    /// # Errors
    /// What is wrong with the files: then the old rules go on.
    pub(crate) async fn reload(&self) -> Result<usize, LoadError> {
        let mut running = self.running.lock().await;
        let loaded = self.exchange(&mut running).await;
        self.reloaded_ok.store(loaded.is_ok(), Ordering::Relaxed);
        match &loaded {
            Ok(()) => {
                self.reloaded_at_ns.store(SystemClock.now_ns(), Ordering::Relaxed);
                tracing::info!(groups = running.len(), "rules reloaded");
            }
            Err(error) => tracing::error!(%error, "rules are not reloaded; the old ones go on"),
        }
        loaded.map(|()| running.len())
    }

    async fn exchange(&self, running: &mut Vec<Running>) -> Result<(), LoadError> {
        let failed = |message: String| LoadError(vec![message]);
        let Some(context) = self.context.get().filter(|_| !self.stop.is_cancelled()) else {
            return Err(failed("the server is starting or stopping: try again".into()));
        };
        let settings = self.settings.clone();
        let loading = tokio::task::spawn_blocking(move || file::load(&settings.files, &settings.defaults));
        let specs = loading.await.map_err(|error| failed(error.to_string()))??;
        let (kept, ended): (Vec<Running>, Vec<Running>) =
            running.drain(..).partition(|one| specs.iter().any(|spec| *spec == one.group.spec));
        ended.iter().for_each(|one| one.stop.cancel());
        let mut before = Vec::with_capacity(ended.len());
        for one in ended {
            let _ = one.task.await;
            before.push(one.group);
        }
        let mut kept: Vec<Option<Running>> = kept.into_iter().map(Some).collect();
        for spec in specs {
            if let Some(same) = kept.iter_mut().find(|one| one.as_ref().is_some_and(|one| one.group.spec == spec)) {
                running.extend(same.take());
                continue;
            }
            let old = before.iter().position(|old| old.spec.file == spec.file && old.spec.name == spec.name);
            let group = match old.map(|at| before.swap_remove(at)) {
                Some(old) => Group::following(spec, &old),
                None => Group::new(spec, true),
            };
            running.push(self.run(context, Arc::new(group), false));
        }
        self.show(running);
        for gone in before {
            tokio::spawn(end(Arc::clone(context), gone, Arc::clone(&self.groups), self.stop.clone()));
        }
        Ok(())
    }

    fn run(&self, context: &Arc<Context>, group: Arc<Group>, restores: bool) -> Running {
        let stop = self.stop.child_token();
        let task = tokio::spawn(run(Arc::clone(context), Arc::clone(&group), stop.clone(), restores));
        Running { group, stop, task }
    }

    fn show(&self, running: &[Running]) {
        let mut groups: Vec<Arc<Group>> = running.iter().map(|one| Arc::clone(&one.group)).collect();
        groups.sort_by(|a, b| (&a.spec.file, &a.spec.name).cmp(&(&b.spec.file, &b.spec.name)));
        *self.groups.write() = Arc::new(groups);
    }

    /// All groups, by file and name.
    pub(crate) fn groups(&self) -> Arc<Vec<Arc<Group>>> {
        Arc::clone(&*self.groups.read())
    }

    /// What has been told to each Alertmanager.
    pub(crate) fn told(&self) -> Vec<Told> {
        self.context.get().map(|context| context.notifier.told()).unwrap_or_default()
    }

    /// Whether the last reload succeeded, and when the rules in force were read, ns UTC.
    pub(crate) fn reloaded(&self) -> (bool, i64) {
        (self.reloaded_ok.load(Ordering::Relaxed), self.reloaded_at_ns.load(Ordering::Relaxed))
    }

    /// Ends all groups, and tells what is still to be told.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        let running = std::mem::take(&mut *self.running.lock().await);
        let ended = async {
            for one in running {
                let _ = one.task.await;
            }
        };
        if tokio::time::timeout(STOP_MAX, ended).await.is_err() {
            tracing::warn!("an evaluation of rules does not end and is abandoned");
        }
        if let Some(context) = self.context.get() {
            context.notifier.close().await;
        }
    }
}

/// Evaluates `group` at its instants until `stop`.
async fn run(context: Arc<Context>, group: Arc<Group>, stop: CancellationToken, restores: bool) {
    let spec = &group.spec;
    let schedule = Schedule::new(&spec.file, &spec.name, spec.interval_ns);
    let (mut last_ns, mut evaluations) = (schedule.before(SystemClock.now_ns()), 0u32);
    while !stop.is_cancelled() {
        match schedule.next(last_ns, SystemClock.now_ns()) {
            Next::Wait(ns) => tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(Duration::from_nanos(ns.unsigned_abs())) => {}
            },
            Next::Evaluate { at_ns, missed } => {
                group.state.lock().missed += missed;
                last_ns = at_ns;
                group.evaluate(&context, at_ns, &stop).await;
                evaluations = evaluations.saturating_add(1);
                if restores && evaluations == EVALUATIONS_BEFORE_RESTORE {
                    group.restore(&context, SystemClock.now_ns()).await;
                }
            }
        }
    }
}

/// Ends the series of a group that a reload has taken away, after two of its intervals, so that a group that writes the same
/// ones by then goes on with them.
async fn end(context: Arc<Context>, gone: Arc<Group>, groups: Shown, stop: CancellationToken) {
    let ended_at_ms = SystemClock.now_ns().div_euclid(NS_PER_MS);
    let wait = Duration::from_nanos(gone.spec.interval_ns.unsigned_abs()).saturating_mul(2);
    tokio::select! {
        () = stop.cancelled() => return,
        () = tokio::time::sleep(wait) => {}
    }
    // Of the groups that there are by now: another reload may have exchanged those that followed this one.
    let groups = Arc::clone(&*groups.read());
    let current: BTreeSet<LabelSet> = groups.iter().flat_map(|group| group.series()).collect();
    let offset_ms = gone.spec.query_offset_ns.div_euclid(NS_PER_MS);
    let rows = gone.series().difference(&current).map(|labels| (labels.clone(), STALE)).collect();
    if let Err(error) = context.write(rows, ended_at_ms - offset_ms).await {
        tracing::warn!(error = %error.why, group = %gone.spec.name, "series of a group that has gone are not ended");
    }
}
