//! What is stored of alerts.
//!
//! ```text
//!  alert/def/<name>      Definition
//!  alert/state/<name>    Watched: how far the data has been looked at, and what is pending or firing
//!  alert/out/<seq BE>    Notice that has not been delivered
//!  alert/dead/<seq BE>   Notice that was given up
//!  alert/next            the number of the next notice, 8 bytes, big-endian
//! ```
//! What an evaluation changes is one record: state, notices, and samples of `ALERTS`.
use std::fmt;

use foretell_engine::{LabelSet, Lsn};
use xxhash_rust::xxh3::xxh3_128;

use super::machine::{Active, Alerts, Policy};
use crate::codec::{Decoder, Encoder};
use crate::duration;
use crate::error::{Error, Result};
use crate::statement::Properties;

/// An alert as the user wrote it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Definition {
    /// Its name.
    pub(crate) name: String,
    /// What it watches.
    pub(crate) on: On,
    /// How often a SELECT or an expression is asked, ns.
    pub(crate) every_ns: i64,
    /// `FOR`, ns.
    pub(crate) hold_ns: i64,
    /// `KEEP FIRING FOR`, ns.
    pub(crate) keep_ns: i64,
    /// Labels that are added, templates.
    pub(crate) labels: Vec<(String, String)>,
    /// What is told besides, templates.
    pub(crate) annotations: Vec<(String, String)>,
    /// Who is told.
    pub(crate) notify: Vec<Target>,
    /// The whole statement.
    pub(crate) statement: String,
}

impl Definition {
    /// The detector that it watches, and the condition over its rows.
    pub(super) fn detector(&self) -> Option<(&str, &str)> {
        match &self.on {
            On::Detector { name, condition } => Some((name, condition)),
            _ => None,
        }
    }

    /// What makes it another one than one of the same name.
    pub(super) fn properties(&self) -> Properties {
        let pairs = |pairs: &[(String, String)]| {
            let pairs: Vec<String> = pairs.iter().map(|(name, text)| format!("{name} = {text:?}")).collect();
            pairs.join(", ")
        };
        let targets: Vec<String> = self.notify.iter().map(|to| format!("{} {}", to.kind(), to.url())).collect();
        vec![
            ("on", self.on.to_string().split_whitespace().collect::<Vec<_>>().join(" ")),
            ("every", duration::format(self.every_ns)),
            ("for", duration::format(self.hold_ns)),
            ("keep firing for", duration::format(self.keep_ns)),
            ("labels", pairs(&self.labels)),
            ("annotations", pairs(&self.annotations)),
            ("notify", targets.join(", ")),
        ]
    }
}

/// What an alert watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// The rows of a detector for which a condition holds.
    Detector {
        /// Its name.
        name: String,
        /// SQL over the columns of its table.
        condition: String,
    },
    /// Rows of a SELECT: each is an alert, its texts are labels, its first number the value.
    Select(String),
    /// Series of a PromQL expression.
    Promql(String),
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Detector { name, condition } => write!(f, "detector {name} where {condition}"),
            Self::Select(sql) => write!(f, "({sql})"),
            Self::Promql(expr) => write!(f, "promql {expr}"),
        }
    }
}

/// Who is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A POST of JSON.
    Webhook(String),
    /// Alertmanager's API, version 2.
    Alertmanager(String),
}

impl Target {
    /// As statements write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Alertmanager(_) => "alertmanager",
        }
    }
    /// Where it is.
    pub fn url(&self) -> &str {
        match self {
            Self::Webhook(url) | Self::Alertmanager(url) => url,
        }
    }
    fn encode(&self, out: &mut Encoder) {
        out.flag(matches!(self, Self::Alertmanager(_))).text(self.url());
    }
    fn decode(from: &mut Decoder<'_>) -> Result<Self> {
        let alertmanager = from.flag()?;
        let url = from.text()?.to_owned();
        Ok(if alertmanager { Self::Alertmanager(url) } else { Self::Webhook(url) })
    }
}

impl Definition {
    const VERSION: u8 = 1;

    pub(super) fn policy(&self) -> Policy {
        Policy { hold_ns: self.hold_ns, keep_ns: self.keep_ns }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(Self::VERSION);
        out.text(&self.name);
        match &self.on {
            On::Detector { name, condition } => out.unsigned(0).text(name).text(condition),
            On::Select(sql) => out.unsigned(1).text(sql),
            On::Promql(expr) => out.unsigned(2).text(expr),
        };
        out.signed(self.every_ns).signed(self.hold_ns).signed(self.keep_ns);
        for pairs in [&self.labels, &self.annotations] {
            encode_pairs(&mut out, pairs);
        }
        out.unsigned(self.notify.len() as u64);
        for target in &self.notify {
            target.encode(&mut out);
        }
        out.text(&self.statement);
        out.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut from = Decoder::new("definition of an alert", bytes, Self::VERSION)?;
        let name = from.text()?.to_owned();
        let on = match from.unsigned()? {
            0 => On::Detector { name: from.text()?.to_owned(), condition: from.text()?.to_owned() },
            1 => On::Select(from.text()?.to_owned()),
            2 => On::Promql(from.text()?.to_owned()),
            other => return Err(Error::internal(format!("alert {name} watches something unknown ({other})"))),
        };
        let (every_ns, hold_ns, keep_ns) = (from.signed()?, from.signed()?, from.signed()?);
        let (labels, annotations) = (decode_pairs(&mut from)?, decode_pairs(&mut from)?);
        let notify = (0..from.count()?).map(|_| Target::decode(&mut from)).collect::<Result<_>>()?;
        let statement = from.text()?.to_owned();
        from.end()?;
        Ok(Self { name, on, every_ns, hold_ns, keep_ns, labels, annotations, notify, statement })
    }
}

fn encode_pairs(out: &mut Encoder, pairs: &[(String, String)]) {
    out.unsigned(pairs.len() as u64);
    for (name, value) in pairs {
        out.text(name).text(value);
    }
}

fn decode_pairs(from: &mut Decoder<'_>) -> Result<Vec<(String, String)>> {
    (0..from.count()?).map(|_| Ok((from.text()?.to_owned(), from.text()?.to_owned()))).collect()
}

fn labels(from: &mut Decoder<'_>) -> Result<LabelSet> {
    LabelSet::from_bytes(from.bytes()?).map_err(|e| Error::from_engine(&e))
}

/// How far an alert has come.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Watched {
    /// Every commit up to here has been looked at.
    pub(super) position: Lsn,
    /// The newest row, or the last instant at which something was asked, ns.
    pub(super) newest_at: i64,
    /// What is pending or firing.
    pub(super) alerts: Alerts,
}

impl Watched {
    const VERSION: u8 = 1;

    pub(super) fn new(position: Lsn) -> Self {
        Self { position, newest_at: i64::MIN, alerts: Alerts::new() }
    }
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(Self::VERSION);
        out.unsigned(self.position.0).signed(self.newest_at).unsigned(self.alerts.len() as u64);
        let instant = |out: &mut Encoder, at: i64| {
            out.signed(at);
        };
        for (labels, alert) in &self.alerts {
            out.bytes(labels.as_bytes()).signed(alert.active_at).option(alert.fired_at, instant);
            out.option(alert.gone_at, instant).signed(alert.last_at).double(alert.value);
        }
        out.finish()
    }
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut from = Decoder::new("state of an alert", bytes, Self::VERSION)?;
        let mut watched = Self::new(Lsn(from.unsigned()?));
        watched.newest_at = from.signed()?;
        for _ in 0..from.count()? {
            let labels = labels(&mut from)?;
            let alert = Active {
                active_at: from.signed()?,
                fired_at: from.option(Decoder::signed)?,
                gone_at: from.option(Decoder::signed)?,
                last_at: from.signed()?,
                value: from.double()?,
            };
            watched.alerts.insert(labels, alert);
        }
        from.end()?;
        Ok(watched)
    }
}

/// What is to be told to somebody: an alert fires, or has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Its number; notices of a target are delivered in this order.
    pub seq: u64,
    /// The alert.
    pub alert: String,
    /// Who is told.
    pub target: Target,
    /// Labels, `alertname` included; the values of added ones are templates.
    pub labels: Vec<(String, String)>,
    /// Templates.
    pub annotations: Vec<(String, String)>,
    /// Labels that templates know.
    pub of: LabelSet,
    /// Whether it fires; it has ended otherwise.
    pub firing: bool,
    /// The value when the condition held last.
    pub value: f64,
    /// Since when it fires, ns.
    pub starts_at: i64,
    /// When it ended, ns.
    pub ends_at: Option<i64>,
    /// When it was made, ns: how long somebody has not taken it.
    pub made_at: i64,
    /// Why it was given up.
    pub error: Option<String>,
}

impl Notice {
    const VERSION: u8 = 1;

    /// The same for every attempt to deliver this, and for no other notice.
    pub fn idempotency_key(&self) -> String {
        let mut of = Encoder::new(Self::VERSION);
        of.text(&self.alert);
        encode_pairs(&mut of, &self.labels);
        of.bytes(self.of.as_bytes()).flag(self.firing).signed(self.starts_at).signed(self.ends_at.unwrap_or_default());
        format!("{:032x}", xxh3_128(&of.finish()))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(Self::VERSION);
        out.unsigned(self.seq).text(&self.alert);
        self.target.encode(&mut out);
        for pairs in [&self.labels, &self.annotations] {
            encode_pairs(&mut out, pairs);
        }
        out.bytes(self.of.as_bytes()).flag(self.firing).double(self.value).signed(self.starts_at);
        out.option(self.ends_at, |out, at| {
            out.signed(at);
        });
        out.signed(self.made_at).option(self.error.as_deref(), |out, error| {
            out.text(error);
        });
        out.finish()
    }
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut from = Decoder::new("notice of an alert", bytes, Self::VERSION)?;
        let notice = Self {
            seq: from.unsigned()?,
            alert: from.text()?.to_owned(),
            target: Target::decode(&mut from)?,
            labels: decode_pairs(&mut from)?,
            annotations: decode_pairs(&mut from)?,
            of: labels(&mut from)?,
            firing: from.flag()?,
            value: from.double()?,
            starts_at: from.signed()?,
            ends_at: from.option(Decoder::signed)?,
            made_at: from.signed()?,
            error: from.option(|from| from.text().map(str::to_owned))?,
        };
        from.end()?;
        Ok(notice)
    }
}

/// Prefix of every definition.
pub(super) const DEFINITIONS: &[u8] = b"alert/def/";
/// Prefix of what is to be delivered.
pub(super) const OUTBOX: &[u8] = b"alert/out/";
/// The number of the next notice.
pub(super) const NEXT: &[u8] = b"alert/next";
/// Prefix of what was given up.
pub(super) const DEAD: &[u8] = b"alert/dead/";

pub(super) fn definition_key(name: &str) -> Vec<u8> {
    [DEFINITIONS, name.as_bytes()].concat()
}
pub(super) fn state_key(name: &str) -> Vec<u8> {
    [b"alert/state/", name.as_bytes()].concat()
}
pub(super) fn notice_key(prefix: &[u8], seq: u64) -> Vec<u8> {
    [prefix, &seq.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_stored_reads_back_and_no_prefix_does() {
        let labels = LabelSet::from_pairs([("host", "a")]).unwrap();
        let pairs = vec![("severity".to_owned(), "page".to_owned())];
        let targets = vec![Target::Webhook("http://a".into()), Target::Alertmanager("http://b".into())];
        for on in [
            On::Detector { name: "d".into(), condition: "score > 1".into() },
            On::Select("SELECT 1".into()),
            On::Promql("up == 0".into()),
        ] {
            let definition = Definition {
                name: "n".into(),
                on,
                every_ns: 1,
                hold_ns: 2,
                keep_ns: 3,
                labels: pairs.clone(),
                annotations: pairs.clone(),
                notify: targets.clone(),
                statement: "CREATE ALERT".into(),
            };
            let bytes = definition.encode();
            assert_eq!(Definition::decode(&bytes).unwrap(), definition);
            assert!((0..bytes.len()).all(|length| Definition::decode(&bytes[..length]).is_err()));
        }
        let mut watched = Watched::new(Lsn(7));
        let active = Active { active_at: -1, fired_at: Some(2), gone_at: None, last_at: 3, value: 0.5 };
        watched.alerts.insert(labels.clone(), active);
        let bytes = watched.encode();
        assert_eq!(Watched::decode(&bytes).unwrap(), watched);
        assert!((0..bytes.len()).all(|length| Watched::decode(&bytes[..length]).is_err()));
        let notice = Notice {
            seq: 9,
            alert: "n".into(),
            target: targets[1].clone(),
            labels: pairs.clone(),
            annotations: pairs,
            of: labels,
            firing: true,
            value: 2.0,
            starts_at: 5,
            ends_at: Some(6),
            made_at: 7,
            error: Some("gone".into()),
        };
        let bytes = notice.encode();
        assert_eq!(Notice::decode(&bytes).unwrap(), notice);
        assert!((0..bytes.len()).all(|length| Notice::decode(&bytes[..length]).is_err()));
    }

    #[test]
    fn the_idempotency_key_tells_changes_apart_and_not_attempts() {
        let labels = LabelSet::from_pairs([("host", "a")]).unwrap();
        let notice = Notice {
            seq: 1,
            alert: "n".into(),
            target: Target::Webhook("http://a".into()),
            labels: Vec::new(),
            annotations: Vec::new(),
            of: labels,
            firing: true,
            value: 1.0,
            starts_at: 5,
            ends_at: None,
            made_at: 1,
            error: None,
        };
        let again = Notice { seq: 2, made_at: 9, value: 3.0, ..notice.clone() };
        assert_eq!(notice.idempotency_key(), again.idempotency_key());
        let others = [
            Notice { firing: false, ends_at: Some(8), ..notice.clone() },
            Notice { starts_at: 6, ..notice.clone() },
            Notice { of: LabelSet::from_pairs([("host", "b")]).unwrap(), ..notice.clone() },
        ];
        assert!(others.iter().all(|other| other.idempotency_key() != notice.idempotency_key()));
    }
}
