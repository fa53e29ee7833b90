//! `log_template(body)` and `log_template_id(body)`: the template of a line of a log, and its id.
//!
//! What is a value in a line is told by its looks where possible, and else by what other lines had there. So a database keeps
//! one miner ([`Templates`]), which learns from every line that the functions see: first the whole batch of rows, then the
//! answers. It is stored with the engine's keyed state. Ids come from the line alone; a text, once more lines were seen, may
//! have `<*>` where it had a word. Therefore the functions are stable and not immutable, and continuous queries, which must
//! be able to repeat their rows, refuse them.
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use foretell_engine::{Engine, Snapshot, WriteBatch};
use foretell_ml::template::{Miner, MinerOptions, TemplateId};
use parking_lot::Mutex;

use crate::error::Error;
use crate::table::sys::{self, SysTable};

/// Templates of a database; see docs/limits.md.
const OPTIONS: MinerOptions = MinerOptions { clusters_max: 16_384, bytes_max: 8 << 20 };

/// What a database knows of the templates of its logs.
#[derive(Debug)]
pub(crate) struct Templates(Mutex<Miner>);

/// Key of the engine's keyed state under which they are stored.
const STATE_KEY: &[u8] = b"log_templates";
/// They are stored so often while they change, and when the database is closed.
pub(crate) const STORE_EVERY: Duration = Duration::from_secs(600);

impl Default for Templates {
    fn default() -> Self {
        Self(Mutex::new(Miner::new(OPTIONS)))
    }
}

/// How much a database knows of the templates of its logs, see docs/log-templates.md.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TemplateStats {
    /// Templates and their forms that are kept.
    pub kept: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Lines, since the start, that there was no room to learn from.
    pub refused: u64,
}

impl Templates {
    /// Goes on with what was stored. What another version stored is learnt anew, with the same ids.
    pub(crate) fn restore(&self, snapshot: &Snapshot) {
        let stored = match snapshot.state(STATE_KEY) {
            Ok(Some(stored)) => stored,
            Ok(None) => return,
            Err(error) => return tracing::warn!(%error, "log templates are learnt anew"),
        };
        match Miner::load(&stored, OPTIONS) {
            Ok(miner) => *self.0.lock() = miner,
            Err(error) => tracing::info!(%error, "log templates are learnt anew"),
        }
    }

    /// Stores what was learnt, unless it is stored. Blocks until it is on stable storage.
    ///
    /// # Errors
    /// When the engine takes no writes.
    pub(crate) fn store(&self, engine: &Engine) -> Result<(), foretell_engine::Error> {
        let (bytes, is_empty) = {
            let miner = self.0.lock();
            (miner.save(), miner.clusters() == 0)
        };
        let is_stored = engine.snapshot().state(STATE_KEY)?.map_or(is_empty, |stored| *stored == *bytes);
        if is_stored {
            return Ok(());
        }
        let state = vec![(STATE_KEY.to_vec(), Some(bytes))];
        engine.write(WriteBatch { state, ..WriteBatch::default() })?.wait().map(drop)
    }

    pub(crate) fn stats(&self) -> TemplateStats {
        let miner = self.0.lock();
        TemplateStats { kept: miner.clusters() as u64, bytes: miner.bytes() as u64, refused: miner.refused() }
    }

    /// Learns all lines, then answers each.
    fn answer(&self, lines: &StringArray, what: Answer) -> ArrayRef {
        let mut miner = self.0.lock();
        let ids: Vec<Option<TemplateId>> = lines.iter().map(|line| line.map(|line| miner.learn(line))).collect();
        let mut texts: HashMap<TemplateId, Option<String>> = HashMap::new();
        let mut answers = StringBuilder::with_capacity(lines.len(), lines.len() * 16);
        for (line, id) in lines.iter().zip(ids) {
            let (Some(line), Some(id)) = (line, id) else {
                answers.append_null();
                continue;
            };
            match what {
                Answer::Id => answers.append_value(miner.resolve(id).to_string()),
                Answer::Text => match texts.entry(id).or_insert_with(|| miner.text(id)) {
                    Some(text) => answers.append_value(text),
                    // There was no room to learn from it: it has its own text.
                    None => answers.append_value(miner.show(line)),
                },
            }
        }
        Arc::new(answers.finish())
    }
}

/// `sys.log_templates`.
#[derive(Debug)]
pub(crate) struct TemplateList(pub(crate) Arc<Templates>);

impl SysTable for TemplateList {
    fn rows(&self, _snapshot: &Snapshot) -> Result<RecordBatch> {
        let templates = self.0.0.lock().templates();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(StringArray::from_iter_values(templates.iter().map(|t| t.id.to_string())))),
            ("template", Arc::new(StringArray::from_iter_values(templates.iter().map(|t| &t.text)))),
            ("lines", Arc::new(Int64Array::from_iter_values(templates.iter().map(|t| t.count as i64)))),
        ];
        sys::batch(columns)
    }
}

/// Which of the two functions it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Text,
    Id,
}

/// The functions.
#[derive(Debug)]
pub(crate) struct LogTemplate {
    what: Answer,
    signature: Signature,
    templates: Arc<Templates>,
}

impl LogTemplate {
    /// Both, over one state.
    pub(crate) fn both(templates: &Arc<Templates>) -> [Self; 2] {
        [Answer::Text, Answer::Id].map(|what| Self {
            what,
            signature: Signature::user_defined(Volatility::Stable),
            templates: Arc::clone(templates),
        })
    }
}

impl PartialEq for LogTemplate {
    fn eq(&self, other: &Self) -> bool {
        self.what == other.what && Arc::ptr_eq(&self.templates, &other.templates)
    }
}

impl Eq for LogTemplate {}

impl Hash for LogTemplate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.what.hash(state);
    }
}

impl ScalarUDFImpl for LogTemplate {
    fn name(&self) -> &str {
        match self.what {
            Answer::Text => "log_template",
            Answer::Id => "log_template_id",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let is_text = |kind: &DataType| {
            matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null)
        };
        match types {
            [DataType::Dictionary(_, kind)] if is_text(kind) => Ok(vec![DataType::Utf8]),
            [kind] if is_text(kind) => Ok(vec![DataType::Utf8]),
            _ => Err(Error::invalid(format!("{0} takes a text: write {0}(body)", self.name())).into()),
        }
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(lines)] => {
                Ok(ColumnarValue::Array(self.templates.answer(lines.as_string::<i32>(), self.what)))
            }
            [ColumnarValue::Scalar(ScalarValue::Utf8(line))] => {
                let answer = self.templates.answer(&StringArray::from(vec![line.as_deref()]), self.what);
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&answer, 0)?))
            }
            _ => Err(Error::internal(format!("{} of something that is no text", self.name())).into()),
        }
    }
}
