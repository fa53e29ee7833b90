//! Reading a JSON answer row by row, without keeping rows that will not be shown.
use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// A column of an answer.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) sql_type: String,
}

/// An answer, maybe without all of its rows.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Value>>,
    /// Rows of the answer, shown or not.
    pub(crate) rows_total: u64,
    pub(crate) elapsed_ms: Option<f64>,
}

/// Reads an answer, keeping `rows_max` rows.
pub(crate) fn read(reader: impl Read, rows_max: usize) -> Result<Answer, String> {
    let mut json = serde_json::Deserializer::from_reader(std::io::BufReader::new(reader));
    let answer = AnswerSeed { rows_max }.deserialize(&mut json).map_err(|error| error.to_string())?;
    json.end().map_err(|error| error.to_string())?;
    Ok(answer)
}

struct AnswerSeed {
    rows_max: usize,
}

impl<'de> DeserializeSeed<'de> for AnswerSeed {
    type Value = Answer;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Answer, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for AnswerSeed {
    type Value = Answer;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an answer of columns, rows and stats")
    }
    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Answer, M::Error> {
        #[derive(Deserialize)]
        struct Stats {
            elapsed_ms: f64,
        }
        let mut answer = Answer::default();
        let mut error = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "columns" => answer.columns = map.next_value()?,
                "rows" => map.next_value_seed(RowsSeed { rows_max: self.rows_max, answer: &mut answer })?,
                "stats" => answer.elapsed_ms = Some(map.next_value::<Stats>()?.elapsed_ms),
                "error" => error = Some(map.next_value::<String>()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        match error {
            Some(error) => Err(M::Error::custom(error)),
            None if answer.elapsed_ms.is_none() => Err(M::Error::custom("the answer has no end")),
            None => Ok(answer),
        }
    }
}

struct RowsSeed<'a> {
    rows_max: usize,
    answer: &'a mut Answer,
}

impl<'de> DeserializeSeed<'de> for RowsSeed<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for RowsSeed<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rows")
    }
    fn visit_seq<S: SeqAccess<'de>>(self, mut rows: S) -> Result<(), S::Error> {
        while self.answer.rows.len() < self.rows_max {
            match rows.next_element()? {
                Some(row) => self.answer.rows.push(row),
                None => break,
            }
        }
        self.answer.rows_total = self.answer.rows.len() as u64;
        while rows.next_element::<IgnoredAny>()?.is_some() {
            self.answer.rows_total += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rows_beyond_the_limit_are_counted_not_kept() {
        let text =
            br#"{"columns":[{"name":"a","type":"BIGINT"}],"rows":[[1],[2],[3]],"stats":{"elapsed_ms":1.5,"rows":3}}"#;
        let answer = read(&text[..], 2).unwrap();
        assert_eq!((answer.rows.len(), answer.rows_total, answer.columns.len()), (2, 3, 1));
    }

    #[test]
    fn an_answer_that_ends_early_is_an_error() {
        assert!(read(&br#"{"columns":[],"rows":[[1],"#[..], 9).is_err());
        assert!(read(&br#"{"columns":[],"rows":[[1]]}"#[..], 9).is_err());
        let failed = br#"{"columns":[],"rows":[[1]],"status":"error","errorType":"timeout","error":"too late"}"#;
        assert!(read(&failed[..], 9).unwrap_err().contains("too late"));
    }
}
