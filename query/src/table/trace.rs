//! `trace_tree('<trace id>')` and `critical_path('<trace id>')`: one trace, put in order.
//!
//! The trace is found by the filters that groups have of ids (see [`super::hints`]) and read when its rows are wanted, over the
//! snapshot that all tables of the statement read. Its shape is made by [`crate::trace`].
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use foretell_engine::{RowFilter, Selector, Series, SeriesId, Snapshot, TimeRange};

use super::call::{Call, CallTable, Wanted};
use super::columns::times;
use super::histogram::stored;
use super::scan_exec::{OneBatch, Reader, Source, external};
use super::timestamp_type;
use crate::error::{Error, ErrorKind};
use crate::event::{SERVICE_LABEL, SPAN_ID_BYTES, Signal, TRACE_ID_BYTES, from_hex, hex};
use crate::execute;
use crate::running::Query;
use crate::trace::{Timed, critical_path, tree};
use crate::udf::constant;

/// Spans of one trace.
const SPANS_MAX: usize = 100_000;
/// The stored columns that are read.
const NEEDED: [&str; 7] = ["trace_id", "span_id", "parent_span_id", "name", "kind", "status", "duration"];
/// Of a span besides its texts, with its place in the tree, about.
const SPAN_BYTES: usize = 400;

/// What is asked of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// All its spans in the order of calls.
    Tree,
    /// The stretches of time that its duration is made of.
    CriticalPath,
}

impl View {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Tree, Self::CriticalPath];

    /// Name of the function.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tree => "trace_tree",
            Self::CriticalPath => "critical_path",
        }
    }

    fn schema(self) -> SchemaRef {
        let (number, text) = (DataType::Int64, DataType::Utf8);
        let start = vec![
            Field::new("position", number.clone(), false),
            Field::new("depth", number.clone(), false),
            Field::new("ts", timestamp_type(), false),
            Field::new("duration", number.clone(), false),
        ];
        let own = vec![Field::new("own_duration", number, false)];
        let ids = vec![Field::new("span_id", text.clone(), false), Field::new("parent_span_id", text.clone(), true)];
        let named = ["service", "name", "kind", "status"].map(|name| Field::new(name, text.clone(), true)).to_vec();
        let fields = match self {
            Self::Tree => [start, own, ids, named].concat(),
            Self::CriticalPath => [start, ids, named].concat(),
        };
        Arc::new(Schema::new(fields))
    }
}

/// One of the functions, for one statement.
pub(crate) struct TraceFunction {
    view: View,
    snapshot: Snapshot,
    query: Arc<Query>,
}

impl TraceFunction {
    /// For the statement that is listed as `query`.
    pub(crate) fn new(view: View, snapshot: Snapshot, query: Arc<Query>) -> Self {
        Self { view, snapshot, query }
    }
}

impl fmt::Debug for TraceFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceFunction({})", self.view.name())
    }
}

impl TableFunctionImpl for TraceFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let call = TraceCall {
            view: self.view,
            trace: trace_id(self.view.name(), args.exprs())?,
            snapshot: self.snapshot.clone(),
            query: Arc::clone(&self.query),
        };
        Ok(Arc::new(CallTable::new(call, self.view.schema())))
    }
}

/// The trace that the arguments name.
fn trace_id(function: &str, args: &[Expr]) -> Result<[u8; TRACE_ID_BYTES], Error> {
    let wrong = || {
        Error::invalid(format!(
            "{function} takes the id of a trace, 32 hexadecimal digits in quotes: write \
             {function}('0af7651916cd43dd8448eb211c80319c')"
        ))
    };
    let [arg] = args else { return Err(wrong()) };
    let value = constant::literal(Some(arg)).ok_or_else(wrong)?;
    let text = constant::text(value, function, "trace_id").map_err(|_| wrong())?.ok_or_else(wrong)?;
    from_hex(&text.to_ascii_lowercase()).ok_or_else(wrong)
}

/// One call.
#[derive(Clone)]
struct TraceCall {
    view: View,
    trace: [u8; TRACE_ID_BYTES],
    snapshot: Snapshot,
    query: Arc<Query>,
}

impl fmt::Debug for TraceCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.view.name(), hex(&self.trace))
    }
}

impl Call for TraceCall {
    const CONSUMER: &'static str = "a trace";

    fn source(&self, wanted: Wanted) -> Arc<dyn Source> {
        Arc::new(TraceSource { call: self.clone(), wanted })
    }
}

/// The answer of one call, made when it is opened.
struct TraceSource {
    call: TraceCall,
    wanted: Wanted,
}

impl fmt::Debug for TraceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}

impl Source for TraceSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.wanted.schema)
    }

    fn partitions(&self) -> usize {
        1
    }

    fn open(&self, _partition: usize, rows: usize) -> Result<Box<dyn Reader>> {
        let trace = self.read()?;
        let batch = trace.shown(self.call.view, &self.wanted.whole)?.project(&self.wanted.columns)?;
        // From here on the reader says what it holds.
        self.wanted.memory.free();
        Ok(Box::new(OneBatch::new(batch, rows)))
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.call)
    }
}

impl TraceSource {
    /// All spans of the trace.
    fn read(&self) -> Result<Trace> {
        let mut trace = Trace::default();
        let table = Signal::Spans.table_name();
        if self.call.snapshot.record_table(table).is_none() {
            return Ok(trace);
        }
        let metric = Some(Signal::Spans.stream_name().to_owned());
        let streams = self.call.snapshot.select(&Selector { metric, matchers: Vec::new(), range: TimeRange::ALL });
        let streams = streams.map_err(external)?;
        let held = streams.iter().map(|one| size_of::<Series>() + one.labels.own_bytes()).sum::<usize>();
        self.wanted.memory.try_resize(held)?;
        let ids: Vec<SeriesId> = streams.iter().map(|one| one.id).collect();
        let exact = [RowFilter::Value { column: "trace_id".to_owned(), value: self.call.trace.to_vec() }];
        let scan = self.call.snapshot.scan_records_for(table, &ids, TimeRange::ALL, Some(&NEEDED), &[], &exact);
        let mut scan = scan.map_err(external)?;
        while let Some(batch) = scan.next_batch().map_err(external)? {
            if self.call.query.cancel.is_cancelled() {
                return Err(execute::cancelled().into());
            }
            trace.take(&batch, &self.call.trace, &streams)?;
            if trace.spans.len() > SPANS_MAX {
                let why = format!("the trace has more than {SPANS_MAX} spans: read it from the table spans instead");
                return Err(Error::new(ErrorKind::Execution, why).into());
            }
            self.wanted.memory.try_resize(held + scan.bytes() + trace.bytes())?;
        }
        Ok(trace)
    }
}

/// The spans of a trace.
#[derive(Default)]
struct Trace {
    spans: Vec<Timed>,
    /// Service, name, kind, status of each.
    texts: Vec<[Option<String>; 4]>,
}

impl Trace {
    /// Adds those spans of `batch` that are of `trace`.
    fn take(&mut self, batch: &RecordBatch, trace: &[u8; TRACE_ID_BYTES], streams: &[Series]) -> Result<()> {
        let traces = stored(batch, "trace_id")?.as_fixed_size_binary();
        let spans = stored(batch, "span_id")?.as_fixed_size_binary();
        let parents = stored(batch, "parent_span_id")?.as_fixed_size_binary();
        let series = stored(batch, "series")?.as_primitive::<UInt64Type>();
        let ts = stored(batch, "ts")?.as_primitive::<Int64Type>();
        let duration = stored(batch, "duration")?.as_primitive::<Int64Type>();
        let named = [stored(batch, "name")?, stored(batch, "kind")?, stored(batch, "status")?];
        let named = named.map(|texts| texts.as_string::<i32>());
        let id = |ids: &FixedSizeBinaryArray, row: usize| -> Option<[u8; SPAN_ID_BYTES]> {
            ids.is_valid(row).then(|| ids.value(row).try_into().ok()).flatten()
        };
        for row in (0..batch.num_rows()).filter(|&row| traces.is_valid(row) && traces.value(row) == trace) {
            let stream = streams.binary_search_by_key(&SeriesId(series.value(row)), |one| one.id).ok();
            let service = stream.and_then(|at| streams[at].labels.get(SERVICE_LABEL)).map(str::to_owned);
            let [name, kind, status] = named.map(|texts| texts.is_valid(row).then(|| texts.value(row).to_owned()));
            self.texts.push([service, name, kind, status]);
            self.spans.push(Timed {
                ts: ts.value(row),
                duration: if duration.is_valid(row) { duration.value(row) } else { 0 },
                id: id(spans, row).unwrap_or_default(),
                parent: id(parents, row),
            });
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        let texts = self.texts.iter().flatten().flatten().map(String::capacity).sum::<usize>();
        self.spans.len() * SPAN_BYTES + 2 * texts
    }

    /// The rows of `view`.
    fn shown(&self, view: View, schema: &SchemaRef) -> Result<RecordBatch> {
        let nodes = tree::grow(&self.spans);
        let span = |node: usize| &self.spans[nodes[node].span];
        // Node, start and duration of each row.
        let rows: Vec<(usize, i64, i64)> = match view {
            View::Tree => (0..nodes.len()).map(|node| (node, span(node).ts, span(node).duration)).collect(),
            View::CriticalPath => {
                let path = critical_path::find(&nodes, &self.spans);
                path.iter().map(|part| (part.node, part.start, part.end.saturating_sub(part.start))).collect()
            }
        };
        let numbers =
            |of: &dyn Fn(usize) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values((0..rows.len()).map(of))) };
        let mut columns = vec![
            numbers(&|row| row as i64),
            numbers(&|row| nodes[rows[row].0].depth as i64),
            times(rows.iter().map(|row| row.1).collect()),
            numbers(&|row| rows[row].2),
        ];
        if view == View::Tree {
            columns.push(numbers(&|row| tree::own_time(&nodes, &self.spans, rows[row].0)));
        }
        let ids: StringArray = rows.iter().map(|row| Some(hex(&span(row.0).id))).collect();
        let parents: StringArray = rows.iter().map(|row| span(row.0).parent.map(|id| hex(&id))).collect();
        columns.extend([Arc::new(ids) as ArrayRef, Arc::new(parents)]);
        for text in 0..4 {
            let texts: StringArray = rows.iter().map(|row| self.texts[nodes[row.0].span][text].as_deref()).collect();
            columns.push(Arc::new(texts));
        }
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }
}
