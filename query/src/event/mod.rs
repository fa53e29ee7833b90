//! Wide events, logs and spans, as records: names and types of the columns that writers fill and tables read.
//!
//! ```text
//!  stream = series: __name__ = __logs__ | __spans__, __service__, and what the sender says of the source (resource)
//!  row    = (stream, ts), fixed columns, one typed column for each attribute key, the map `attributes` for the rest
//! ```
//! | module | owns |
//! |---|---|
//! | [`attributes`] | attributes to columns and back to a map |
//! | [`log`] | log lines |
//! | [`span`] | spans |
//!
//! Equal rows are one row: what a sender repeats after a lost answer is stored once.
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeBinaryBuilder};
use arrow::datatypes::{DataType, Schema};
use foretell_engine::types::METRIC_NAME;
use foretell_engine::{Engine, LabelSet, RecordTable, Unique};

use crate::error::{Error, Result};

pub mod attributes;
pub mod log;
pub mod span;

pub use attributes::Value;
pub use log::{Log, LogBuilder};
pub use span::{Span, SpanBuilder, SpanEvent, SpanLink};

/// Label of a stream that the column `service` shows.
pub const SERVICE_LABEL: &str = "__service__";

/// Bytes of a trace's id.
pub const TRACE_ID_BYTES: usize = 16;
/// Bytes of a span's id.
pub const SPAN_ID_BYTES: usize = 8;

/// Which events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Log lines.
    Logs,
    /// Spans of traces.
    Spans,
}

impl Signal {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Logs, Self::Spans];

    /// Name of the table in SQL, and of its records in the engine.
    pub fn table_name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Spans => "spans",
        }
    }

    /// `__name__` of its streams, one of [`foretell_engine::EVENTS`].
    pub fn stream_name(self) -> &'static str {
        match self {
            Self::Logs => "__logs__",
            Self::Spans => "__spans__",
        }
    }

    /// The engine's table.
    ///
    /// # Errors
    /// Never: the name is a good one.
    pub fn table(self) -> Result<RecordTable> {
        RecordTable::new(self.table_name(), Unique::WholeRow).map_err(|error| Error::from_engine(&error))
    }

    /// The labels of the stream of `service` (empty: unknown) with these `resource` attributes.
    ///
    /// # Errors
    /// `Invalid` for an empty name, a name that occurs twice, and for the two names that say what a stream is.
    pub fn stream<'a>(
        self,
        service: &'a str,
        resource: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<LabelSet> {
        let own = [(METRIC_NAME, self.stream_name()), (SERVICE_LABEL, service)];
        LabelSet::from_pairs(own.into_iter().chain(resource)).map_err(|error| Error::from_engine(&error))
    }

    /// Columns that the engine's table has already: what a builder is made with.
    pub fn known_columns(self, engine: &Engine) -> Option<Arc<Schema>> {
        engine.snapshot().record_table(self.table_name()).map(|known| known.columns)
    }
}

/// Ids of `N` bytes, NULL where there is none.
pub(crate) fn ids<const N: usize>(ids: &[Option<[u8; N]>]) -> Result<ArrayRef> {
    let mut builder = FixedSizeBinaryBuilder::with_capacity(ids.len(), N as i32);
    for id in ids {
        match id {
            Some(id) => builder.append_value(id).map_err(|error| Error::internal(error.to_string()))?,
            None => builder.append_null(),
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// Type of a column of ids.
pub(crate) fn id_type(bytes: usize) -> DataType {
    DataType::FixedSizeBinary(bytes as i32)
}

/// An id as it is shown: lower-case hexadecimal digits.
pub fn hex(id: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    id.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Inverse of [`hex`]; `None` for anything else, capital letters among it.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let bytes = text.as_bytes();
    if bytes.len() != 2 * N {
        return None;
    }
    let mut id = [0; N];
    for (byte, pair) in id.iter_mut().zip(bytes.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_lower_case_digits() {
        assert_eq!(hex(&[0, 0x1f, 0xab]), "001fab");
        assert_eq!(from_hex::<3>("001fab"), Some([0, 0x1f, 0xab]));
        for wrong in ["001fAB", "001fa", "001fabc", "001fag", "001fä"] {
            assert_eq!(from_hex::<3>(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_stream_says_what_it_is_and_senders_cannot() {
        let stream = Signal::Logs.stream("shop", [("host", "a"), ("empty", "")]).unwrap();
        assert_eq!(stream.to_promql(), r#"{__name__="__logs__",__service__="shop",host="a"}"#);
        assert!(Signal::Logs.stream("", [("host", "a")]).unwrap().get(SERVICE_LABEL).is_none());
        for name in [METRIC_NAME, SERVICE_LABEL] {
            assert!(Signal::Spans.stream("shop", [(name, "x")]).is_err(), "{name}");
        }
        for signal in Signal::ALL {
            assert!(foretell_engine::EVENTS.contains(&signal.stream_name()));
        }
    }
}
