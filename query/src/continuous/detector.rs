//! `CREATE DETECTOR`: a continuous query over `anomaly(…)`, written for the user.
//!
//! ```text
//!  CREATE DETECTOR lat_d ON svc_1m KEY (service) VALUE p99 USING 'auto' WATERMARK '30s' INTO anomalies
//!  ->  SELECT ts, 'lat_d' AS detector, service, CAST(p99 AS DOUBLE) AS value, a['score'] AS score, … FROM svc_1m
//!      with a = anomaly(CAST(p99 AS DOUBLE), method => 'auto') OVER (PARTITION BY service ORDER BY ts)
//! ```
//! `USING MODEL lat` asks `model_score('lat', …)` instead, over all phases of the model.
//!
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

/// What tiers 1 and 2 are asked by.
const TIERS: [&str; 2] = ["subspace", "patches"];

/// Fields of `anomaly` that the table has.
const FIELDS: [&str; 6] = ["score", "expected", "lo", "hi", "is_anomaly", "tier"];
/// The version of a model that judged; NULL without a model.
const VERSION: &str = "version";

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
    let own =
        |key: &&String| [TS, DETECTOR, "value", VERSION].contains(&key.as_str()) || FIELDS.contains(&key.as_str());
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
    let using = cursor.word("using");
    let model = using && cursor.word("model");
    let method = match (model, using) {
        (true, _) => cursor.name("the name of a model")?,
        (_, true) => cursor.text("a method such as 'auto', or MODEL and its name")?.to_owned(),
        _ => "auto".to_owned(),
    };
    let season = if !model && cursor.word("season") { Some(cursor.text("a length such as '1d'")?) } else { None };
    let (mut options, mut steps) = (Options::default(), None);
    while options.read(cursor)? || escalate(cursor, &mut steps)? {}
    cursor.expect("into")?;
    let target = cursor.name("a table to write to")?;
    while options.read(cursor)? || escalate(cursor, &mut steps)? {}
    let method = format!("{method}{}", steps.unwrap_or_default());
    cursor.end_or("an option")?;

    let statement = cursor.statement().to_owned();
    let keys: Vec<String> = keys.iter().map(|key| quoted(key)).collect();
    let partition = if keys.is_empty() { String::new() } else { format!("PARTITION BY {} ", keys.join(", ")) };
    let value = format!("CAST({value} AS DOUBLE)");
    let season = season.map_or(String::new(), |season| format!(", season => {}", text(season)));
    let judge = match model {
        true => {
            let listed: String = keys.iter().map(|key| format!(", {key}")).collect();
            // All phases that there are, and that come.
            format!("model_score({}, {}, ts, {value}{listed})", text(&method), i64::MAX)
        }
        false => format!("anomaly({value}, method => {}{season})", text(&method)),
    };
    let call = format!("{judge} OVER ({partition}ORDER BY ts)");
    let mut sql = format!("SELECT ts, {} AS {DETECTOR}, ", text(&name));
    for key in &keys {
        let _ = write!(sql, "{key}, ");
    }
    let _ = write!(sql, "{value} AS value");
    for field in FIELDS {
        let _ = write!(sql, ", {call}['{field}'] AS {field}");
    }
    let version = if model { format!("{call}['{VERSION}']") } else { "NULL".to_owned() };
    let _ = write!(sql, ", CAST({version} AS INT) AS {VERSION}");
    let _ = write!(sql, " FROM {table}{condition}");
    if options.watermark_ns.is_some_and(|watermark| watermark > 0) && options.emit.is_none() {
        // Rows wait, so that one that is still filling is not judged.
        options.emit = Some(Emit::Close);
    }
    Ok(Definition { detector: Some(statement), ..options.definition(name, target, sql) })
}

/// Reads `ESCALATE (TIER 1 WHEN score > 0.5, …)`, if it comes, as what `anomaly` takes behind its method.
fn escalate(cursor: &mut Cursor<'_>, steps: &mut Option<String>) -> Result<bool> {
    if !cursor.word("escalate") {
        return Ok(false);
    }
    let mut last = 0;
    let given = cursor.list(|cursor| {
        cursor.expect("tier")?;
        let tier = cursor.number("1 or 2")?;
        let method = usize::try_from(tier).ok().and_then(|tier| TIERS.get(tier.checked_sub(1)?));
        let method = method.filter(|_| tier > last).ok_or_else(|| {
            Error::invalid(format!(
                "TIER {tier}: tiers above the detector's own are 1 ({}) and 2 ({}), each once and in this order",
                TIERS[0], TIERS[1]
            ))
        })?;
        last = tier;
        cursor.expect("when")?;
        cursor.expect("score")?;
        cursor.punctuation(&Token::Gt)?;
        let above = cursor.decimal("a score such as 0.8")?;
        Ok(format!(", {method} above {above}"))
    })?;
    match steps.replace(given.concat()) {
        None => Ok(true),
        Some(_) => Err(Error::invalid("ESCALATE is given twice")),
    }
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
    fn escalation_stands_behind_the_method() {
        let made = definition(
            "CREATE DETECTOR d ON m USING 'mad' WATERMARK '30s' ESCALATE (TIER 1 WHEN score > 0.5, TIER 2 WHEN score > 0.80) INTO t",
        );
        assert!(made.sql.contains("method => 'mad, subspace above 0.5, patches above 0.80')"), "{}", made.sql);
        let made = definition("CREATE DETECTOR d ON m INTO t ESCALATE (TIER 2 WHEN score > 1)");
        assert!(made.sql.contains("method => 'auto, patches above 1')"), "{}", made.sql);
    }

    #[test]
    fn a_detector_with_a_model_asks_it_by_the_key_in_the_order_given() {
        let made = definition(
            "CREATE DETECTOR d ON svc KEY (b, a) VALUE p99 USING MODEL Lat WATERMARK '30s' LATE REVISE WITHIN '10m' ESCALATE (TIER 2 WHEN score > 0.8) INTO t",
        );
        let call = "model_score('lat, patches above 0.8', 9223372036854775807, ts, CAST(\"p99\" AS DOUBLE), \"b\", \"a\") OVER (PARTITION BY \"b\", \"a\" ORDER BY ts)";
        assert!(made.sql.contains(&format!("{call}['score'] AS score, ")), "{}", made.sql);
        assert!(
            made.sql.ends_with(&format!(", CAST({call}['version'] AS INT) AS version FROM \"svc\"")),
            "{}",
            made.sql
        );
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
            (
                "CREATE DETECTOR d ON t ESCALATE (TIER 3 WHEN score > 1) INTO u",
                "TIER 3: tiers above the detector's own are 1 (subspace) and 2 (patches), each once and in this order",
            ),
            (
                "CREATE DETECTOR d ON t ESCALATE (TIER 2 WHEN score > 1, TIER 1 WHEN score > 2) INTO u",
                "TIER 1: tiers above the detector's own are 1 (subspace) and 2 (patches), each once and in this order",
            ),
            ("CREATE DETECTOR d ON t ESCALATE (TIER 1 WHEN score < 1) INTO u", "expected >, found <"),
            (
                "CREATE DETECTOR d ON t ESCALATE (TIER 1 WHEN score > 1) ESCALATE (TIER 2 WHEN score > 1) INTO u",
                "ESCALATE is given twice",
            ),
            (
                "CREATE DETECTOR d ON t USING 5 INTO u",
                "expected a method such as 'auto', or MODEL and its name, found 5",
            ),
            ("CREATE DETECTOR d ON t USING MODEL m SEASON '1d' INTO u", "expected INTO, found SEASON"),
        ] {
            assert_eq!(parse(sql).unwrap().unwrap_err().message, message, "{sql}");
        }
    }
}
