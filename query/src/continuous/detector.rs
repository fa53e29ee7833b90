//! `CREATE DETECTOR`: a continuous query over `anomaly(…)`, written for the user.
//!
//! ```text
//!  CREATE DETECTOR lat_d ON svc_1m KEY (service) VALUE p99 USING 'auto' WATERMARK '30s' INTO anomalies
//!  ->  SELECT ts, 'lat_d' AS detector, service, CAST(p99 AS DOUBLE) AS value, a['score'] AS score, … FROM svc_1m
//!      with a = anomaly(CAST(p99 AS DOUBLE), method => 'auto') OVER (PARTITION BY service ORDER BY ts)
//! ```
//! All that holds of continuous queries holds of detectors: rows equal the SELECT, whatever the order of arrival. Several may write
//! to one table, which has the same value columns for all of them; a label says whose a row is.
use std::fmt::Write;

use datafusion::sql::sqlparser::tokenizer::Token;

use super::definition::{Definition, Emit};
use super::plan::TS;
use super::statement::Options;
use crate::error::{Error, Result};
use crate::statement::Cursor;
use crate::table::quoted;

/// The label that says which detector wrote a row.
pub(crate) const DETECTOR: &str = "detector";

/// Fields of `anomaly` that the table has.
const FIELDS: [&str; 6] = ["score", "expected", "lo", "hi", "is_anomaly", "tier"];

/// Reads what follows the name.
///
/// # Errors
/// `Invalid`, saying what was expected.
pub(super) fn read(name: String, cursor: &mut Cursor<'_>) -> Result<Definition> {
    cursor.expect("on")?;
    let mut table = quoted(&cursor.column("the table that it watches")?);
    if cursor.peek() == Some(&Token::Period) {
        cursor.take();
        table = format!("{table}.{}", quoted(&cursor.column("the name of a table")?));
    }
    let condition = match cursor.word("where") {
        true => format!(" WHERE {}", cursor.bracketed("a condition in brackets after WHERE")?),
        false => String::new(),
    };
    let keys = if cursor.word("key") { cursor.names("a label")? } else { Vec::new() };
    let own = |key: &&String| [TS, DETECTOR, "value"].contains(&key.as_str()) || FIELDS.contains(&key.as_str());
    if let Some(key) = keys.iter().find(own) {
        return Err(Error::invalid(format!(
            "KEY ({key}): {key} is not a label, or has the name of a column of the answer"
        )));
    }
    if cursor.word("time") && cursor.column("the time column")? != TS {
        return Err(Error::invalid("the time of every table is ts: write TIME ts"));
    }
    let value = match (cursor.word("value"), cursor.peek()) {
        (false, _) => quoted("value"),
        (true, Some(Token::LParen)) => format!("({})", cursor.bracketed("a number")?),
        (true, _) => quoted(&cursor.column("the column that it watches")?),
    };
    let method = match cursor.word("using") {
        true => cursor.text("a method such as 'auto'")?,
        false => "auto",
    };
    let season = if cursor.word("season") { Some(cursor.text("a length such as '1d'")?) } else { None };
    let mut options = Options::default();
    while options.read(cursor)? {}
    cursor.expect("into")?;
    let target = cursor.name("a table to write to")?;
    while options.read(cursor)? {}
    cursor.end_or("an option")?;

    let statement = cursor.statement().to_owned();
    let keys: Vec<String> = keys.iter().map(|key| quoted(key)).collect();
    let partition = if keys.is_empty() { String::new() } else { format!("PARTITION BY {} ", keys.join(", ")) };
    let value = format!("CAST({value} AS DOUBLE)");
    let season = season.map_or(String::new(), |season| format!(", season => {}", text(season)));
    let call = format!("anomaly({value}, method => {}{season}) OVER ({partition}ORDER BY ts)", text(method));
    let mut sql = format!("SELECT ts, {} AS {DETECTOR}, ", text(&name));
    for key in &keys {
        let _ = write!(sql, "{key}, ");
    }
    let _ = write!(sql, "{value} AS value");
    for field in FIELDS {
        let _ = write!(sql, ", {call}['{field}'] AS {field}");
    }
    let _ = write!(sql, " FROM {table}{condition}");
    if options.watermark_ns.is_some_and(|watermark| watermark > 0) && options.emit.is_none() {
        // Rows wait, so that one that is still filling is not judged.
        options.emit = Some(Emit::Close);
    }
    Ok(Definition { detector: Some(statement), ..options.definition(name, target, sql) })
}

/// `text` in quotes.
fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::statement::{ObjectStatement, parse};
    use super::*;

    fn definition(sql: &str) -> Definition {
        match parse(sql).unwrap().unwrap() {
            ObjectStatement::Create { definition, .. } => definition,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_detector_is_a_select_over_anomaly() {
        let made = definition(
            "CREATE DETECTOR Lat_D ON svc_1m KEY (service, \"Zone\") TIME ts VALUE p99 USING 'mad' WATERMARK '30s' INTO anomalies",
        );
        let call =
            "anomaly(CAST(\"p99\" AS DOUBLE), method => 'mad') OVER (PARTITION BY \"service\", \"Zone\" ORDER BY ts)";
        assert!(
            made.sql.starts_with(
                "SELECT ts, 'lat_d' AS detector, \"service\", \"Zone\", CAST(\"p99\" AS DOUBLE) AS value, "
            )
        );
        assert!(made.sql.contains(&format!("{call}['score'] AS score, {call}['expected'] AS expected, ")));
        assert!(made.sql.ends_with(" FROM \"svc_1m\""), "{}", made.sql);
        assert_eq!((made.name.as_str(), made.target.as_str(), made.emit), ("lat_d", "anomalies", Emit::Close));
        assert!(made.detector.unwrap().starts_with("CREATE DETECTOR Lat_D ON"));
    }

    #[test]
    fn everything_but_the_tables_can_be_left_out() {
        let made = definition("CREATE DETECTOR d ON metrics.\"a:b\" INTO t");
        assert!(made.sql.contains("anomaly(CAST(\"value\" AS DOUBLE), method => 'auto') OVER (ORDER BY ts)['hi']"));
        assert!(made.sql.ends_with(" FROM \"metrics\".\"a:b\""));
        assert_eq!(made.emit, Emit::Update);
        let made = definition(
            "CREATE DETECTOR d ON m WHERE (job = 'a') KEY (h) VALUE (value * 2) USING 'seasonal' SEASON '1d' INTO t LATE DROP",
        );
        assert!(made.sql.contains("CAST((value * 2) AS DOUBLE), method => 'seasonal', season => '1d')"));
        assert!(made.sql.ends_with(" FROM \"m\" WHERE job = 'a'"));
    }

    #[test]
    fn wrong_statements_say_what_was_expected() {
        for (sql, message) in [
            ("CREATE DETECTOR d", "expected ON, found the end of the statement"),
            ("CREATE DETECTOR d ON t", "expected INTO, found the end of the statement"),
            ("CREATE DETECTOR d ON t TIME when INTO u", "the time of every table is ts: write TIME ts"),
            (
                "CREATE DETECTOR d ON t INTO u SOMETIMES",
                "expected an option or the end of the statement, found SOMETIMES",
            ),
            ("CREATE DETECTOR d ON t USING 5 INTO u", "expected a method such as 'auto', found 5"),
        ] {
            assert_eq!(parse(sql).unwrap().unwrap_err().message, message, "{sql}");
        }
    }
}
