//! Rows of a table that detectors write, put together from the commits that wrote them, and what a condition says of each.
//!
//! A commit has a sample of each value column, with the series of that column. A table is opened once and knows which series is which
//! column of which key; so a look costs what its rows cost, however many keys and detectors there are.
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Float64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, TableReference};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::PhysicalExpr;
use foretell_engine::{Commit, LabelSet, Selector, Snapshot, TimeRange};
use hashbrown::HashMap;

use crate::continuous::output::DerivedTable;
use crate::continuous::{DETECTOR_LABEL, physical, timestamps};
use crate::error::{Error, Result};
use crate::planner::unstable;
use crate::table::derived::{FIELD_LABEL, NULL_BITS, TOMBSTONE_BITS, typed};
use crate::table::{label_type, timestamp_type};

/// What an alert is a value of.
const VALUE: &str = "value";

/// A row that an alert looks at.
pub(super) struct Judged {
    pub(super) labels: LabelSet,
    pub(super) at: i64,
    pub(super) holds: bool,
    pub(super) value: f64,
}

/// One table, as far as it is known.
pub(super) struct Table {
    name: String,
    ordinal: u32,
    columns: DerivedTable,
    schema: SchemaRef,
    /// Key and column of each series.
    series: HashMap<u32, (u32, u32)>,
    keys: Vec<Key>,
}

/// What the rows of a key have in common.
struct Key {
    detector: Arc<str>,
    /// Without the detector.
    labels: LabelSet,
    /// In the order of the label columns.
    texts: Vec<Option<String>>,
}

/// Rows of some commits.
pub(super) struct Rows {
    batch: RecordBatch,
    keys: Vec<u32>,
    ts: Vec<i64>,
    /// Each detector's, in the order of time.
    of: HashMap<Arc<str>, Range<usize>>,
}

impl Table {
    /// Learns a table; `None` as long as it has no rows.
    ///
    /// # Errors
    /// As [`Snapshot::select`].
    pub(super) fn open(snapshot: &Snapshot, name: &str) -> Result<Option<Self>> {
        let (Some(columns), Some(info)) = (DerivedTable::stored(snapshot, name)?, snapshot.metric(name)) else {
            return Ok(None);
        };
        let mut fields = vec![Field::new("ts", timestamp_type(), false)];
        fields.extend(columns.labels.iter().map(|label| Field::new(label, label_type(), true)));
        fields.extend(columns.fields.iter().map(|(name, kind)| Field::new(name, kind.clone(), true)));
        let selector = Selector { metric: Some(name.to_owned()), matchers: Vec::new(), range: TimeRange::ALL };
        let (mut series, mut keys, mut known) = (HashMap::new(), Vec::new(), HashMap::new());
        for one in snapshot.select(&selector).map_err(|e| Error::from_engine(&e))? {
            let field = one.labels.get(FIELD_LABEL).unwrap_or(VALUE);
            let Some(field) = columns.fields.iter().position(|(name, _)| name == field) else { continue };
            let labels = one.labels.filtered(|name| columns.labels.iter().any(|label| label == name));
            let key = *known.entry(labels).or_insert_with_key(|labels| {
                keys.push(Key {
                    detector: labels.get(DETECTOR_LABEL).unwrap_or_default().into(),
                    labels: labels.without(DETECTOR_LABEL),
                    texts: columns.labels.iter().map(|label| labels.get(label).map(str::to_owned)).collect(),
                });
                keys.len() as u32 - 1
            });
            series.insert(one.id.number(), (key, field as u32));
        }
        let schema = Arc::new(Schema::new(fields));
        Ok(Some(Self { name: name.to_owned(), ordinal: info.ordinal, columns, schema, series, keys }))
    }

    /// Its rows in `commits`; of equal keys and times the newest. `None` when there is a series that it does not know.
    ///
    /// # Errors
    /// `Internal`.
    pub(super) fn rows(&self, commits: &[Commit]) -> Result<Option<Rows>> {
        let width = self.columns.fields.len();
        let mut places: HashMap<(u32, i64), usize> = HashMap::new();
        let (mut keys, mut times, mut cells) = (Vec::new(), Vec::new(), vec![Vec::new(); width]);
        let mut last = None;
        for Commit { batch, .. } in commits {
            for (row, id) in batch.series.iter().enumerate().filter(|(_, id)| id.metric() == self.ordinal) {
                let Some(&(key, field)) = self.series.get(&id.number()) else { return Ok(None) };
                let ts = batch.ts[row];
                let place = match last {
                    // The columns of a row come one after the other.
                    Some((known, place)) if known == (key, ts) => place,
                    _ => *places.entry((key, ts)).or_insert_with(|| {
                        keys.push(key);
                        times.push(ts);
                        cells.iter_mut().for_each(|column| column.push(None));
                        keys.len() - 1
                    }),
                };
                last = Some(((key, ts), place));
                cells[field as usize][place] = Some(batch.values[row].to_bits());
            }
        }
        let is_there =
            |place: &usize| cells.iter().any(|column| column[*place].is_some_and(|bits| bits != TOMBSTONE_BITS));
        let mut order: Vec<usize> = (0..keys.len()).filter(is_there).collect();
        let detector = |place: usize| &self.keys[keys[place] as usize].detector;
        order.sort_by(|&a, &b| (detector(a), times[a]).cmp(&(detector(b), times[b])));
        let keys: Vec<u32> = order.iter().map(|&place| keys[place]).collect();
        let ts: Vec<i64> = order.iter().map(|&place| times[place]).collect();
        let mut arrays: Vec<ArrayRef> = vec![timestamps(&timestamp_type(), ts.clone())?];
        for label in 0..self.columns.labels.len() {
            let texts = keys.iter().map(|&key| self.keys[key as usize].texts[label].as_deref());
            arrays.push(Arc::new(texts.collect::<DictionaryArray<Int32Type>>()));
        }
        for (column, (_, kind)) in cells.iter().zip(&self.columns.fields) {
            let cell = |&place: &usize| {
                let bits = column[place].filter(|bits| !matches!(*bits, NULL_BITS | TOMBSTONE_BITS));
                bits.map(f64::from_bits)
            };
            let doubles = Float64Array::from_iter(order.iter().map(cell));
            arrays.push(typed(doubles, kind).map_err(Error::from_datafusion)?);
        }
        let batch =
            RecordBatch::try_new(Arc::clone(&self.schema), arrays).map_err(|e| Error::internal(e.to_string()))?;
        let mut of: HashMap<Arc<str>, Range<usize>> = HashMap::new();
        for (row, &key) in keys.iter().enumerate() {
            let range = of.entry(Arc::clone(&self.keys[key as usize].detector)).or_insert(row..row);
            range.end = row + 1;
        }
        Ok(Some(Rows { batch, keys, ts, of }))
    }

    /// A condition over its columns, if it can be judged row by row.
    pub(super) fn condition(&self, state: &SessionState, text: &str) -> Option<Condition> {
        let table = TableReference::bare(self.name.as_str());
        let schema = DFSchema::try_from_qualified_schema(table, &self.schema).ok()?;
        // A line break ends a comment.
        let sql = format!("CAST(({text}\n) AS BOOLEAN)");
        let expr = state.create_logical_expr(&sql, &schema).ok()?;
        let depends_on_more = |expr: &Expr| {
            let asks = matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_));
            Ok(asks || unstable(expr).is_some())
        };
        if expr.exists(depends_on_more).ok()? {
            return None;
        }
        let expr = physical(&expr, &schema, state).ok()?;
        Some(Condition { expr, text: text.to_owned(), schema: Arc::clone(&self.schema) })
    }

    /// What `condition` says of a detector's rows; `None` when it fails over them, so that it is asked and the error is a query's.
    ///
    /// # Errors
    /// `Internal`.
    pub(super) fn judge(&self, rows: &Rows, detector: &str, condition: &Condition) -> Result<Option<Vec<Judged>>> {
        let Some(range) = rows.of.get(detector) else { return Ok(Some(Vec::new())) };
        let batch = rows.batch.slice(range.start, range.len());
        let holds = condition.expr.evaluate(&batch).and_then(|holds| holds.into_array(batch.num_rows()));
        let Ok(holds) = holds else { return Ok(None) };
        let holds = holds.as_boolean_opt().ok_or_else(|| Error::internal("a condition that is none"))?;
        let value = batch.column_by_name(VALUE).ok_or_else(|| Error::internal("a detector's table without values"))?;
        let value = cast(value, &DataType::Float64).map_err(|e| Error::internal(e.to_string()))?;
        let value = value.as_primitive::<Float64Type>();
        let judged = (0..batch.num_rows()).map(|row| Judged {
            labels: self.keys[rows.keys[range.start + row] as usize].labels.clone(),
            at: rows.ts[range.start + row],
            holds: holds.is_valid(row) && holds.value(row),
            value: if value.is_valid(row) { value.value(row) } else { f64::NAN },
        });
        Ok(Some(judged.collect()))
    }
}

/// A compiled condition.
#[derive(Clone)]
pub(super) struct Condition {
    expr: Arc<dyn PhysicalExpr>,
    text: String,
    /// The columns that it is compiled for.
    schema: SchemaRef,
}

impl Condition {
    /// Whether it is `text`, for rows of `table`.
    pub(super) fn is_for(&self, table: &Table, text: &str) -> bool {
        self.text == text && (Arc::ptr_eq(&self.schema, &table.schema) || self.schema == table.schema)
    }
}
