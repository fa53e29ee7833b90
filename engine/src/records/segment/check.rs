//! Reading a record segment whole: every chunk against its checksum, the order of rows and the bounds of each group.
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use hashbrown::HashSet;

use crate::error::Result;
use crate::format::Reader;
use crate::types::{SeriesId, TimeRange};

use super::super::batch::unexpected;
use super::super::{ColumnDecoder, SERIES_COLUMN, TS_COLUMN, Unique};
use super::RecordSegment;

/// Reads the groups of one record segment in order.
pub(crate) struct RecordChecker<'a> {
    segment: &'a RecordSegment,
    range: TimeRange,
    decoder: ColumnDecoder,
    schema: SchemaRef,
    /// The last row of the groups found good so far.
    last: Option<(u64, i64)>,
    series: HashSet<SeriesId>,
}

impl<'a> RecordChecker<'a> {
    /// For `segment`, whose rows must lie in `range`.
    ///
    /// # Errors
    /// `Unavailable` without memory for a decompression context.
    pub(crate) fn new(segment: &'a RecordSegment, range: TimeRange) -> Result<Self> {
        let keys = [Field::new(SERIES_COLUMN, DataType::UInt64, false), Field::new(TS_COLUMN, DataType::Int64, false)];
        let fields = keys.into_iter().map(Arc::new).chain(segment.columns().fields().iter().map(Arc::clone));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let (decoder, series) = (ColumnDecoder::default(), HashSet::new());
        Ok(Self { segment, range, decoder, schema, last: None, series })
    }

    /// The rows of group `group`, which is not before the one read last: whole, in order and in the partition. Series, ts,
    /// then the columns, as a writer takes them.
    ///
    /// # Errors
    /// `Corruption` with path and offset; the group is then as good as lost.
    pub(crate) fn read(&mut self, group: usize) -> Result<RecordBatch> {
        let (series, ts) = self.segment.keys(group, &mut self.decoder)?;
        let zone = self.segment.zone(group);
        let corrupt = |expected: String, got: String| {
            Err(Reader::new(&[], self.segment.path(), zone.offset).corrupt(expected, got))
        };
        let mut last = self.last;
        for (&series, &t) in series.iter().zip(&ts) {
            let twice = self.segment.meta().table.unique() == Unique::PerInstant && last == Some((series, t));
            if twice || last.is_some_and(|last| last > (series, t)) {
                return corrupt("rows in order of series and time".into(), format!("{t} of {series} after {last:?}"));
            }
            if !self.range.contains(t) {
                let expected = format!("timestamps from {} to {}", self.range.start, self.range.end);
                return corrupt(expected, format!("{t} of series {series}"));
            }
            last = Some((series, t));
        }
        let bounds = ts.iter().min().zip(ts.iter().max()).map(|(&start, &end)| TimeRange { start, end });
        if bounds != Some(zone.range) {
            return corrupt(format!("{:?}, as the footer says", zone.range), format!("{bounds:?}"));
        }
        let ids: Vec<SeriesId> = series.iter().map(|&id| SeriesId(id)).collect();
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from(series)), Arc::new(Int64Array::from(ts))];
        for column in 0..self.segment.columns().fields().len() {
            columns.push(self.segment.column(group, column, None, &mut self.decoder)?);
        }
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(|e| unexpected("a group", &e))?;
        self.last = last;
        self.series.extend(ids);
        Ok(rows)
    }

    /// The distinct series of the groups found good so far, increasing.
    pub(crate) fn series(&self) -> Vec<SeriesId> {
        let mut series: Vec<SeriesId> = self.series.iter().copied().collect();
        series.sort_unstable();
        series
    }

    /// Compares what the footer says of all groups, each of which was read, and their filters with their checksums.
    ///
    /// # Errors
    /// `Corruption`; the rows themselves are good.
    pub(crate) fn compare_series(&self) -> Result<()> {
        (0..self.segment.groups()).try_for_each(|group| self.segment.check_filters(group))?;
        let meta = &self.segment.meta().segment;
        if self.series.len() as u64 == meta.series {
            return Ok(());
        }
        let at = Reader::new(&[], self.segment.path(), meta.bytes);
        Err(at.corrupt(format!("{} series, as the footer says", meta.series), self.series.len().to_string()))
    }
}
