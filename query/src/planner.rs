//! From text to a verified logical plan.
//!
//! ```text
//! text -> admit (tokens, bounds) -> parse -> allow-list of statements -> named arguments -> logical plan -> verify
//! ```
//!
//! Invariants: nothing is executed here; a plan that leaves this module reads tables and does nothing else.
//! [`on_large_stack`] and [`with_large_stack`] start threads (besides them only `promql::parallel` does): DataFusion's passes
//! are recursive, and a statement at the admitted bounds needs more stack than a worker thread has.
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;
use std::time::Duration;

use datafusion::common::ParamValues;
use datafusion::common::utils::datafusion_strsim::normalized_levenshtein;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinError;

use crate::admit::{Admitted, admit};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::QueryLimits;
use crate::model::{Models, form};
use crate::udf::named;

/// Address space of a planning thread's stack; only touched pages cost memory.
const STACK_BYTES: usize = 256 << 20;

/// How long a thread waits for the next statement. Starting one takes as long as a small query: a tenth of a millisecond.
const THREAD_IDLE: Duration = Duration::from_secs(5);
/// Most threads at once; statements beyond wait for one. What runs at once has bounds of its own, far below.
const THREADS_MAX: usize = 512;

/// Threads with large stacks, started when they are needed.
static LARGE_STACKS: LazyLock<std::io::Result<Runtime>> = LazyLock::new(|| {
    Builder::new_current_thread()
        .thread_name("foretell-plan")
        .thread_stack_size(STACK_BYTES)
        .thread_keep_alive(THREAD_IDLE)
        .max_blocking_threads(THREADS_MAX)
        .build()
});

/// Runs `work` on a thread with a large stack. A panic in it becomes an `Internal` error.
///
/// # Errors
/// What `work` says, or `Internal` when it panicked, or `Unavailable` when no thread can be started.
pub(crate) async fn on_large_stack<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    let unavailable = |why: String| {
        Error::new(ErrorKind::Unavailable, format!("cannot start a planning thread: {why}: try again later"))
    };
    let threads = LARGE_STACKS.as_ref().map_err(|e| unavailable(e.to_string()))?;
    // Tokio panics when the system has no thread left.
    let begin = AssertUnwindSafe(|| threads.spawn_blocking(work));
    let begun = std::panic::catch_unwind(begin).map_err(|panic| unavailable(message(&*panic)))?;
    match begun.await.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => Err(panicked(&*panic)),
        Err(Err(_)) => Err(Error::internal("the planning thread ended without an answer")),
    }
}

/// Runs `work` on a large stack and waits for it: for what takes milliseconds.
///
/// # Errors
/// As [`on_large_stack`].
pub(crate) fn with_large_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("foretell-plan".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|e| Error::new(ErrorKind::Unavailable, format!("cannot start a thread: {e}: try again later")))?;
        thread.join().unwrap_or_else(|panic| Err(panicked(&*panic)))
    })
}

/// The error that a panic becomes.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Error {
    let message = message(panic);
    tracing::error!(%message, "a query panicked");
    Error::internal(format!("the query failed inside foretell, please report it with the statement: {message}"))
}

/// What a panic said.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Admits, parses and plans `sql`. Call it where the stack is large (see [`on_large_stack`]).
///
/// # Errors
/// `Invalid` for text out of bounds, bad SQL and statements that are not queries; `NotFound` for unknown tables.
pub(crate) async fn plan(state: &SessionState, sql: &str, limits: &QueryLimits) -> Result<LogicalPlan> {
    plan_admitted(state, admit(sql, limits)?, Vec::new(), limits).await
}

/// [`plan`] for a statement that is admitted already, with the values of `$1`, `$2`, ….
pub(crate) async fn plan_admitted(
    state: &SessionState,
    admitted: Admitted,
    params: Vec<ScalarValue>,
    limits: &QueryLimits,
) -> Result<LogicalPlan> {
    if let Some(refused) = refused_word(&admitted.words) {
        return Err(Error::invalid(format!("{refused} is refused: {REFUSAL}")));
    }
    let mut statement = parse(admitted, limits)?;
    allow(&statement)?;
    if let Some(models) = state.config().get_extension::<Models>() {
        form::resolve(&mut statement, &models)?;
    }
    named::resolve(&mut statement)?;
    let plan = state.statement_to_plan(statement).await.map_err(|e| with_table_hint(state, e))?;
    let plan = if params.is_empty() {
        plan
    } else {
        let values = params.into_iter().map(Into::into).collect();
        plan.with_param_values(ParamValues::List(values)).map_err(Error::from_datafusion)?
    };
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(&plan)
        .map_err(|e| Error::invalid(format!("{}: {REFUSAL}", Error::from_datafusion(e).message)))?;
    Ok(plan)
}

/// The function that `expr` itself calls, if it may give another answer at another time.
pub(crate) fn unstable(expr: &Expr) -> Option<&str> {
    let (name, signature) = match expr {
        Expr::ScalarFunction(call) => (call.func.name(), call.func.signature()),
        Expr::AggregateFunction(call) => (call.func.name(), call.func.signature()),
        _ => return None,
    };
    (signature.volatility != Volatility::Immutable).then_some(name)
}

/// Parses exactly one statement.
///
/// # Errors
/// `Invalid` for bad SQL, no statement, more than one.
pub(crate) fn parse(admitted: Admitted, limits: &QueryLimits) -> Result<Statement> {
    // One admitted level costs the parser a handful of recursive calls.
    let recursion_limit = limits.depth_max.saturating_mul(16).saturating_add(limits.terms_max * 2);
    let mut statements = DFParserBuilder::new(admitted.tokens)
        .with_dialect(&GenericDialect {})
        .with_recursion_limit(recursion_limit)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(Error::from_datafusion)?;
    match (statements.pop_front(), statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        (None, _) => Err(Error::invalid("the statement is empty: write one SQL statement")),
        (Some(_), false) => Err(Error::invalid("more than one statement: send them one at a time")),
    }
}

const REFUSAL: &str = "SQL here reads tables and deletes rows of metrics; data comes in over the ingest protocols, files and settings cannot be reached from a query";

/// The leading word, when it begins a statement that nobody may run. Checked before the parser, whose errors about such
/// statements would talk of their syntax.
fn refused_word(words: &[String]) -> Option<&str> {
    let word = match words.first()?.as_str() {
        "EXPLAIN" => words
            .iter()
            .skip(1)
            .map(String::as_str)
            .find(|w| !matches!(*w, "ANALYZE" | "VERBOSE" | "FORMAT" | "TREE" | "INDENT"))?,
        word => word,
    };
    const QUERIES: [&str; 8] = ["SELECT", "WITH", "VALUES", "TABLE", "FROM", "SHOW", "DESCRIBE", "DESC"];
    const REFUSED: [&str; 42] = [
        "ALTER",
        "ANALYZE",
        "ATTACH",
        "BEGIN",
        "CALL",
        "CLOSE",
        "COMMENT",
        "COMMIT",
        "COPY",
        "CREATE",
        "DEALLOCATE",
        "DECLARE",
        "DELETE",
        "DETACH",
        "DISCARD",
        "DROP",
        "EXECUTE",
        "FETCH",
        "FLUSH",
        "GRANT",
        "IMPORT",
        "INSERT",
        "INSTALL",
        "KILL",
        "LISTEN",
        "LOAD",
        "LOCK",
        "MERGE",
        "MSCK",
        "NOTIFY",
        "OPTIMIZE",
        "PRAGMA",
        "PREPARE",
        "REPLACE",
        "RESET",
        "REVOKE",
        "ROLLBACK",
        "SET",
        "TRUNCATE",
        "UNLOAD",
        "UPDATE",
        "USE",
    ];
    if QUERIES.contains(&word) { None } else { REFUSED.into_iter().find(|r| *r == word) }
}

/// Lets queries, their explanation and `SHOW`/`DESCRIBE` through.
fn allow(statement: &Statement) -> Result<()> {
    match statement {
        Statement::Explain(explain) => match explain.statement.as_ref() {
            Statement::Statement(inner) if matches!(**inner, SqlStatement::Query(_)) => Ok(()),
            other => Err(refuse(other)),
        },
        Statement::Statement(inner) => match inner.as_ref() {
            SqlStatement::Query(_)
            | SqlStatement::ShowTables { .. }
            | SqlStatement::ShowColumns { .. }
            | SqlStatement::ShowFunctions { .. }
            | SqlStatement::ShowVariable { .. }
            | SqlStatement::ExplainTable { .. } => Ok(()),
            _ => Err(refuse(statement)),
        },
        other => Err(refuse(other)),
    }
}

fn refuse(statement: &Statement) -> Error {
    let text = statement.to_string();
    let words: Vec<&str> = text.split_whitespace().take(2).collect();
    Error::invalid(format!("{} is refused: {REFUSAL}", words.join(" ")))
}

/// Says more than "not found" about a table that is not there.
fn with_table_hint(state: &SessionState, error: DataFusionError) -> Error {
    let error = Error::from_datafusion(error);
    if error.kind != ErrorKind::NotFound {
        return error;
    }
    let full = error.message.split('\'').nth(1).unwrap_or_default();
    let name = full.splitn(3, '.').nth(2).unwrap_or(full);
    let is_path =
        name.contains('/') || [".csv", ".json", ".parquet", ".arrow", ".txt"].iter().any(|e| name.ends_with(e));
    let hint = if is_path {
        "file paths are not tables: import the file over an ingest protocol first".to_owned()
    } else {
        match nearest_table(state, name) {
            Some(near) => format!("did you mean {near}? SHOW TABLES lists all"),
            None => "SHOW TABLES lists all".to_owned(),
        }
    };
    Error::new(ErrorKind::NotFound, format!("table '{name}' not found: {hint}"))
}

fn nearest_table(state: &SessionState, name: &str) -> Option<String> {
    let catalog = state.catalog_list().catalog(crate::table::CATALOG)?;
    let mut best: Option<(f64, String)> = None;
    for schema in catalog.schema_names() {
        for table in catalog.schema(&schema)?.table_names() {
            let score = normalized_levenshtein(name, &table);
            if score > best.as_ref().map_or(0.6, |b| b.0) {
                best = Some((score, crate::table::qualified(&schema, &table)));
            }
        }
    }
    best.map(|b| b.1)
}
