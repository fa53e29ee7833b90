//! A model as judge of rows that need not be those of its query: of a SELECT over `model_score`, and of a detector that uses it.
//!
//! What it says of a row follows from the rows of the series so far, the versions and the journal. A detector keeps the lanes of
//! each series and the journal that it has gone by; where another journal differs, rows from there on are judged again.
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, StructArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Fields};
use foretell_engine::Snapshot;
use foretell_ml::detect::Escalation;

use super::definition::{DEFINITIONS, Definition, Journal, definition_key, encode_key, journal_key};
use super::lane::{Lanes, Said};
use super::missing;
use super::watch::stored;
use crate::codec::{Decoder, Encoder};
use crate::error::{Error, Result};
use crate::udf::anomaly;

/// Fields of the answer.
pub(super) const FIELDS: [(&str, DataType); 8] = [
    ("score", DataType::Float64),
    ("expected", DataType::Float64),
    ("lo", DataType::Float64),
    ("hi", DataType::Float64),
    ("is_anomaly", DataType::Boolean),
    ("tier", DataType::Int32),
    ("version", DataType::UInt32),
    ("challenger_score", DataType::Float64),
];

static ANSWER: LazyLock<Fields> =
    LazyLock::new(|| FIELDS.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect());

/// The type of an answer.
pub(super) fn answer_type() -> DataType {
    DataType::Struct(ANSWER.clone())
}

/// A model that is asked.
#[derive(Clone, Debug)]
pub(crate) struct Judge {
    definition: Definition,
    escalation: Escalation,
    /// Phases that begin later are not looked at.
    last: i64,
}

impl Judge {
    /// The model that `text` names, as `snapshot` has it: a name, or one with methods that are asked about what it doubts
    /// (`lat, patches above 0.8`). Phases that begin after `last` are not looked at.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for what is no method.
    pub(crate) fn new(snapshot: &Snapshot, text: &str, last: i64) -> Result<Self> {
        let (name, escalation) = anomaly::escalated(text).map_err(|error| Error::invalid(error.to_string()))?;
        let Some(bytes) = snapshot.state(&definition_key(name))? else {
            let known = snapshot.state_keys(DEFINITIONS);
            let known = known.iter().filter_map(|key| std::str::from_utf8(&key[DEFINITIONS.len()..]).ok());
            return Err(missing(name, known));
        };
        Ok(Self { definition: Definition::decode(&bytes)?, escalation, last })
    }

    pub(crate) fn model(&self) -> &str {
        &self.definition.name
    }

    /// Columns that tell the series of the model apart.
    pub(crate) fn keys(&self) -> &[String] {
        &self.definition.keys
    }

    /// Who scores from when on.
    ///
    /// # Errors
    /// `Internal` when it is damaged.
    pub(crate) fn journal(&self, snapshot: &Snapshot) -> Result<Journal> {
        let bytes = snapshot.state(&journal_key(&self.definition.name))?;
        let mut journal = bytes.map(|bytes| Journal::decode(&bytes)).transpose()?.unwrap_or_default();
        journal.phases.retain(|phase| phase.from <= self.last);
        Ok(journal)
    }

    /// The next row of a series, which `key` names in the order of [`Judge::keys`]. `snapshot` has the versions that `journal` speaks of.
    ///
    /// # Errors
    /// `Internal` when a stored detector is damaged.
    pub(crate) fn see(
        &self,
        snapshot: &Snapshot,
        journal: &Journal,
        series: &mut Series,
        (ts, value): (i64, f64),
        answers: &mut Answers,
    ) -> Result<()> {
        let said = match value.is_nan() {
            true => None,
            false => {
                let trained = |version: u32| {
                    Ok(stored(&self.definition, snapshot, version, &series.key)?.escalated(self.escalation))
                };
                series.lanes.step(journal, &trained, ts, value)?
            }
        };
        answers.push(said, journal);
        Ok(())
    }
}

/// What is known of a series.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    key: Vec<u8>,
    lanes: Lanes,
}

impl Series {
    /// One that has no row yet.
    pub(crate) fn new(key: &[Option<String>]) -> Self {
        Self { key: encode_key(key), lanes: Lanes::default() }
    }

    /// With the lanes that [`Series::save`] gave.
    ///
    /// # Errors
    /// `Internal` when they are damaged.
    pub(crate) fn load(key: &[Option<String>], bytes: &[u8]) -> Result<Self> {
        Ok(Self { key: encode_key(key), lanes: Lanes::load(bytes)? })
    }

    pub(crate) fn save(&self) -> Vec<u8> {
        self.lanes.save()
    }
}

/// Answers to rows, column by column.
#[derive(Default)]
pub(crate) struct Answers {
    numbers: [Vec<Option<f64>>; 4],
    is_anomaly: Vec<Option<bool>>,
    tier: Vec<Option<i32>>,
    version: Vec<Option<u32>>,
    challenger: Vec<Option<f64>>,
}

impl Answers {
    fn push(&mut self, said: Option<Said>, journal: &Journal) {
        let champion = said.and_then(|said| said.verdicts[0]);
        let phase = said.map(|said| &journal.phases[said.phase]);
        let fields = champion.map(|v| [v.score, v.expected, v.lo, v.hi]).unwrap_or_default();
        for (column, field) in self.numbers.iter_mut().zip(fields) {
            column.push(field);
        }
        self.is_anomaly.push(fields[0].zip(phase).map(|(score, phase)| score > phase.boundary));
        self.tier.push(champion.map(|verdict| verdict.tier.into()));
        self.version.push(phase.and_then(|phase| phase.roles()[0]));
        self.challenger.push(said.and_then(|said| said.verdicts[2]).and_then(|verdict| verdict.score));
    }

    /// As one column.
    ///
    /// # Errors
    /// `Internal`.
    pub(crate) fn finish(self) -> Result<ArrayRef> {
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(FIELDS.len());
        arrays.extend(self.numbers.into_iter().map(|column| Arc::new(Float64Array::from(column)) as ArrayRef));
        arrays.push(Arc::new(BooleanArray::from(self.is_anomaly)));
        arrays.push(Arc::new(Int32Array::from(self.tier)));
        arrays.push(Arc::new(UInt32Array::from(self.version)));
        arrays.push(Arc::new(Float64Array::from(self.challenger)));
        let answer = StructArray::try_new(ANSWER.clone(), arrays, None);
        Ok(Arc::new(answer.map_err(|error| Error::internal(error.to_string()))?))
    }
}

/// The journals that a detector's rows were made by, as stored bytes: one for each of its calls that has a model.
pub(crate) fn encode_journals(journals: &[Option<Journal>]) -> Vec<u8> {
    let mut out = Encoder::new(1);
    for journal in journals {
        out.option(journal.as_ref(), |out, journal| {
            out.bytes(&journal.encode());
        });
    }
    out.finish()
}

/// # Errors
/// `Internal` when the bytes are damaged.
pub(crate) fn decode_journals(bytes: &[u8]) -> Result<Vec<Option<Journal>>> {
    let mut from = Decoder::new("journals of a detector", bytes, 1)?;
    let mut journals = Vec::new();
    while !from.is_empty() {
        journals.push(from.option(|from| Journal::decode(from.bytes()?))?);
    }
    Ok(journals)
}
