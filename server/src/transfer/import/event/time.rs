//! Times and durations as files write them.
use chrono::{DateTime, NaiveDateTime};

use super::super::super::time_text::{self, Epoch};
use super::cell::Cell;

/// How times and durations are written.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    epoch: Option<Epoch>,
    format: Option<String>,
    duration: Option<Epoch>,
}

impl Times {
    pub(super) fn new(epoch: Option<Epoch>, format: Option<String>, duration: Option<Epoch>) -> Self {
        Self { epoch, format, duration }
    }

    /// Nanoseconds since 1970; `None` where there is no value.
    ///
    /// # Errors
    /// When it is no time in the way that was said.
    pub(super) fn instant(&self, cell: &Cell<'_>) -> Result<Option<i64>, String> {
        match cell {
            Cell::Null => Ok(None),
            Cell::Time(ns) => Ok(Some(*ns)),
            Cell::Integer(count) if self.format.is_none() => match self.epoch {
                Some(epoch) => epoch.nanos(*count).map(Some),
                None => Err(format!("time {count} is a number; --epoch says what numbers count")),
            },
            Cell::Text(text) => match &self.format {
                Some(format) => formatted(text.trim(), format).map(Some),
                None => time_text::instant(text, self.epoch).map(Some),
            },
            other => match (&self.format, other.shown()) {
                (Some(format), Some(text)) => formatted(&text, format).map(Some),
                (_, text) => Err(format!("time {} is neither text nor a whole number", text.unwrap_or_default())),
            },
        }
    }

    /// Nanoseconds; `None` where there is no value.
    ///
    /// # Errors
    /// When it is no whole number, or negative.
    pub(super) fn duration(&self, cell: &Cell<'_>) -> Result<Option<i64>, String> {
        let count = match cell {
            Cell::Null => return Ok(None),
            Cell::Integer(count) => Some(*count),
            Cell::Text(text) => text.trim().parse().ok(),
            _ => None,
        };
        let count = count.filter(|count| *count >= 0).ok_or_else(|| {
            format!("duration {:?} is not a whole number from 0 on", cell.shown().unwrap_or_default())
        })?;
        self.duration.unwrap_or(Epoch::Ns).nanos(count).map(Some)
    }
}

fn formatted(text: &str, format: &str) -> Result<i64, String> {
    // With a zone of its own, else UTC.
    let time = match DateTime::parse_from_str(text, format) {
        Ok(time) => time.to_utc(),
        Err(_) => match NaiveDateTime::parse_from_str(text, format) {
            Ok(time) => time.and_utc(),
            Err(error) => return Err(format!("time {text:?} is not as --time-format {format:?} says: {error}")),
        },
    };
    time.timestamp_nanos_opt().ok_or_else(|| format!("time {text:?} is outside the years 1677 to 2262"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_logs_write_them() {
        let of = |text: &str, format: &str| {
            Times::new(None, Some(format.to_owned()), None).instant(&Cell::text(text)).map(Option::unwrap)
        };
        // Loghub: Apache, Hadoop, HDFS, BGL, Linux with a year put before it.
        assert_eq!(of("Sun Dec 04 04:47:44 2005", "%a %b %d %H:%M:%S %Y"), Ok(1_133_671_664_000_000_000));
        assert_eq!(of("2015-10-18 18:01:47,978", "%Y-%m-%d %H:%M:%S,%3f"), Ok(1_445_191_307_978_000_000));
        assert_eq!(of("081109 203615", "%y%m%d %H%M%S"), Ok(1_226_262_975_000_000_000));
        assert_eq!(of("2005-06-03-15.42.50.675872", "%Y-%m-%d-%H.%M.%S%.f"), Ok(1_117_813_370_675_872_000));
        assert_eq!(of("2005 Jun 14 15:16:01", "%Y %b %d %H:%M:%S"), Ok(1_118_762_161_000_000_000));
        assert_eq!(of("1970-01-01 01:00:00 +0100", "%Y-%m-%d %H:%M:%S %z"), Ok(0), "a zone of its own");
        assert!(of("soon", "%Y").unwrap_err().contains("--time-format"));
        assert!(of("1600-01-01 00:00:00", "%Y-%m-%d %H:%M:%S").unwrap_err().contains("1677"));
    }

    #[test]
    fn numbers_need_a_unit_and_are_exact() {
        let times = Times::new(Some(Epoch::Ns), None, Some(Epoch::Us));
        assert_eq!(times.instant(&Cell::text("1674984938387636821")), Ok(Some(1_674_984_938_387_636_821)));
        assert_eq!(times.instant(&Cell::Integer(5)), Ok(Some(5)));
        assert!(times.instant(&Cell::Double(5.0)).is_err(), "no doubles: they are not exact");
        assert!(Times::default().instant(&Cell::Integer(5)).unwrap_err().contains("--epoch"));
        assert_eq!(times.duration(&Cell::text("340134")), Ok(Some(340_134_000)));
        assert_eq!(Times::default().duration(&Cell::Integer(7)), Ok(Some(7)));
        assert!(times.duration(&Cell::Integer(-1)).is_err() && times.duration(&Cell::text("1.5")).is_err());
    }
}
