//! `time_bucket(width, ts)`: the start of the bucket of `width` that `ts` lies in, buckets counted from the epoch.
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampNanosecondType};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::anomaly::time_type;
use super::constant;
use crate::error::Error;

const NAME: &str = "time_bucket";

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct TimeBucket {
    signature: Signature,
}

impl Default for TimeBucket {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// Start of the bucket of `width_ns` (positive) around `ts`; the earliest bucket begins at the first representable instant.
pub(crate) fn bucket_start(width_ns: i64, ts: i64) -> i64 {
    ts.div_euclid(width_ns).checked_mul(width_ns).unwrap_or(i64::MIN)
}

impl ScalarUDFImpl for TimeBucket {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [width, ts] if constant::is_duration_type(width) => Ok(vec![width.clone(), text_is_time(ts)?]),
            _ => Err(Error::invalid("time_bucket takes a width and a time: write time_bucket('5m', ts)").into()),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types.get(1).cloned().unwrap_or(DataType::Timestamp(TimeUnit::Nanosecond, None)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [ColumnarValue::Scalar(width), ts] = args.args.as_slice() else {
            return Err(Error::invalid("time_bucket: argument 'width' must be a constant").into());
        };
        let Some(width) = constant::nanos(width, NAME, "width")? else {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from(args.return_type())?));
        };
        match ts {
            ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(ts, zone)) => {
                let start = ts.map(|ts| bucket_start(width, ts));
                Ok(ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(start, zone.clone())))
            }
            ColumnarValue::Scalar(other) => {
                Err(Error::internal(format!("time_bucket of {}", other.data_type())).into())
            }
            ColumnarValue::Array(array) => {
                let ts = array.as_primitive::<TimestampNanosecondType>();
                let zone = ts.timezone().map(Arc::from);
                let starts: TimestampNanosecondArray = ts.unary(|ts| bucket_start(width, ts));
                Ok(ColumnarValue::Array(Arc::new(starts.with_timezone_opt::<Arc<str>>(zone)) as ArrayRef))
            }
        }
    }

    /// Buckets rise when time rises.
    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        Ok(match inputs {
            [width, ts] if width.sort_properties == SortProperties::Singleton => ts.sort_properties,
            _ => SortProperties::Unordered,
        })
    }
}

/// A literal time may be text.
fn text_is_time(kind: &DataType) -> Result<DataType> {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
            Ok(DataType::Timestamp(TimeUnit::Nanosecond, None))
        }
        kind => time_type(NAME, kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_start_at_the_epoch_and_go_both_ways() {
        assert_eq!(bucket_start(60, 0), 0);
        assert_eq!(bucket_start(60, 59), 0);
        assert_eq!(bucket_start(60, 60), 60);
        assert_eq!(bucket_start(60, -1), -60);
        assert_eq!(bucket_start(7, i64::MIN), i64::MIN);
    }
}
