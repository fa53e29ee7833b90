//! Errors of a query, in kinds that protocols map to status codes once.
use datafusion::error::DataFusionError;
use foretell_engine as engine;

/// Result of query calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Stable class of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Bad SQL, unknown name, forbidden statement, text too long or too deep: HTTP 400, errorType `bad_data`.
    Invalid,
    /// No such object: 404, `not_found`.
    NotFound,
    /// Valid but cannot be executed (memory pool, row limit, type error at run time): 422, `execution`.
    Execution,
    /// Deadline passed: 503, `timeout`.
    Timeout,
    /// Cancelled by somebody: 503, `canceled`.
    Cancelled,
    /// Too many queries at once: 503 with Retry-After, `unavailable`.
    Unavailable,
    /// Ours: 500, `internal`.
    Internal,
}

/// A query error.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Class.
    pub kind: ErrorKind,
    /// Lower case, no full stop, says what to do next.
    pub message: String,
}

impl Error {
    /// An error of `kind`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Shorthand for [`ErrorKind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Shorthand for [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Sorts a DataFusion error into our kinds. An [`Error`] that travelled inside one comes back as it was.
    pub fn from_datafusion(error: DataFusionError) -> Self {
        if let Some(own) = find_source::<Self>(&error) {
            return own.clone();
        }
        if let Some(error) = find_source::<engine::Error>(&error) {
            return Self::from_engine(error);
        }
        if let Some(foretell_ml::Error::Invalid(message)) = find_source::<foretell_ml::Error>(&error) {
            return Self::invalid(message.clone());
        }
        let root = error.find_root();
        if let Some(reason) = bad_regex(root) {
            return Self::invalid(format!(
                "bad regular expression: {reason}; a backslash before one of ( ) [ ] {{ }} . * + ? ^ $ | means the character itself"
            ));
        }
        let message = match root {
            DataFusionError::SQL(parser, _) => tidy(&parser.to_string().replacen("sql parser error:", "bad SQL:", 1)),
            root => tidy(own_part(&root.message())),
        };
        let kind = match root {
            DataFusionError::Plan(_) if is_missing_table(&message) => ErrorKind::NotFound,
            DataFusionError::Plan(_)
            | DataFusionError::SchemaError(..)
            | DataFusionError::SQL(..)
            | DataFusionError::Configuration(_)
            | DataFusionError::NotImplemented(_) => ErrorKind::Invalid,
            DataFusionError::ResourcesExhausted(_) => {
                return Self::new(
                    ErrorKind::Execution,
                    format!(
                        "the memory pool for queries is exhausted: read less time or fewer series, or aggregate earlier ({message})"
                    ),
                );
            }
            // What is neither ours nor DataFusion's comes from a function's library, about its arguments.
            DataFusionError::Execution(_) | DataFusionError::ArrowError(..) | DataFusionError::External(_) => {
                ErrorKind::Execution
            }
            _ => ErrorKind::Internal,
        };
        Self { kind, message }
    }

    /// Sorts an engine error into our kinds.
    pub fn from_engine(error: &engine::Error) -> Self {
        let kind = match error.kind() {
            engine::ErrorKind::Invalid => ErrorKind::Invalid,
            engine::ErrorKind::Limit => ErrorKind::Execution,
            engine::ErrorKind::Unavailable => ErrorKind::Unavailable,
            engine::ErrorKind::Corruption | engine::ErrorKind::Io => ErrorKind::Internal,
        };
        Self { kind, message: error.to_string() }
    }
}

impl From<engine::Error> for Error {
    fn from(error: engine::Error) -> Self {
        Self::from_engine(&error)
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        Self::External(Box::new(error))
    }
}

/// The first `T` inside `error`, through contexts, shared and external wrappers.
fn find_source<'a, T: std::error::Error + 'static>(error: &'a DataFusionError) -> Option<&'a T> {
    let mut source: Option<&'a (dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        // `Box<dyn Error>` inside `External` and `Arc<DataFusionError>` inside `Shared` are reached by `source`,
        // except that `source` of a transparent wrapper may skip its payload: look at it by hand.
        source = match error.downcast_ref::<DataFusionError>() {
            Some(DataFusionError::External(inner)) => Some(inner.as_ref()),
            Some(DataFusionError::Shared(inner)) => Some(inner.as_ref()),
            Some(DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner)) => Some(inner.as_ref()),
            Some(DataFusionError::ArrowError(inner, _)) => match inner.as_ref() {
                arrow::error::ArrowError::ExternalError(inner) => Some(inner.as_ref()),
                _ => None,
            },
            _ => error.source(),
        };
    }
    None
}

/// DataFusion turns an error about the types of a function's arguments into text and wraps it; the middle is ours.
fn own_part(message: &str) -> &str {
    let Some((_, rest)) = message.split_once("user-defined coercion failed with: External error: ") else {
        return message;
    };
    rest.split_once(" No function matches").map_or(rest, |(own, _)| own)
}

/// Why a regular expression is none, if that is what the optimizer or a function complains about: they give such an error no
/// class of its own.
fn bad_regex(root: &DataFusionError) -> Option<String> {
    let text = match root {
        DataFusionError::External(error) => error.to_string(),
        DataFusionError::ArrowError(error, _) => error.to_string(),
        DataFusionError::Execution(text) => text.clone(),
        _ => return None,
    };
    let not_compiled = text.split_once("Regular expression did not compile: ");
    let told =
        not_compiled.map(|(_, told)| told).or_else(|| text.starts_with("regex parse error:").then_some(&*text))?;
    // The library draws the expression with a mark below the fault; its last line says what it is.
    let reason = told.rsplit_once("error: ").map_or(told, |(_, reason)| reason.lines().next().unwrap_or(reason));
    Some(tidy(reason))
}

fn is_missing_table(message: &str) -> bool {
    message.starts_with("table '") && message.contains("' not found")
}

/// House style: one line, lower case first letter, no full stop at the end.
fn tidy(message: &str) -> String {
    let message = message.split("\n\nbacktrace:").next().unwrap_or(message);
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.trim_end_matches('.');
    let mut chars = line.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().chain(line.chars().skip(1)).collect()
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_ours_survives_the_journey_through_datafusion() {
        let ours = Error::new(ErrorKind::Timeout, "too slow");
        let wrapped = DataFusionError::from(ours).context("while testing");
        let shared = DataFusionError::Shared(std::sync::Arc::new(wrapped));
        let back = Error::from_datafusion(shared);
        assert_eq!((back.kind, back.message.as_str()), (ErrorKind::Timeout, "too slow"));
    }

    #[test]
    fn a_bad_regular_expression_is_the_fault_of_the_statement_and_is_named() {
        let bad = || regex::Regex::new(&["a(", "b"].concat()).unwrap_err();
        let by_optimizer = DataFusionError::External(Box::new(bad())).context("Invalid regex");
        let text = format!("Regular expression did not compile: {:?}", bad());
        let by_kernel = arrow::error::ArrowError::ComputeError(text).into();
        for error in [by_optimizer, by_kernel] {
            let error = Error::from_datafusion(error);
            assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
            assert!(error.message.starts_with("bad regular expression: unclosed group; a backslash"), "{error}");
        }
        let other = DataFusionError::Execution("cannot cast 'regex parse error: x'".into());
        assert_eq!(Error::from_datafusion(other).kind, ErrorKind::Execution);
    }

    #[test]
    fn kinds_follow_the_class_of_the_error() {
        let kind = |e| Error::from_datafusion(e).kind;
        assert_eq!(kind(DataFusionError::Plan("Bad thing.".into())), ErrorKind::Invalid);
        assert_eq!(kind(DataFusionError::Plan("table 'foretell.public.x' not found".into())), ErrorKind::NotFound);
        assert_eq!(kind(DataFusionError::ResourcesExhausted("x".into())), ErrorKind::Execution);
        assert_eq!(kind(DataFusionError::Internal("x".into())), ErrorKind::Internal);
        assert_eq!(Error::from_datafusion(DataFusionError::Plan("Bad thing.".into())).message, "bad thing");
    }
}
