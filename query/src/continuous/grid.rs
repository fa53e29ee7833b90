//! The buckets of a query: which bucket an instant falls into, and where that bucket begins and ends.
//!
//! Nothing here parses widths: the bucket expression itself (`time_bucket`, `date_bin`, `date_trunc`) is asked. It never
//! decreases and is constant over a bucket, so the end of a bucket is found by bisection, and the width found once is
//! tried first the next time. Calendar buckets (months) need no special case.
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampNanosecondType};
use arrow::record_batch::RecordBatch;
use datafusion::physical_plan::PhysicalExpr;

use crate::error::{Error, ErrorKind, Result};

/// Buckets of time.
pub(super) struct Grid {
    bucket_of: Arc<dyn PhysicalExpr>,
    /// One column: the time.
    schema: SchemaRef,
    width_guess: i64,
}

impl Grid {
    /// `bucket_of` maps the only column of `schema` to the start of its bucket.
    pub(super) fn new(bucket_of: Arc<dyn PhysicalExpr>, schema: SchemaRef) -> Self {
        Self { bucket_of, schema, width_guess: 60_000_000_000 }
    }

    /// The bucket of each instant.
    pub(super) fn buckets(&self, ts: &[i64]) -> Result<Vec<i64>> {
        let column = timestamps(self.schema.field(0).data_type(), ts.to_vec())?;
        let batch =
            RecordBatch::try_new(Arc::clone(&self.schema), vec![column]).map_err(|e| Error::internal(e.to_string()))?;
        let buckets = self
            .bucket_of
            .evaluate(&batch)
            .and_then(|value| value.into_array(ts.len()))
            .map_err(Error::from_datafusion)?;
        let buckets = buckets
            .as_primitive_opt::<TimestampNanosecondType>()
            .ok_or_else(|| Error::internal("the bucket is not a timestamp"))?;
        if arrow::array::Array::null_count(buckets) > 0 {
            return Err(Error::new(ErrorKind::Execution, "the bucket of a row is NULL"));
        }
        Ok(buckets.values().to_vec())
    }

    /// The bucket of one instant.
    pub(super) fn bucket(&self, ts: i64) -> Result<i64> {
        Ok(self.buckets(&[ts])?[0])
    }

    /// First instant after the bucket that starts at `bucket` (`i64::MAX` when time ends first).
    pub(super) fn end_of(&mut self, bucket: i64) -> Result<i64> {
        if let Some(end) = bucket.checked_add(self.width_guess) {
            let around = self.buckets(&[end - 1, end])?;
            if around[0] == bucket && around[1] != bucket {
                return Ok(end);
            }
        }
        let mut inside = bucket;
        let mut step = 1_000_000_000i64;
        let mut outside = loop {
            let Some(probe) = bucket.checked_add(step) else { return Ok(i64::MAX) };
            if self.bucket(probe)? != bucket {
                break probe;
            }
            inside = probe;
            step = step.saturating_mul(2);
        };
        while inside + 1 < outside {
            let middle = inside + (outside - inside) / 2;
            if self.bucket(middle)? == bucket {
                inside = middle;
            } else {
                outside = middle;
            }
        }
        self.width_guess = outside - bucket;
        Ok(outside)
    }

    /// The bucket that begins at or before `ts + width × count`: how chunks of many buckets are cut.
    pub(super) fn after(&mut self, bucket: i64, count: i64) -> Result<i64> {
        let end = self.end_of(bucket)?;
        if count <= 1 || end == i64::MAX {
            return Ok(end);
        }
        let Some(far) = self.width_guess.checked_mul(count).and_then(|span| bucket.checked_add(span)) else {
            return Ok(end);
        };
        Ok(self.bucket(far)?.max(end))
    }
}

/// A timestamp column of `data_type`.
///
/// # Errors
/// `Internal` for another type.
pub(crate) fn timestamps(data_type: &DataType, ts: Vec<i64>) -> Result<ArrayRef> {
    match data_type {
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            Ok(Arc::new(TimestampNanosecondArray::from(ts).with_timezone_opt(zone.clone())))
        }
        other => Err(Error::internal(format!("the time column has type {other}"))),
    }
}
