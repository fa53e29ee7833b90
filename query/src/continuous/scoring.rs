//! A compiled score query: from rows of the source to detector inputs, and from verdicts to the columns of the SELECT.
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable};
use datafusion::physical_plan::PhysicalExpr;
use foretell_engine::{MatchOp, Matcher, Snapshot};
use foretell_ml::detect::{Detector, Verdict};

use super::aggregate::{distinct_columns, field_name, label_name};
use super::output::{DerivedTable, encode_labels};
use super::plan::{Kind, Select, TS, needed_columns, physical, refused};
use super::source::{Source, condition};
use crate::error::{Error, Result};
use crate::model::definition::Journal;
use crate::model::judge::{Answers, Judge, Series};
use crate::model::score as model_score;
use crate::udf::anomaly;

/// One call of `anomaly_score`, `anomaly` or `model_score`.
struct Call {
    value: Arc<dyn PhysicalExpr>,
    judge: Judging,
}

/// Who says what of rows.
enum Judging {
    /// A detector that has seen nothing; whether all it says is asked for.
    Detector { fresh: Detector, whole: bool },
    /// A model, and the places of its key among the source columns.
    Model { judge: Judge, key: Vec<usize> },
}

/// What a call knows of a series.
#[derive(Clone)]
pub(super) enum State {
    Detector(Detector),
    Model(Series),
}

impl State {
    pub(super) fn save(&self) -> Vec<u8> {
        match self {
            Self::Detector(detector) => {
                let mut saved = Vec::new();
                detector.save(&mut saved);
                saved
            }
            Self::Model(series) => series.save(),
        }
    }
}

/// What a call says of rows.
pub(super) enum Verdicts {
    Detector(Vec<Verdict>),
    Model(Answers),
}

/// A compiled score query.
pub(super) struct Scoring {
    /// Columns of the source it needs.
    pub(super) source: SchemaRef,
    filter: Option<Arc<dyn PhysicalExpr>>,
    /// What of WHERE speaks of labels alone.
    pub(super) label_filter: Option<Arc<dyn PhysicalExpr>>,
    calls: Vec<Call>,
    /// Columns of the source, then one per call.
    rows: SchemaRef,
    /// What tells series apart.
    partition: Vec<Label>,
    labels: Vec<Label>,
    values: Vec<Arc<dyn PhysicalExpr>>,
}

/// A label of the output.
#[derive(Clone)]
enum Label {
    /// The column of the source in this place.
    Source(usize),
    /// Made of labels.
    Computed(Arc<dyn PhysicalExpr>),
    /// The same text in all rows.
    Constant(String),
}

impl Scoring {
    /// Compiles `select`, with models as `snapshot` has them; also says what table it fills.
    ///
    /// # Errors
    /// `Invalid` for columns that cannot be stored.
    pub(super) fn compile(
        snapshot: &Snapshot,
        select: &Select,
        owner: &str,
        state: &SessionState,
    ) -> Result<(Self, DerivedTable)> {
        let Kind::Scores { window } = &select.kind else { return Err(Error::internal("not a score query")) };
        let input = select.input.schema();
        let window_expr = window.as_ref().map_or(&[][..], |window| window.window_expr.as_slice());
        let schema = window.as_ref().map_or(input, |window| &window.schema);
        let used = window_expr.iter().chain(&select.filter).chain(select.columns.iter().map(|(_, e)| e));
        let logical = needed_columns(input, used)?;
        let physical = |expr: &Expr, schema: &DFSchema| physical(expr, schema, state);

        let mut calls = Vec::new();
        let mut partition_by: Option<Vec<Expr>> = None;
        for expr in window_expr {
            let Expr::WindowFunction(function) = expr.clone().unalias() else {
                return Err(Error::internal("not a window function"));
            };
            let name = function.fun.name().to_owned();
            calls.push(match function.params.args.as_slice() {
                [model, last, _, value, key @ ..] if name == model_score::NAME => {
                    let judge = model_score::judge(snapshot, &physical(model, &logical)?, &physical(last, &logical)?)?;
                    let key = model_key(&judge, key, &logical)?;
                    Call { value: physical(value, &logical)?, judge: Judging::Model { judge, key } }
                }
                [value, method, season, ..] => {
                    let fresh = anomaly::detector(&name, &physical(method, &logical)?, &physical(season, &logical)?)
                        .map_err(Error::from_datafusion)?;
                    let judge = Judging::Detector { fresh, whole: name == "anomaly" };
                    Call { value: physical(value, &logical)?, judge }
                }
                _ => return Err(Error::internal("a detector function lacks arguments")),
            });
            if partition_by.get_or_insert_with(|| function.params.partition_by.clone()) != &function.params.partition_by
            {
                return Err(refused("several OVER clauses that differ are not supported: use one PARTITION BY"));
            }
        }
        let place = |expr: &Expr| match expr {
            Expr::Column(column) => logical.maybe_index_of_column(column),
            _ => None,
        };
        let (table, labels, values) = outputs(select, owner, schema)?;
        let label = |expr: &Expr| match (place(expr), constant_text(expr)) {
            (Some(place), _) => Ok(Label::Source(place)),
            (_, Some(text)) => Ok(Label::Constant(text)),
            _ => physical(expr, &logical).map(Label::Computed),
        };
        let labels = labels.iter().map(label).collect::<Result<Vec<_>>>()?;
        let partition = match partition_by {
            Some(by) => {
                let places: Vec<usize> = by.iter().filter_map(place).collect();
                let is_selected =
                    |place: usize| labels.iter().any(|label| matches!(label, Label::Source(at) if *at == place));
                if let Some(&missing) = places.iter().find(|&&place| !is_selected(place)) {
                    let name = logical.field(missing).name();
                    return Err(refused(&format!(
                        "{name} is in PARTITION BY but not selected, so rows could not be told apart"
                    )));
                }
                places.into_iter().map(Label::Source).collect()
            }
            // Rows are told apart by what is selected.
            None => labels.iter().filter(|label| !matches!(label, Label::Constant(_))).cloned().collect(),
        };
        let own = logical.iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)));
        let called =
            schema.iter().skip(input.fields().len()).map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)));
        let row_schema = DFSchema::new_with_metadata(own.chain(called).collect(), Default::default())
            .map_err(Error::from_datafusion)?;

        let scoring = Self {
            source: Arc::new(logical.as_arrow().clone()),
            filter: select.filter.as_ref().map(|e| physical(e, &logical)).transpose()?,
            label_filter: select.label_filter().map(|e| physical(&e, &logical)).transpose()?,
            calls,
            rows: Arc::new(Schema::new(row_schema.fields().clone())),
            partition,
            labels,
            values: values.iter().map(|e| physical(e, &row_schema)).collect::<Result<_>>()?,
        };
        Ok((scoring, table))
    }

    /// Whether a row of the output depends on no other row of the source than its own.
    pub(super) fn is_stateless(&self) -> bool {
        self.calls.is_empty()
    }
    /// Labels that all rows of the output have.
    pub(super) fn constants(&self, table: &DerivedTable) -> Vec<Matcher> {
        let constant = |(name, label): (&String, &Label)| match label {
            Label::Constant(value) => Some(Matcher { name: name.clone(), op: MatchOp::Equal, value: value.clone() }),
            Label::Source(_) | Label::Computed(_) => None,
        };
        table.labels.iter().zip(&self.labels).filter_map(constant).collect()
    }

    /// The models that it asks.
    pub(super) fn models(&self) -> Vec<String> {
        self.judges().flatten().map(|judge| judge.model().to_owned()).collect()
    }

    /// The journal of each call that has a model.
    ///
    /// # Errors
    /// `Internal` when one is damaged.
    pub(super) fn journals(&self, snapshot: &Snapshot) -> Result<Vec<Option<Journal>>> {
        self.judges().map(|judge| judge.map(|judge| judge.journal(snapshot)).transpose()).collect()
    }

    fn judges(&self) -> impl Iterator<Item = Option<&Judge>> {
        self.calls.iter().map(|call| match &call.judge {
            Judging::Detector { .. } => None,
            Judging::Model { judge, .. } => Some(judge),
        })
    }

    /// What each call knows of a series that it has seen no row of.
    pub(super) fn fresh(&self, source: &Source, number: u32) -> Vec<State> {
        let state = |call: &Call| match &call.judge {
            Judging::Detector { fresh, .. } => State::Detector(fresh.clone()),
            Judging::Model { key, .. } => State::Model(Series::new(&labels_at(key, source, number))),
        };
        self.calls.iter().map(state).collect()
    }

    /// What each call knew of a series when this was saved.
    ///
    /// # Errors
    /// `Internal` when the bytes are damaged.
    pub(super) fn restored(&self, saved: &[&[u8]], source: &Source, number: u32) -> Result<Vec<State>> {
        if saved.len() != self.calls.len() {
            return Err(Error::internal("stored detector state is of another query"));
        }
        let state = |(call, saved): (&Call, &&[u8])| match &call.judge {
            Judging::Detector { .. } => Detector::load(saved)
                .map(State::Detector)
                .map_err(|e| Error::internal(format!("stored detector state is damaged: {e}"))),
            Judging::Model { key, .. } => Series::load(&labels_at(key, source, number), saved).map(State::Model),
        };
        self.calls.iter().zip(saved).map(state).collect()
    }

    /// Room for what each call says of as many rows.
    pub(super) fn verdicts(&self, rows: usize) -> Vec<Verdicts> {
        let verdicts = |call: &Call| match &call.judge {
            Judging::Detector { .. } => Verdicts::Detector(Vec::with_capacity(rows)),
            Judging::Model { .. } => Verdicts::Model(Answers::default()),
        };
        self.calls.iter().map(verdicts).collect()
    }

    /// Shows the next row of a series to call `at`. `snapshot` has the versions that `journal` speaks of.
    ///
    /// # Errors
    /// `Internal` when what is stored of a model is damaged.
    pub(super) fn see(
        &self,
        at: usize,
        snapshot: &Snapshot,
        journal: Option<&Journal>,
        state: &mut State,
        row: (i64, f64),
        verdicts: &mut Verdicts,
    ) -> Result<()> {
        match (&self.calls[at].judge, state, verdicts, journal) {
            (Judging::Detector { .. }, State::Detector(detector), Verdicts::Detector(verdicts), _) => {
                verdicts.push(detector.update(row.0, row.1));
                Ok(())
            }
            (Judging::Model { judge, .. }, State::Model(series), Verdicts::Model(answers), Some(journal)) => {
                judge.see(snapshot, journal, series, row, answers)
            }
            _ => Err(Error::internal("a call's state is of another kind")),
        }
    }

    /// Which rows pass WHERE; `None` when there is none.
    ///
    /// # Errors
    /// As the expression.
    pub(super) fn kept(&self, batch: &RecordBatch) -> Result<Option<BooleanArray>> {
        self.filter.as_ref().map(|filter| condition(filter, batch)).transpose()
    }

    /// What each call's detector sees of each row; NaN for NULL.
    ///
    /// # Errors
    /// As the expressions.
    pub(super) fn inputs(&self, batch: &RecordBatch) -> Result<Vec<Vec<f64>>> {
        self.calls
            .iter()
            .map(|call| {
                let values = call
                    .value
                    .evaluate(batch)
                    .and_then(|v| v.into_array(batch.num_rows()))
                    .map_err(Error::from_datafusion)?;
                let values =
                    arrow::compute::cast(&values, &DataType::Float64).map_err(|e| Error::internal(e.to_string()))?;
                Ok(values.as_primitive::<Float64Type>().iter().map(|v| v.unwrap_or(f64::NAN)).collect())
            })
            .collect()
    }

    /// The value columns of the SELECT.
    ///
    /// # Errors
    /// As the expressions.
    pub(super) fn values(
        &self,
        batch: RecordBatch,
        inputs: &[Vec<f64>],
        verdicts: Vec<Verdicts>,
    ) -> Result<Vec<ArrayRef>> {
        let rows = batch.num_rows();
        let mut columns = batch.columns().to_vec();
        for (call, (inputs, verdicts)) in self.calls.iter().zip(inputs.iter().zip(verdicts)) {
            columns.push(match (&call.judge, verdicts) {
                (Judging::Detector { whole, .. }, Verdicts::Detector(verdicts)) => {
                    anomaly::answers(*whole, inputs, &verdicts).map_err(Error::from_datafusion)?
                }
                (_, Verdicts::Model(answers)) => answers.finish()?,
                _ => return Err(Error::internal("a call's verdicts are of another kind")),
            });
        }
        let batch =
            RecordBatch::try_new(Arc::clone(&self.rows), columns).map_err(|e| Error::internal(e.to_string()))?;
        self.values
            .iter()
            .map(|e| e.evaluate(&batch).and_then(|value| value.into_array(rows)).map_err(Error::from_datafusion))
            .collect()
    }

    /// The label values of an output row of a series.
    ///
    /// # Errors
    /// As the expressions.
    pub(super) fn labels(&self, source: &Source, number: u32) -> Result<Vec<Option<String>>> {
        self.labels.iter().map(|label| label.of(source, number)).collect()
    }

    /// The partition of a series as bytes.
    ///
    /// # Errors
    /// As the expressions.
    pub(super) fn partition(&self, source: &Source, number: u32) -> Result<Box<[u8]>> {
        let labels = self.partition.iter().map(|label| label.of(source, number)).collect::<Result<Vec<_>>>()?;
        let mut bytes = Vec::new();
        encode_labels(labels.iter().map(Option::as_deref), &mut bytes);
        Ok(bytes.into())
    }
}

impl Label {
    /// Its value on the rows of a series.
    fn of(&self, source: &Source, number: u32) -> Result<Option<String>> {
        Ok(match self {
            Self::Source(place) => source.label(number, *place).map(str::to_owned),
            Self::Constant(value) => Some(value.clone()),
            Self::Computed(expr) => source.texts(expr, &[number])?.get(0).map(str::to_owned),
        })
    }
}

/// The labels of a series in these places of the source.
fn labels_at(places: &[usize], source: &Source, number: u32) -> Vec<Option<String>> {
    places.iter().map(|&place| source.label(number, place).map(str::to_owned)).collect()
}

/// The places of the columns that a model's key is given by.
fn model_key(judge: &Judge, given: &[Expr], schema: &DFSchema) -> Result<Vec<usize>> {
    let mut places = Vec::with_capacity(given.len());
    let mut names = Vec::with_capacity(given.len());
    for expr in given {
        let expr = match expr {
            Expr::Cast(Cast { expr, .. }) => expr,
            other => other,
        };
        let Expr::Column(column) = expr else {
            return Err(refused(&format!("the key {expr} of a model is not a label")));
        };
        let place = schema.maybe_index_of_column(column);
        places.push(place.ok_or_else(|| Error::internal("a key is no column of the source"))?);
        names.push(&column.name);
    }
    let mut sorted = [names.clone(), judge.keys().iter().collect()];
    sorted.iter_mut().for_each(|names| names.sort_unstable());
    // Names may differ, as those of a SELECT may, but not their order.
    if names.len() != judge.keys().len() || (sorted[0] == sorted[1] && !names.iter().copied().eq(judge.keys())) {
        return Err(Error::invalid(format!(
            "the key of model {} is ({}): name as many labels, in this order",
            judge.model(),
            judge.keys().join(", ")
        )));
    }
    Ok(places)
}

type Outputs = (DerivedTable, Vec<Expr>, Vec<Expr>);

/// Sorts the select list into time, labels and values.
fn outputs(select: &Select, owner: &str, schema: &DFSchema) -> Result<Outputs> {
    let mut table = DerivedTable { owner: owner.to_owned(), labels: Vec::new(), fields: Vec::new() };
    let (mut labels, mut values, mut has_time) = (Vec::new(), Vec::new(), false);
    for (name, expr) in &select.columns {
        let column = match expr {
            Expr::Column(column) => Some(column.name.as_str()),
            _ => None,
        };
        match column {
            Some(TS) => {
                if name != TS || has_time {
                    return Err(refused("ts is selected once and keeps its name"));
                }
                has_time = true;
            }
            Some(_) if select.is_label(expr) => {
                label_name(name)?;
                labels.push(expr.clone());
                table.labels.push(name.clone());
            }
            None if constant_text(expr).is_some() || select.is_made_of_labels(expr) => {
                label_name(name)?;
                labels.push(expr.clone());
                table.labels.push(name.clone());
            }
            _ => {
                let data_type = expr.get_type(schema).map_err(Error::from_datafusion)?;
                table.fields.push((field_name(name, &data_type)?, data_type));
                values.push(expr.clone());
            }
        }
    }
    if !has_time {
        return Err(refused("ts is missing from the columns"));
    }
    distinct_columns(&table)?;
    Ok((table, labels, values))
}

/// A text that stands in the select list.
fn constant_text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten().filter(|text| !text.is_empty()).map(str::to_owned),
        _ => None,
    }
}
