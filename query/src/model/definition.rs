//! What is stored of a model.
//!
//! Keys of the engine's keyed state, all values of [`crate::codec`]:
//!
//! ```text
//!  model/def/<name>                        Definition
//!  model/ver/<name>\0<version BE>          Version
//!  model/det/<name>\0<version BE><key>     the trained detector of a key (foretell_ml)
//!  model/log/<name>                        Journal: which version scores from when on
//!  model/anomaly/<id BE>                   Anomaly
//! ```
//! A version is there once its `model/ver` record is, which is written after its detectors.
use std::str::FromStr;

use foretell_engine::Lsn;
use foretell_ml::detect::Method;
use foretell_ml::health::Health;

use crate::codec::{Decoder, Encoder};
use crate::error::{Error, Result};

/// How long a row waits for late ones of its time when the statement does not say, ns.
pub(super) const WATERMARK_NS_DEFAULT: i64 = 60_000_000_000;

/// A model as the user wrote it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Definition {
    pub(crate) name: String,
    /// The SELECT whose rows are learnt and scored.
    pub(crate) sql: String,
    /// Columns that tell series apart.
    pub(crate) keys: Vec<String>,
    pub(crate) time: String,
    pub(crate) value: String,
    pub(crate) method: Method,
    /// Found from the data when `None`.
    pub(crate) season_ns: Option<i64>,
    pub(crate) seed: u64,
    /// How much of the newest data is learnt; all of it when `None`.
    pub(crate) last_ns: Option<i64>,
    /// Rows are learnt and watched when they are so much older than the newest.
    pub(crate) watermark_ns: i64,
    /// A new version is trained when the rows are so much newer than the last one's.
    pub(crate) retrain_ns: Option<i64>,
    /// Whether a sound challenger becomes the champion by itself.
    pub(crate) promotes: bool,
    /// Whether a bad champion makes way for the one before it by itself.
    pub(crate) rolls_back: bool,
}

/// A trained version.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Version {
    pub(super) number: u32,
    /// Wall clock, ns.
    pub(super) trained_at: i64,
    /// The commit that it saw.
    pub(super) position: Lsn,
    /// Times of the first and the last row learnt, ns.
    pub(super) first_ts: i64,
    pub(super) last_ts: i64,
    pub(super) rows: u64,
    pub(super) keys: u64,
    /// Of all detectors.
    pub(super) bytes: u64,
    /// Of code, options and detectors.
    pub(super) hash: u128,
    /// Version of Foretell.
    pub(super) code: String,
    /// How it did in training, each row scored before it was learnt.
    pub(super) training: Health,
}

/// In the place of a version that is not kept any more.
pub(super) const FORGOTTEN: u32 = 0;

/// Who scores from when on. A version is [`FORGOTTEN`] when it is not kept: what it would say is not known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Phase {
    /// First time, ns.
    pub(super) from: i64,
    pub(super) champion: u32,
    /// The champion before, from its trained state on, for comparison.
    pub(super) fallback: Option<u32>,
    /// A newer version, for comparison.
    pub(super) challenger: Option<u32>,
    /// Scores above it are anomalies.
    pub(super) boundary: f64,
    /// Why it began.
    pub(super) reason: Reason,
    /// Wall clock, ns.
    pub(super) at: i64,
}

/// Why a phase began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Created,
    Retrained,
    Promoted,
    PromotedByRule,
    RejectedByRule,
    RolledBack,
    RolledBackByRule,
    Labelled,
}

/// All phases, in the order of time. A phase has a number, from 0 on, which stays when older ones are forgotten.
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct Journal {
    pub(super) phases: Vec<Phase>,
    /// Phases before the first that are not kept any more.
    pub(super) forgotten: u64,
    /// Rows up to here were watched, ns.
    pub(super) watched_to: i64,
}

/// A row that the champion found anomalous.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Anomaly {
    pub(super) id: u64,
    pub(super) model: String,
    pub(super) version: u32,
    pub(super) key: Vec<Option<String>>,
    pub(super) ts: i64,
    pub(super) value: f64,
    pub(super) score: f64,
    pub(super) expected: Option<f64>,
    pub(super) lo: Option<f64>,
    pub(super) hi: Option<f64>,
    pub(super) label: Option<Label>,
}

/// What somebody says of an anomaly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    /// It was nothing.
    FalsePositive,
    /// It was something.
    TruePositive,
}

impl Label {
    /// As users write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FalsePositive => "false_positive",
            Self::TruePositive => "true_positive",
        }
    }
}

impl FromStr for Label {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        [Self::FalsePositive, Self::TruePositive]
            .into_iter()
            .find(|label| label.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                let text = text.escape_default();
                Error::invalid(format!("unknown label '{text}': known are 'false_positive' and 'true_positive'"))
            })
    }
}

impl Reason {
    const ALL: [Self; 8] = [
        Self::Created,
        Self::Retrained,
        Self::Promoted,
        Self::PromotedByRule,
        Self::RejectedByRule,
        Self::RolledBack,
        Self::RolledBackByRule,
        Self::Labelled,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Retrained => "retrained",
            Self::Promoted => "promoted",
            Self::PromotedByRule => "promoted by rule",
            Self::RejectedByRule => "rejected by rule",
            Self::RolledBack => "rolled back",
            Self::RolledBackByRule => "rolled back by rule",
            Self::Labelled => "labelled",
        }
    }
}

pub(super) fn small(value: u64) -> Result<u32> {
    u32::try_from(value).map_err(|_| damaged("a number of a version is too large"))
}

pub(super) fn damaged(how: &str) -> Error {
    Error::internal(format!("what is stored of a model is damaged: {how}"))
}

impl Definition {
    const VERSION: u8 = 1;

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(Self::VERSION);
        out.text(&self.name).text(&self.sql).unsigned(self.keys.len() as u64);
        for key in &self.keys {
            out.text(key);
        }
        out.text(&self.time).text(&self.value).text(self.method.name()).unsigned(self.seed).signed(self.watermark_ns);
        for value in [self.season_ns, self.last_ns, self.retrain_ns] {
            out.option(value, |out, ns| {
                out.signed(ns);
            });
        }
        out.flag(self.promotes).flag(self.rolls_back);
        out.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut from = Decoder::new("definition of a model", bytes, Self::VERSION)?;
        let (name, sql) = (from.text()?.to_owned(), from.text()?.to_owned());
        let keys = (0..from.count()?).map(|_| Ok(from.text()?.to_owned())).collect::<Result<_>>()?;
        let (time, value) = (from.text()?.to_owned(), from.text()?.to_owned());
        let method = from.text()?.parse().map_err(|_| damaged("its method is unknown"))?;
        let (seed, watermark_ns) = (from.unsigned()?, from.signed()?);
        let mut ns = || from.option(Decoder::signed);
        let (season_ns, last_ns, retrain_ns) = (ns()?, ns()?, ns()?);
        let (promotes, rolls_back) = (from.flag()?, from.flag()?);
        from.end()?;
        Ok(Self {
            name,
            sql,
            keys,
            time,
            value,
            method,
            season_ns,
            seed,
            last_ns,
            watermark_ns,
            retrain_ns,
            promotes,
            rolls_back,
        })
    }
}

impl Version {
    const VERSION: u8 = 1;

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(Self::VERSION);
        out.unsigned(self.number.into()).signed(self.trained_at).unsigned(self.position.0);
        out.signed(self.first_ts).signed(self.last_ts).unsigned(self.rows).unsigned(self.keys).unsigned(self.bytes);
        out.bytes(&self.hash.to_le_bytes()).text(&self.code);
        let mut training = Vec::new();
        self.training.save(&mut training);
        out.bytes(&training);
        out.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut from = Decoder::new("version of a model", bytes, Self::VERSION)?;
        let version = Self {
            number: small(from.unsigned()?)?,
            trained_at: from.signed()?,
            position: Lsn(from.unsigned()?),
            first_ts: from.signed()?,
            last_ts: from.signed()?,
            rows: from.unsigned()?,
            keys: from.unsigned()?,
            bytes: from.unsigned()?,
            hash: u128::from_le_bytes(from.bytes()?.try_into().map_err(|_| damaged("a hash has not 16 bytes"))?),
            code: from.text()?.to_owned(),
            training: Health::load(from.bytes()?).map_err(|error| damaged(&error.to_string()))?,
        };
        from.end()?;
        Ok(version)
    }
}

impl Phase {
    /// Whether both say the same, as far as they know.
    fn agrees(&self, other: &Self) -> bool {
        let roles = |phase: &Self| [Some(phase.champion), phase.fallback, phase.challenger];
        let agree = |(own, other)| own == other || [own, other].contains(&Some(FORGOTTEN));
        self.from == other.from
            && self.boundary.to_bits() == other.boundary.to_bits()
            && roles(self).into_iter().zip(roles(other)).all(agree)
    }

    /// Without versions of `old`.
    fn without(&self, old: &[u32]) -> Self {
        let kept = |version: u32| if old.contains(&version) { FORGOTTEN } else { version };
        Self {
            champion: kept(self.champion),
            fallback: self.fallback.map(kept),
            challenger: self.challenger.map(kept),
            ..self.clone()
        }
    }
}

impl Journal {
    const VERSION: u8 = 2;

    /// Without versions of `old`, and without what only they have judged: phases from where the first version that is kept begins.
    /// At most `most` phases.
    pub(super) fn without(&self, old: &[u32], most: usize) -> Self {
        let without = Self { phases: self.phases.iter().map(|phase| phase.without(old)).collect(), ..self.clone() };
        let known = (0..without.phases.len()).filter(|&place| without.phases[place].champion != FORGOTTEN);
        let first = known.map(|place| without.origin(place)).min().unwrap_or(without.phases.len());
        let first = first.max(without.phases.len().saturating_sub(most));
        Self {
            phases: without.phases[first..].to_vec(),
            forgotten: self.forgotten + first as u64,
            watched_to: self.watched_to,
        }
    }

    /// From when on `next` has rows judged otherwise; `None` when it does not. Phases and versions that one of the two has forgotten do
    /// not count.
    pub(crate) fn differs_from(&self, next: &Self) -> Option<i64> {
        let known = self.forgotten.max(next.forgotten);
        let since = |journal: &Self| {
            let skipped = usize::try_from(known - journal.forgotten).unwrap_or(usize::MAX);
            journal.phases.iter().skip(skipped).cloned().collect::<Vec<_>>()
        };
        let (mine, theirs) = (since(self), since(next));
        let same = mine.iter().zip(&theirs).take_while(|(mine, theirs)| mine.agrees(theirs)).count();
        [mine.get(same), theirs.get(same)].into_iter().flatten().map(|phase| phase.from).min()
    }

    /// The phase that `ts` lies in, and its place; `None` before the first.
    pub(super) fn at(&self, ts: i64) -> Option<(usize, &Phase)> {
        let place = self.phases.partition_point(|phase| phase.from <= ts).checked_sub(1)?;
        Some((place, &self.phases[place]))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(Self::VERSION);
        out.signed(self.watched_to).unsigned(self.forgotten).unsigned(self.phases.len() as u64);
        for phase in &self.phases {
            out.signed(phase.from).unsigned(phase.champion.into());
            for version in [phase.fallback, phase.challenger] {
                out.option(version, |out, version| {
                    out.unsigned(version.into());
                });
            }
            out.double(phase.boundary).unsigned(phase.reason as u64).signed(phase.at);
        }
        out.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        // The first version did not count what is forgotten.
        let first = bytes.first() == Some(&1);
        let mut from = Decoder::new("journal of a model", bytes, if first { 1 } else { Self::VERSION })?;
        let watched_to = from.signed()?;
        let forgotten = if first { 0 } else { from.unsigned()? };
        let mut phases = Vec::new();
        for _ in 0..from.count()? {
            phases.push(Phase {
                from: from.signed()?,
                champion: small(from.unsigned()?)?,
                fallback: from.option(|from| small(from.unsigned()?))?,
                challenger: from.option(|from| small(from.unsigned()?))?,
                boundary: from.double()?,
                reason: usize::try_from(from.unsigned()?)
                    .ok()
                    .and_then(|place| Reason::ALL.get(place).copied())
                    .ok_or_else(|| damaged("a reason is unknown"))?,
                at: from.signed()?,
            });
        }
        from.end()?;
        Ok(Self { phases, forgotten, watched_to })
    }
}

impl Anomaly {
    const VERSION: u8 = 1;

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(Self::VERSION);
        out.unsigned(self.id).text(&self.model).unsigned(self.version.into());
        out.bytes(&encode_key(&self.key)).signed(self.ts).double(self.value).double(self.score);
        for value in [self.expected, self.lo, self.hi] {
            out.option(value, |out, value| {
                out.double(value);
            });
        }
        out.unsigned(match self.label {
            None => 0,
            Some(Label::FalsePositive) => 1,
            Some(Label::TruePositive) => 2,
        });
        out.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut from = Decoder::new("anomaly", bytes, Self::VERSION)?;
        let (id, model, version) = (from.unsigned()?, from.text()?.to_owned(), small(from.unsigned()?)?);
        let (key, ts) = (decode_key(from.bytes()?)?, from.signed()?);
        let (value, score) = (from.double()?, from.double()?);
        let mut number = || from.option(Decoder::double);
        let (expected, lo, hi) = (number()?, number()?, number()?);
        let label = match from.unsigned()? {
            0 => None,
            1 => Some(Label::FalsePositive),
            2 => Some(Label::TruePositive),
            _ => return Err(damaged("a label is unknown")),
        };
        from.end()?;
        Ok(Self { id, model, version, key, ts, value, score, expected, lo, hi, label })
    }
}

/// Values of the key columns as bytes, in an order of their own.
pub(super) fn encode_key(key: &[Option<String>]) -> Vec<u8> {
    let mut out = Encoder::new(1);
    for value in key {
        out.option(value.as_deref(), |out, value| {
            out.text(value);
        });
    }
    out.finish()
}

fn decode_key(bytes: &[u8]) -> Result<Vec<Option<String>>> {
    let mut from = Decoder::new("key of an anomaly", bytes, 1)?;
    let mut key = Vec::new();
    while !from.is_empty() {
        key.push(from.option(|from| Ok(from.text()?.to_owned()))?);
    }
    Ok(key)
}

pub(super) const DEFINITIONS: &[u8] = b"model/def/";
pub(super) const ANOMALIES: &[u8] = b"model/anomaly/";

pub(super) fn definition_key(name: &str) -> Vec<u8> {
    [DEFINITIONS, name.as_bytes()].concat()
}
pub(super) fn journal_key(name: &str) -> Vec<u8> {
    [b"model/log/", name.as_bytes()].concat()
}
/// Prefix of all versions of a model. Names hold no zero byte, so no prefix covers another model's keys.
pub(super) fn versions_prefix(name: &str) -> Vec<u8> {
    [b"model/ver/", name.as_bytes(), b"\0"].concat()
}
pub(super) fn version_key(name: &str, version: u32) -> Vec<u8> {
    [&versions_prefix(name)[..], &version.to_be_bytes()].concat()
}
/// Prefix of the detectors of all versions of a model.
pub(super) fn detectors_prefix(name: &str) -> Vec<u8> {
    [b"model/det/", name.as_bytes(), b"\0"].concat()
}
/// Prefix of the detectors of one version; the key of a series follows.
pub(super) fn detectors_of(name: &str, version: u32) -> Vec<u8> {
    [&detectors_prefix(name)[..], &version.to_be_bytes()].concat()
}
pub(super) fn anomaly_key(id: u64) -> Vec<u8> {
    [ANOMALIES, &id.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn everything_stored_reads_back_and_every_prefix_of_it_is_refused() {
        let definition = Definition {
            name: "a".into(),
            sql: "SELECT 'ü'".into(),
            keys: vec!["k".into()],
            time: "ts".into(),
            value: "v".into(),
            method: Method::Ewma,
            season_ns: Some(5),
            seed: u64::MAX,
            last_ns: None,
            watermark_ns: 0,
            retrain_ns: Some(-1),
            promotes: true,
            rolls_back: false,
        };
        let version = Version {
            number: 3,
            trained_at: 4,
            position: Lsn(5),
            first_ts: i64::MIN,
            last_ts: i64::MAX,
            rows: 8,
            keys: 9,
            bytes: 10,
            hash: u128::MAX - 1,
            code: "0.1".into(),
            training: Health::default(),
        };
        let phase = Phase {
            from: -4,
            champion: 2,
            fallback: Some(1),
            challenger: None,
            boundary: 1.5,
            reason: Reason::RolledBackByRule,
            at: 7,
        };
        let journal = Journal { phases: vec![phase], forgotten: 3, watched_to: -9 };
        let anomaly = Anomaly {
            id: 1,
            model: "a".into(),
            version: 2,
            key: vec![Some("x".into()), None],
            ts: 3,
            value: f64::INFINITY,
            score: 4.0,
            expected: None,
            lo: Some(-0.5),
            hi: Some(0.5),
            label: Some(Label::TruePositive),
        };
        assert_eq!(Definition::decode(&definition.encode()).unwrap(), definition);
        assert_eq!(Version::decode(&version.encode()).unwrap(), version);
        assert_eq!(Journal::decode(&journal.encode()).unwrap(), journal);
        assert_eq!(Anomaly::decode(&anomaly.encode()).unwrap(), anomaly);
        for bytes in [definition.encode(), version.encode(), journal.encode(), anomaly.encode()] {
            for length in 0..bytes.len() {
                let part = &bytes[..length];
                assert!(Definition::decode(part).is_err() && Version::decode(part).is_err());
                assert!(Journal::decode(part).is_err() && Anomaly::decode(part).is_err());
            }
        }
    }

    #[test]
    fn journals_differ_from_the_first_phase_that_is_not_the_same_whatever_is_forgotten() {
        let phase = |from: i64, champion: u32| Phase {
            from,
            champion,
            fallback: None,
            challenger: None,
            boundary: 1.0,
            reason: Reason::Promoted,
            at: 0,
        };
        let all = [phase(0, 1), phase(10, 2), phase(20, 3)];
        let journal = |forgotten: usize, to: usize| Journal {
            phases: all[forgotten..to].to_vec(),
            forgotten: forgotten as u64,
            watched_to: 0,
        };
        assert_eq!(journal(0, 2).differs_from(&journal(0, 2)), None);
        assert_eq!(journal(0, 2).differs_from(&journal(0, 3)), Some(20));
        assert_eq!(journal(0, 2).differs_from(&journal(1, 3)), Some(20));
        assert_eq!(journal(0, 1).differs_from(&journal(2, 3)), Some(20));
        assert_eq!(journal(0, 3).differs_from(&journal(2, 3)), None);
        let mut other = journal(0, 3);
        other.phases[1] = phase(7, 4);
        assert_eq!(journal(0, 3).differs_from(&other), Some(7));
        assert_eq!(journal(2, 3).differs_from(&other), None);
        let mut without = journal(0, 3);
        without.phases[0].champion = FORGOTTEN;
        assert_eq!((journal(0, 3).differs_from(&without), without.differs_from(&journal(0, 2))), (None, Some(20)));
    }

    #[test]
    fn a_version_that_is_kept_keeps_the_phases_in_which_it_learnt() {
        let phase = |from: i64, champion: u32, fallback: u32, challenger: u32| {
            let version = |version: u32| (version > 0).then_some(version);
            let (fallback, challenger) = (version(fallback), version(challenger));
            Phase { from, champion, fallback, challenger, boundary: 1.0, reason: Reason::Promoted, at: 0 }
        };
        let phases =
            vec![phase(0, 1, 0, 0), phase(10, 1, 0, 2), phase(20, 2, 1, 0), phase(30, 2, 1, 3), phase(40, 2, 1, 4)];
        let journal = Journal { phases, forgotten: 5, watched_to: 0 };
        let kept = journal.without(&[1], 9);
        assert_eq!((kept.forgotten, kept.phases.len()), (6, 4), "version 2 began as the challenger at 10");
        assert_eq!((kept.phases[0].roles(), kept.phases[1].roles()), ([None, None, Some(2)], [Some(2), None, None]));
        assert_eq!(journal.differs_from(&kept), None);
        let kept = journal.without(&[3], 9);
        assert_eq!((kept.forgotten, kept.phases.len()), (5, 5), "who was only compared takes no phase along");
        assert_eq!(journal.without(&[3], 2).forgotten, 8);
        assert_eq!(journal.without(&[1, 2, 3, 4], 9).phases, []);
    }
}
