//! Statements about models.
//!
//! ```text
//!  CREATE MODEL [IF NOT EXISTS] name TYPE ANOMALY ON (SELECT …) KEY (column, …) TIME column VALUE column
//!         [USING 'auto'] [SEASONALITY AUTO | '1d'] [SEED 7] [LAST '14d'] [WATERMARK '1m'] [RETRAIN EVERY '1d']
//!         [PROMOTE AUTO | MANUAL] [ROLLBACK AUTO | MANUAL]
//!  RETRAIN MODEL name [VERIFY [VERSION n]]
//!  ALTER MODEL name PROMOTE [VERSION n] | ROLLBACK
//!  SHOW MODELS        DESCRIBE MODEL name        DROP MODEL [IF EXISTS] name
//!  LABEL ANOMALY 8123 AS 'false_positive' | 'true_positive'
//! ```
use foretell_ml::detect::Method;

use super::definition::{Definition, Label, WATERMARK_NS_DEFAULT};
use crate::duration;
use crate::error::{Error, Result};
use crate::statement::{Cursor, expected, tokens};

/// A statement about models.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ModelStatement {
    /// `CREATE MODEL`
    Create {
        /// What to learn.
        definition: Definition,
        /// Whether an existing model of that name is fine.
        if_not_exists: bool,
    },
    /// `RETRAIN MODEL`
    Retrain {
        /// Name.
        name: String,
    },
    /// `RETRAIN MODEL … VERIFY`
    Verify {
        /// Name.
        name: String,
        /// The champion unless given.
        version: Option<u32>,
    },
    /// `ALTER MODEL … PROMOTE`
    Promote {
        /// Name.
        name: String,
        /// The challenger unless given.
        version: Option<u32>,
    },
    /// `ALTER MODEL … ROLLBACK`
    RollBack {
        /// Name.
        name: String,
    },
    /// `SHOW MODELS`
    Show,
    /// `DESCRIBE MODEL`
    Describe {
        /// Name.
        name: String,
    },
    /// `DROP MODEL`
    Drop {
        /// Name.
        name: String,
        /// Whether a missing model is fine.
        if_exists: bool,
    },
    /// `LABEL ANOMALY`
    Label {
        /// Of `sys.anomalies`.
        id: u64,
        /// What somebody says of it.
        label: Label,
    },
}

const VERBS: [&str; 8] = ["create", "retrain", "alter", "show", "describe", "desc", "drop", "label"];

/// The statement in `sql` if it is one about models; `None` leaves the text to others.
pub(crate) fn parse(sql: &str) -> Option<Result<ModelStatement>> {
    let tokens = tokens(sql, &VERBS)?;
    let mut cursor = Cursor::new(sql, &tokens);
    let verb = VERBS.into_iter().find(|verb| cursor.word(verb))?;
    let object = match verb {
        "show" => "models",
        "label" => "anomaly",
        _ => "model",
    };
    if !cursor.word(object) {
        return None;
    }
    Some(read(verb, cursor))
}

fn read(verb: &str, mut cursor: Cursor<'_>) -> Result<ModelStatement> {
    const NAME: &str = "the name of a model";
    let statement = match verb {
        "create" => return create(cursor),
        "show" => ModelStatement::Show,
        "label" => {
            let id = cursor.number("the id of an anomaly, from sys.anomalies")?;
            cursor.expect("as")?;
            ModelStatement::Label { id, label: cursor.text("'false_positive' or 'true_positive'")?.parse()? }
        }
        "drop" => {
            let if_exists = cursor.if_exists()?;
            ModelStatement::Drop { name: cursor.name(NAME)?, if_exists }
        }
        "retrain" => {
            let name = cursor.name(NAME)?;
            match cursor.word("verify") {
                true => ModelStatement::Verify { name, version: version(&mut cursor)? },
                false => ModelStatement::Retrain { name },
            }
        }
        "alter" => {
            let name = cursor.name(NAME)?;
            match (cursor.word("promote"), cursor.word("rollback")) {
                (true, _) => ModelStatement::Promote { name, version: version(&mut cursor)? },
                (_, true) => ModelStatement::RollBack { name },
                _ => return Err(expected("PROMOTE or ROLLBACK", cursor.peek())),
            }
        }
        _ => ModelStatement::Describe { name: cursor.name(NAME)? },
    };
    cursor.end()?;
    Ok(statement)
}

fn version(cursor: &mut Cursor<'_>) -> Result<Option<u32>> {
    if !cursor.word("version") {
        return Ok(None);
    }
    let version = cursor.number("the number of a version")?;
    u32::try_from(version).map(Some).map_err(|_| Error::invalid(format!("there is no version {version}")))
}

fn create(mut cursor: Cursor<'_>) -> Result<ModelStatement> {
    let if_not_exists = cursor.if_not_exists()?;
    let name = cursor.name("a name for the model")?;
    cursor.expect("type")?;
    if !cursor.word("anomaly") {
        return Err(expected("ANOMALY, the one type there is", cursor.peek()));
    }
    cursor.expect("on")?;
    let sql = cursor.bracketed("(SELECT …)")?.to_owned();
    let keys = if cursor.word("key") { cursor.names("a column")? } else { Vec::new() };
    cursor.expect("time")?;
    let time = cursor.column("the column of times")?;
    cursor.expect("value")?;
    let value = cursor.column("the column of values")?;
    let mut definition = Definition {
        name,
        sql,
        keys,
        time,
        value,
        method: Method::Auto,
        season_ns: None,
        seed: 0,
        last_ns: None,
        watermark_ns: WATERMARK_NS_DEFAULT,
        retrain_ns: None,
        promotes: true,
        rolls_back: true,
    };
    while let Some(option) = OPTIONS.into_iter().find(|option| cursor.word(option)) {
        match option {
            "using" => {
                let method = cursor.text("a method in quotes, such as 'auto'")?;
                definition.method = method.parse().map_err(|e: foretell_ml::Error| Error::invalid(e.to_string()))?;
            }
            "seasonality" => {
                definition.season_ns = if cursor.word("auto") { None } else { Some(cursor.duration("SEASONALITY")?) };
            }
            "seed" => definition.seed = cursor.number("a whole number after SEED")?,
            "last" => definition.last_ns = Some(cursor.duration("LAST")?),
            "watermark" => {
                definition.watermark_ns = match cursor.text("a duration such as '30s', or '0s', after WATERMARK")? {
                    "0" | "0s" => 0,
                    text => duration::parse(text)?,
                };
            }
            "retrain" => {
                cursor.expect("every")?;
                definition.retrain_ns = Some(cursor.duration("RETRAIN EVERY")?);
            }
            "promote" => definition.promotes = automatic(&mut cursor)?,
            _ => definition.rolls_back = automatic(&mut cursor)?,
        }
    }
    cursor.end().map_err(|error| {
        Error::invalid(format!("{}; options are {}", error.message, OPTIONS.join(", ").to_ascii_uppercase()))
    })?;
    Ok(ModelStatement::Create { definition, if_not_exists })
}

/// Clauses after VALUE, in any order.
const OPTIONS: [&str; 8] = ["using", "seasonality", "seed", "last", "watermark", "retrain", "promote", "rollback"];

fn automatic(cursor: &mut Cursor<'_>) -> Result<bool> {
    match (cursor.word("auto"), cursor.word("manual")) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err(expected("AUTO or MANUAL", cursor.peek())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn create_keeps_the_select_and_every_option() {
        let sql = "CREATE MODEL \"Lat\" TYPE ANOMALY ON ( SELECT ts, 'ä)' AS s, (p99) FROM svc_1m ) KEY (service, \"Zone\") TIME ts \
                   VALUE p99 SEED 7 SEASONALITY '1d' USING 'mad' LAST '14d' WATERMARK '0s' RETRAIN EVERY '1d' PROMOTE MANUAL \
                   ROLLBACK AUTO;";
        let Some(Ok(ModelStatement::Create { definition, if_not_exists: false })) = parse(sql) else { panic!() };
        let day = 86_400_000_000_000;
        assert_eq!(
            definition,
            Definition {
                name: "Lat".into(),
                sql: "SELECT ts, 'ä)' AS s, (p99) FROM svc_1m".into(),
                keys: vec!["service".into(), "Zone".into()],
                time: "ts".into(),
                value: "p99".into(),
                method: Method::Mad,
                season_ns: Some(day),
                seed: 7,
                last_ns: Some(14 * day),
                watermark_ns: 0,
                retrain_ns: Some(day),
                promotes: false,
                rolls_back: true,
            }
        );
    }

    #[test]
    fn short_statements_are_recognised() {
        let name = || "lat".to_owned();
        for (sql, statement) in [
            ("show models", ModelStatement::Show),
            ("DESC MODEL lat", ModelStatement::Describe { name: name() }),
            ("DROP MODEL IF EXISTS Lat;", ModelStatement::Drop { name: name(), if_exists: true }),
            ("RETRAIN MODEL lat", ModelStatement::Retrain { name: name() }),
            ("RETRAIN MODEL lat VERIFY VERSION 3", ModelStatement::Verify { name: name(), version: Some(3) }),
            ("ALTER MODEL lat ROLLBACK", ModelStatement::RollBack { name: name() }),
            ("ALTER MODEL lat PROMOTE", ModelStatement::Promote { name: name(), version: None }),
            ("LABEL ANOMALY 8123 AS 'false_positive'", ModelStatement::Label { id: 8123, label: Label::FalsePositive }),
        ] {
            assert_eq!(parse(sql).unwrap().unwrap(), statement, "{sql}");
        }
        for sql in ["SELECT 1", "CREATE CONTINUOUS QUERY q INTO t AS SELECT 1", "SHOW TABLES", "DROP TABLE model"] {
            assert!(parse(sql).is_none(), "{sql}");
        }
    }

    #[test]
    fn wrong_statements_say_what_was_expected() {
        for (sql, message) in [
            ("CREATE MODEL m TYPE FORECAST ON (SELECT 1)", "expected ANOMALY, the one type there is, found FORECAST"),
            ("CREATE MODEL m TYPE ANOMALY ON SELECT 1", "expected (SELECT …), found SELECT"),
            ("CREATE MODEL m TYPE ANOMALY ON (SELECT 1", "expected ), found the end of the statement"),
            ("CREATE MODEL m TYPE ANOMALY ON (SELECT 1) KEY () TIME ts VALUE v", "expected a column, found )"),
            (
                "CREATE MODEL m TYPE ANOMALY ON (SELECT 1) TIME ts VALUE v SEED 'x'",
                "expected a whole number after SEED, found 'x'",
            ),
            (
                "CREATE MODEL m TYPE ANOMALY ON (SELECT 1) TIME ts VALUE v SEEDS 1",
                "expected the end of the statement, found SEEDS; options are USING, SEASONALITY, SEED, LAST, WATERMARK, RETRAIN, PROMOTE, ROLLBACK",
            ),
            ("ALTER MODEL m PAUSE", "expected PROMOTE or ROLLBACK, found PAUSE"),
            ("LABEL ANOMALY 3 AS 'wrong'", "unknown label 'wrong': known are 'false_positive' and 'true_positive'"),
        ] {
            assert_eq!(parse(sql).unwrap().unwrap_err().message, message, "{sql}");
        }
        let unknown = parse("CREATE MODEL m TYPE ANOMALY ON (SELECT 1) TIME ts VALUE v USING 'prophet'").unwrap();
        assert!(unknown.unwrap_err().message.contains("known methods are: auto"));
    }
}
