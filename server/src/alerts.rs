//! Telling people of alerts: webhooks and Alertmanagers that `CREATE ALERT … NOTIFY` names.
//!
//! ```text
//!  notices of the store ─► a task a target: oldest first ─► POST ─┬─ taken: forgotten
//!        ▲                                                         ├─ busy, away, 408, 429, 5xx: again, with pauses of 250 ms to 30 s
//!        └──────────── until it is taken or given up ──────────────┴─ refused, or a day old: kept as given up, `sys.notifications`
//!  firing alerts ─► every `resend_delay` to their Alertmanagers, which forget what they do not hear of
//! ```
//! A notice outlives this process: what was sent and not known to be taken is sent again under the same idempotency key. A target that
//! hangs holds up nobody but itself.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foretell_engine::LabelSet;
use foretell_engine::clock::{Clock as _, SystemClock};
use foretell_query::{ActiveAlert, Database, Notice, Target};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use ureq::Agent;

use crate::rules::{
    Refused, Settings, Template, TemplateData, TemplateFault, agent, alertmanager_json, alertmanager_url, post,
};
use crate::timestamp::rfc3339;

/// Pauses between attempts.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A notice that nobody has taken for so long is given up, ns.
const GIVE_UP_NS: i64 = 24 * 60 * 60 * 1_000_000_000;
/// Notices of one request to an Alertmanager.
const BATCH_MAX: usize = 64;
/// How long the end of the server waits for requests on their way.
const CLOSE_MAX: Duration = Duration::from_secs(5);
/// How long a target that nobody is to be told at keeps its task.
const IDLE: Duration = Duration::from_secs(60);

/// What has been told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) taken: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// Delivers notices until it is closed.
pub(crate) struct Deliverer {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    database: Arc<Database>,
    settings: Settings,
    agent: Agent,
    told: Arc<Told>,
    stop: CancellationToken,
}

impl Deliverer {
    /// Starts.
    pub(crate) fn start(database: Arc<Database>, settings: Settings, told: Arc<Told>) -> Self {
        let agent = agent(settings.timeout());
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared { database, settings, agent, told, stop });
        let task = Mutex::new(Some(tokio::spawn(run(Arc::clone(&shared)))));
        Self { shared, task }
    }

    /// Ends; what has not been taken is told after the next start.
    pub(crate) async fn close(&self) {
        self.shared.stop.cancel();
        let task = self.task.lock().take();
        if let Some(task) = task
            && tokio::time::timeout(CLOSE_MAX, task).await.is_err()
        {
            tracing::warn!("somebody who is told of alerts takes too long: it is told again after the next start");
        }
    }
}

/// Keeps a task for each target with notices.
async fn run(shared: Arc<Shared>) {
    let told = shared.database.notices_told();
    let mut targets: HashMap<Target, (JoinHandle<()>, Arc<tokio::sync::Notify>)> = HashMap::new();
    let mut resent = tokio::time::Instant::now();
    loop {
        let new = told.notified();
        targets.retain(|_, (task, _)| !task.is_finished());
        for target in shared.database.notice_targets() {
            let (_, wake) = targets.entry(target.clone()).or_insert_with(|| {
                let wake = Arc::new(tokio::sync::Notify::new());
                (tokio::spawn(deliver(Arc::clone(&shared), target, Arc::clone(&wake))), wake)
            });
            wake.notify_one();
        }
        if resent.elapsed() >= shared.settings.resend() {
            resent = tokio::time::Instant::now();
            resend(&shared);
        }
        tokio::select! {
            () = shared.stop.cancelled() => break,
            () = new => {}
            () = tokio::time::sleep(shared.settings.resend().min(Duration::from_secs(1))) => {}
        }
    }
    for (task, _) in targets.into_values() {
        let _ = task.await;
    }
}

/// Tells Alertmanagers again of what fires. Nothing is lost if one does not listen: it is told again.
fn resend(shared: &Arc<Shared>) {
    let mut firing: BTreeMap<Target, Vec<String>> = BTreeMap::new();
    for alert in shared.database.active_alerts().iter().filter(|alert| alert.fired_at.is_some() && !alert.silenced) {
        for target in alert.notify.iter().filter(|target| matches!(target, Target::Alertmanager(_))) {
            firing.entry(target.clone()).or_default().push(shared.of_active(alert));
        }
    }
    for (target, alerts) in firing {
        let shared = Arc::clone(shared);
        tokio::task::spawn_blocking(move || {
            for batch in alerts.chunks(BATCH_MAX) {
                if let Err(refused) = shared.post(&target, &format!("[{}]", batch.join(",")), None) {
                    tracing::warn!(url = target.url(), error = refused.message, "an Alertmanager is not told again");
                    return;
                }
            }
        });
    }
}

/// Delivers the notices of one target, oldest first, until there have been none for a while.
async fn deliver(shared: Arc<Shared>, target: Target, wake: Arc<tokio::sync::Notify>) {
    let mut pause = PAUSE_MIN;
    loop {
        if shared.stop.is_cancelled() {
            return;
        }
        let at_once = if matches!(target, Target::Alertmanager(_)) { BATCH_MAX } else { 1 };
        let notices = shared.database.notices_for(&target, at_once);
        if notices.is_empty() {
            tokio::select! {
                () = shared.stop.cancelled() => return,
                () = wake.notified() => continue,
                () = tokio::time::sleep(IDLE) => return,
            }
        }
        let (sender, sent) = (Arc::clone(&shared), notices.clone());
        let posted = tokio::task::spawn_blocking(move || sender.send(&sent)).await;
        let posted = posted.unwrap_or_else(|error| Err(Refused { message: error.to_string(), again: true }));
        let outcome = match posted {
            Ok(()) => {
                shared.told.taken.fetch_add(notices.len() as u64, Ordering::Relaxed);
                pause = PAUSE_MIN;
                let seqs: Vec<u64> = notices.iter().map(|notice| notice.seq).collect();
                shared.database.notices_taken(&seqs).await
            }
            Err(refused) => {
                shared.told.failed.fetch_add(notices.len() as u64, Ordering::Relaxed);
                let oldest = notices.iter().map(|notice| notice.made_at).min().unwrap_or_default();
                let too_old = SystemClock.now_ns().saturating_sub(oldest) > GIVE_UP_NS;
                if !refused.again || too_old {
                    tracing::warn!(url = target.url(), error = refused.message, "a notice of an alert is given up");
                    give_up(&shared, &notices, &refused.message).await
                } else {
                    if pause == PAUSE_MIN {
                        tracing::warn!(
                            url = target.url(),
                            error = refused.message,
                            "a notice is not taken; trying again"
                        );
                    }
                    tokio::select! {
                        () = shared.stop.cancelled() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                    Ok(())
                }
            }
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, "what became of a notice could not be stored: it is told again");
            tokio::time::sleep(PAUSE_MIN).await;
        }
    }
}

async fn give_up(shared: &Shared, notices: &[Arc<Notice>], why: &str) -> foretell_query::Result<()> {
    for notice in notices {
        shared.database.notice_given_up(notice.seq, why).await?;
    }
    Ok(())
}

impl Shared {
    /// Sends notices of one target.
    fn send(&self, notices: &[Arc<Notice>]) -> Result<(), Refused> {
        let Some(first) = notices.first() else { return Ok(()) };
        match &first.target {
            Target::Webhook(_) => self.post(&first.target, &self.webhook(first), Some(&first.idempotency_key())),
            Target::Alertmanager(_) => {
                let alerts: Vec<String> = notices.iter().map(|notice| self.of_notice(notice)).collect();
                self.post(&first.target, &format!("[{}]", alerts.join(",")), None)
            }
        }
    }

    fn post(&self, target: &Target, body: &str, key: Option<&str>) -> Result<(), Refused> {
        let url = match target {
            Target::Webhook(url) => url.clone(),
            Target::Alertmanager(url) => alertmanager_url(url),
        };
        let key = key.map(|key| ("Idempotency-Key", key));
        post(&self.agent, &url, key.as_slice(), body)
    }

    /// What a webhook is told.
    fn webhook(&self, notice: &Notice) -> String {
        let (labels, annotations) = self.of_texts(notice);
        let value =
            if notice.value.is_finite() { serde_json::json!(notice.value) } else { notice.value.to_string().into() };
        serde_json::json!({
            "version": "1",
            "status": if notice.firing { "firing" } else { "resolved" },
            "alert": notice.alert,
            "labels": labels,
            "annotations": annotations,
            "value": value,
            "startsAt": rfc3339(notice.starts_at),
            "endsAt": notice.ends_at.map(rfc3339),
            "externalURL": self.settings.external_url(),
            "idempotencyKey": notice.idempotency_key(),
        })
        .to_string()
    }

    fn of_texts(&self, notice: &Notice) -> (Texts, Texts) {
        let pairs = (notice.labels.as_slice(), notice.annotations.as_slice());
        texts(&self.settings, &notice.alert, pairs, &notice.of, notice.value)
    }

    /// A notice as Alertmanager takes it.
    fn of_notice(&self, notice: &Notice) -> String {
        let (labels, annotations) = self.of_texts(notice);
        self.alertmanager(labels, annotations, notice.starts_at, notice.ends_at)
    }

    /// A firing alert as Alertmanager takes it.
    fn of_active(&self, alert: &ActiveAlert) -> String {
        let pairs = (alert.labels.as_slice(), alert.annotations.as_slice());
        let (labels, annotations) = texts(&self.settings, &alert.alert, pairs, &alert.of, alert.value);
        self.alertmanager(labels, annotations, alert.fired_at.unwrap_or(alert.active_at), None)
    }

    fn alertmanager(&self, labels: Texts, annotations: Texts, starts_at: i64, ended: Option<i64>) -> String {
        let now = SystemClock.now_ns();
        // Who is not told again within four resends may believe that it has ended.
        let resend = i64::try_from(self.settings.resend().as_nanos()).unwrap_or(i64::MAX);
        let ends_at = ended.map_or(now.saturating_add(resend.saturating_mul(4)), |at| at.max(starts_at));
        let mut all = self.settings.external_labels().clone();
        all.extend(labels);
        alertmanager_json(&all, &annotations, (starts_at, ends_at), self.settings.external_url())
    }
}

type Texts = BTreeMap<String, String>;
type Pairs = [(String, String)];

/// Labels and annotations of an alert with their templates expanded.
pub(crate) fn texts(
    settings: &Settings,
    alert: &str,
    (labels, annotations): (&Pairs, &Pairs),
    of: &LabelSet,
    value: f64,
) -> (Texts, Texts) {
    let known: Texts = of.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let expand = |pairs: &[(String, String)]| -> Texts {
        let one = |(name, text): &(String, String)| (name.clone(), expand(settings, alert, text, &known, value));
        pairs.iter().map(one).filter(|(_, text)| !text.is_empty()).collect()
    };
    (expand(labels), expand(annotations))
}

fn expand(settings: &Settings, alert: &str, text: &str, labels: &Texts, value: f64) -> String {
    if !text.contains("{{") {
        return text.to_owned();
    }
    let data = TemplateData {
        name: alert,
        labels,
        external_labels: settings.external_labels(),
        external_url: settings.external_url(),
        value,
        now_ms: SystemClock.now_ns().div_euclid(1_000_000),
        queries_max: 0,
        answers: &BTreeMap::new(),
    };
    let template = match Template::parse(text) {
        Ok(template) => template,
        Err(why) => return format!("<error expanding template: {why}>"),
    };
    match template.expand(&data) {
        Ok(text) | Err(TemplateFault::Failed(text)) => text,
        Err(TemplateFault::Needs(query)) => {
            format!("<error expanding template: alerts of CREATE ALERT have no queries, and this one asks {query:?}>")
        }
    }
}
