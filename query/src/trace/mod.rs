//! The shape of one trace: what called what, and which spans its duration is made of. Pure: no table, no clock.
//!
//! | module | owns |
//! |---|---|
//! | [`tree`] | spans in the order of calls |
//! | [`critical_path`] | the spans that a trace waited for |
//!
//! Times are nanoseconds in `i64`; what would not fit ends at the last instant. Nothing here recurses, however deep a trace is.
pub(crate) mod critical_path;
pub(crate) mod tree;

/// Bytes of a span's id.
pub(crate) type SpanId = [u8; crate::event::SPAN_ID_BYTES];

/// What the shape of a trace depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timed {
    /// Start, ns UTC.
    pub(crate) ts: i64,
    /// Nanoseconds; a negative one counts as none.
    pub(crate) duration: i64,
    /// Its id.
    pub(crate) id: SpanId,
    /// Of what called it.
    pub(crate) parent: Option<SpanId>,
}

impl Timed {
    /// When it ends.
    pub(crate) fn end(&self) -> i64 {
        self.ts.saturating_add(self.duration.max(0))
    }
}
