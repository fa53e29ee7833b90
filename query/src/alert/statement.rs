//! Statements about alerts.
//!
//! ```text
//!  CREATE [OR REPLACE] ALERT [IF NOT EXISTS] name
//!      ON DETECTOR d [WHERE condition] | ON (SELECT …) | ON PROMQL '…'
//!      [EVERY '15s'] [FOR '2m'] [KEEP FIRING FOR '5m'] [LABELS (severity = 'page', …)] [ANNOTATIONS (summary = '…', …)]
//!      [NOTIFY (WEBHOOK 'http://…', ALERTMANAGER 'http://…', …)]
//!  CREATE [OR REPLACE] SILENCE [IF NOT EXISTS] name [ON '{severity="info"}']
//!      FROM '2026-01-01' UNTIL '2026-01-02' | FOR '2h' | DAILY FROM '02:00' FOR '1h' | WEEKLY ON (sat, sun) FROM '22:00' FOR '8h'
//!      [COMMENT '…']
//!  EXPLAIN CREATE …   what it would change
//!  SHOW ALERTS        DESCRIBE ALERT name        DROP ALERT [IF EXISTS] name
//!  SHOW SILENCES                                 DROP SILENCE [IF EXISTS] name
//! ```
use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use datafusion::sql::sqlparser::tokenizer::Token;
use foretell_engine::clock::{Clock, SystemClock};

use super::definition::{Definition, On, Target};
use super::silence::{DAYS, Silence, When};
use crate::error::{Error, Result};
use crate::statement::{Cursor, Existing, Opening, expected, tokens};

/// How often a SELECT or a PromQL expression is asked unless the statement says.
const EVERY_NS_DEFAULT: i64 = 15_000_000_000;
/// What holds of a detector's row unless the statement says.
const CONDITION: &str = "is_anomaly";
/// What a silence holds back unless it says.
const EVERY_ALERT: &str = "{alertname=~\".+\"}";
/// Longest condition or annotation, bytes.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// Labels, annotations and targets of an alert.
const PAIRS_MAX: usize = 64;

/// A statement about alerts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AlertStatement {
    /// `CREATE ALERT`
    Create {
        /// What to watch.
        definition: Definition,
        /// What happens to one of the same name.
        existing: Existing,
    },
    /// `EXPLAIN CREATE ALERT`: what it would change.
    Preview(Definition),
    /// `SHOW ALERTS`
    Show,
    /// `DESCRIBE ALERT`
    Describe(String),
    /// `DROP ALERT`
    Drop {
        /// Name.
        name: String,
        /// Whether a missing one is fine.
        if_exists: bool,
    },
    /// `CREATE SILENCE`
    Silence {
        /// What is quiet, and when.
        silence: Silence,
        /// What happens to one of the same name.
        existing: Existing,
    },
    /// `EXPLAIN CREATE SILENCE`: what it would change.
    PreviewSilence(Silence),
    /// `SHOW SILENCES`
    ShowSilences,
    /// `DROP SILENCE`
    DropSilence {
        /// Name.
        name: String,
        /// Whether a missing one is fine.
        if_exists: bool,
    },
}

const VERBS: [&str; 6] = ["create", "explain", "show", "describe", "desc", "drop"];

/// The statement in `sql` if it is one about alerts; `None` leaves the text to others.
pub(crate) fn parse(sql: &str) -> Option<Result<AlertStatement>> {
    let tokens = tokens(sql, &VERBS)?;
    let mut cursor = Cursor::new(sql, &tokens);
    // Nothing but CREATE is explained.
    let opening = Opening::read(&mut cursor, &VERBS).filter(|opening| opening.verb != "explain")?;
    if cursor.word(if opening.verb == "show" { "silences" } else { "silence" }) {
        return Some(read_silence(opening, cursor));
    }
    cursor.word(if opening.verb == "show" { "alerts" } else { "alert" }).then(|| read(opening, cursor))
}

fn read_silence(opening: Opening, mut cursor: Cursor<'_>) -> Result<AlertStatement> {
    let statement = match opening.verb {
        "create" => {
            let existing = cursor.existing(opening.replace)?;
            let silence = silence(&mut cursor)?;
            if opening.preview {
                AlertStatement::PreviewSilence(silence)
            } else {
                AlertStatement::Silence { silence, existing }
            }
        }
        "show" => AlertStatement::ShowSilences,
        "drop" => {
            let if_exists = cursor.if_exists()?;
            AlertStatement::DropSilence { name: cursor.name("the name of a silence")?, if_exists }
        }
        _ => return Err(Error::invalid("silences are listed by SHOW SILENCES")),
    };
    cursor.end()?;
    Ok(statement)
}

fn silence(cursor: &mut Cursor<'_>) -> Result<Silence> {
    let name = cursor.name("a name for the silence")?;
    let matcher = match cursor.word("on") {
        true => bounded(cursor.text("a selector of alerts in quotes, such as '{severity=\"info\"}'")?)?.to_owned(),
        false => EVERY_ALERT.to_owned(),
    };
    let when = when(cursor)?;
    let comment = match cursor.word("comment") {
        true => bounded(cursor.text("a text in quotes")?)?.to_owned(),
        false => String::new(),
    };
    Ok(Silence { name, matcher, when, comment })
}

fn when(cursor: &mut Cursor<'_>) -> Result<When> {
    let daily = cursor.word("daily");
    if daily || cursor.word("weekly") {
        let mut days = if daily { When::DAILY } else { 0 };
        if !daily {
            cursor.expect("on")?;
            for name in cursor.names("a day such as mon")? {
                let day = DAYS.iter().position(|day| *day == name);
                let day =
                    day.ok_or_else(|| Error::invalid(format!("{name} is no day: write one of {}", DAYS.join(", "))))?;
                days |= 1 << day;
            }
        }
        cursor.expect("from")?;
        let text = cursor.text("a time of the day such as '02:00'")?;
        let minutes = text.split_once(':').and_then(|(hour, minute)| {
            let (hour, minute) = (hour.parse::<i64>().ok()?, minute.parse::<i64>().ok()?);
            ((0..24).contains(&hour) && (0..60).contains(&minute)).then_some(hour * 60 + minute)
        });
        let minutes =
            minutes.ok_or_else(|| Error::invalid(format!("'{text}' is no time of the day such as '02:00'")))?;
        cursor.expect("for")?;
        return Ok(When::Weekly { days, from: minutes * 60_000_000_000, length: cursor.duration("FOR")? });
    }
    if cursor.word("for") {
        let now = SystemClock.now_ns();
        return Ok(When::Once { from: now, until: now.saturating_add(cursor.duration("FOR")?) });
    }
    if !cursor.word("from") {
        return Err(expected("FROM, FOR, DAILY or WEEKLY", cursor.peek()));
    }
    let from = instant(cursor.text("a time such as '2026-01-01T22:00:00Z'")?)?;
    cursor.expect("until")?;
    let until = instant(cursor.text("a time such as '2026-01-02T06:00:00Z'")?)?;
    if until <= from {
        return Err(Error::invalid("the silence ends before it begins: UNTIL must be after FROM"));
    }
    Ok(When::Once { from, until })
}

fn instant(text: &str) -> Result<i64> {
    string_to_timestamp_nanos(text)
        .map_err(|_| Error::invalid(format!("'{text}' is no time such as '2026-01-01T22:00:00Z'")))
}

fn read(opening: Opening, mut cursor: Cursor<'_>) -> Result<AlertStatement> {
    const NAME: &str = "the name of an alert";
    let statement = match opening.verb {
        "create" => {
            let existing = cursor.existing(opening.replace)?;
            let definition = create(&mut cursor)?;
            if opening.preview {
                AlertStatement::Preview(definition)
            } else {
                AlertStatement::Create { definition, existing }
            }
        }
        "show" => AlertStatement::Show,
        "drop" => {
            let if_exists = cursor.if_exists()?;
            AlertStatement::Drop { name: cursor.name(NAME)?, if_exists }
        }
        _ => AlertStatement::Describe(cursor.name(NAME)?),
    };
    cursor.end()?;
    Ok(statement)
}

fn create(cursor: &mut Cursor<'_>) -> Result<Definition> {
    let name = cursor.name("a name for the alert")?;
    cursor.expect("on")?;
    let on = if cursor.word("detector") {
        let detector = cursor.name("the name of a detector")?;
        let condition = match cursor.word("where") {
            true => cursor.until(&["for", "keep", "every", "labels", "annotations", "notify"], "a condition")?,
            false => CONDITION,
        };
        On::Detector { name: detector, condition: bounded(condition)?.to_owned() }
    } else if cursor.word("promql") {
        On::Promql(cursor.text("an expression in quotes")?.to_owned())
    } else {
        On::Select(cursor.bracketed("DETECTOR, PROMQL or a SELECT in brackets")?.to_owned())
    };
    let mut definition = Definition {
        name,
        on,
        every_ns: EVERY_NS_DEFAULT,
        hold_ns: 0,
        keep_ns: 0,
        labels: Vec::new(),
        annotations: Vec::new(),
        notify: Vec::new(),
        statement: cursor.statement().to_owned(),
    };
    loop {
        if cursor.word("every") {
            definition.every_ns = cursor.duration("EVERY")?;
        } else if cursor.word("for") {
            definition.hold_ns = cursor.duration("FOR")?;
        } else if cursor.word("keep") {
            cursor.expect("firing")?;
            cursor.expect("for")?;
            definition.keep_ns = cursor.duration("KEEP FIRING FOR")?;
        } else if cursor.word("labels") {
            definition.labels = pairs(cursor, "a label")?;
        } else if cursor.word("annotations") {
            definition.annotations = pairs(cursor, "an annotation")?;
        } else if cursor.word("notify") {
            definition.notify = targets(cursor)?;
        } else {
            break;
        }
    }
    if let Some((label, _)) = definition.labels.iter().find(|(label, _)| matches!(&**label, "alertname" | "alertstate"))
    {
        return Err(Error::invalid(format!("the label {label} is made by the alert itself: choose another name")));
    }
    cursor.end_or("EVERY, FOR, KEEP FIRING FOR, LABELS, ANNOTATIONS, NOTIFY")?;
    Ok(definition)
}

/// `(name = 'text', …)`
fn pairs(cursor: &mut Cursor<'_>, what: &str) -> Result<Vec<(String, String)>> {
    cursor
        .list(|cursor| {
            let name = cursor.column(what)?;
            cursor.punctuation(&Token::Eq)?;
            Ok((name, bounded(cursor.text("a text in quotes")?)?.to_owned()))
        })
        .and_then(few)
}

/// `(WEBHOOK 'url', ALERTMANAGER 'url', …)`
fn targets(cursor: &mut Cursor<'_>) -> Result<Vec<Target>> {
    cursor
        .list(|cursor| {
            let webhook = cursor.word("webhook");
            if !webhook && !cursor.word("alertmanager") {
                return Err(expected("WEBHOOK or ALERTMANAGER", cursor.peek()));
            }
            let url = bounded(cursor.text("a URL in quotes")?)?;
            if !url.starts_with("http://") || url.len() < "http://x".len() {
                return Err(Error::invalid(format!(
                    "'{url}' is no URL that begins with http://: others are reached by a proxy"
                )));
            }
            Ok(if webhook { Target::Webhook(url.to_owned()) } else { Target::Alertmanager(url.to_owned()) })
        })
        .and_then(few)
}

fn few<T>(list: Vec<T>) -> Result<Vec<T>> {
    if list.len() > PAIRS_MAX {
        return Err(Error::invalid(format!("a list has {} items, the limit is {PAIRS_MAX}", list.len())));
    }
    Ok(list)
}

fn bounded(text: &str) -> Result<&str> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Error::invalid(format!("a text has {} bytes, the limit is {TEXT_BYTES_MAX}", text.len())));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const S: i64 = 1_000_000_000;

    #[test]
    fn silences_are_once_daily_or_weekly() {
        let silence = |sql: &str| match parse(sql).unwrap().unwrap() {
            AlertStatement::Silence { silence, .. } => silence,
            other => panic!("{other:?}"),
        };
        let night = silence(
            "CREATE SILENCE night ON '{team=\"a\"}' WEEKLY ON (sat, Sun) FROM '22:30' FOR '8h' COMMENT 'backups'",
        );
        assert_eq!((night.matcher.as_str(), night.comment.as_str()), ("{team=\"a\"}", "backups"));
        assert_eq!(night.when.to_string(), "on sat, sun from 22:30 for 8h");
        let once = silence("CREATE OR REPLACE SILENCE s FROM '2026-01-01T00:00:00Z' UNTIL '2026-01-02'");
        assert_eq!(
            (once.matcher.as_str(), once.when),
            (EVERY_ALERT, When::Once { from: 1_767_225_600 * S, until: 1_767_312_000 * S })
        );
        assert_eq!(silence("CREATE SILENCE d DAILY FROM '02:00' FOR '1h'").when.to_string(), "daily from 02:00 for 1h");
        assert!(
            matches!(silence("CREATE SILENCE n FOR '2h'").when, When::Once { from, until } if until - from == 7_200 * S)
        );
        assert_eq!(parse("SHOW SILENCES").unwrap().unwrap(), AlertStatement::ShowSilences);
        let dropped = AlertStatement::DropSilence { name: "n".into(), if_exists: true };
        assert_eq!(parse("DROP SILENCE IF EXISTS n").unwrap().unwrap(), dropped);
        for (sql, message) in [
            ("CREATE SILENCE s", "expected FROM, FOR, DAILY or WEEKLY, found the end of the statement"),
            ("CREATE SILENCE s DAILY FROM '25:00' FOR '1h'", "'25:00' is no time of the day such as '02:00'"),
            (
                "CREATE SILENCE s WEEKLY ON (someday) FROM '2:00' FOR '1h'",
                "someday is no day: write one of mon, tue, wed, thu, fri, sat, sun",
            ),
            (
                "CREATE SILENCE s FROM '2026-01-02' UNTIL '2026-01-01'",
                "the silence ends before it begins: UNTIL must be after FROM",
            ),
            ("CREATE SILENCE s FROM 'now' UNTIL '2026-01-01'", "'now' is no time such as '2026-01-01T22:00:00Z'"),
        ] {
            assert_eq!(parse(sql).unwrap().unwrap_err().message, message, "{sql}");
        }
    }

    fn create(sql: &str) -> Definition {
        match parse(sql).unwrap().unwrap() {
            AlertStatement::Create { definition, .. } => definition,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_alert_on_a_detector_has_everything() {
        let made = create(
            "CREATE ALERT Lat_High ON DETECTOR lat_d WHERE score > 1 AND (tier = 0) FOR '2m' KEEP FIRING FOR '5m' \
             LABELS (severity = 'page', \"Team\" = 'a') ANNOTATIONS (summary = '{{ $labels.x }} is slow') \
             NOTIFY (WEBHOOK 'http://a/b', ALERTMANAGER 'http://c:9093');",
        );
        assert_eq!(made.name, "lat_high");
        assert_eq!(made.on, On::Detector { name: "lat_d".into(), condition: "score > 1 AND (tier = 0)".into() });
        assert_eq!((made.hold_ns, made.keep_ns), (120 * S, 300 * S));
        assert_eq!(made.labels, [("severity".into(), "page".into()), ("Team".into(), "a".into())]);
        assert_eq!(made.annotations, [("summary".into(), "{{ $labels.x }} is slow".into())]);
        assert_eq!(made.notify, [Target::Webhook("http://a/b".into()), Target::Alertmanager("http://c:9093".into())]);
        assert!(made.statement.starts_with("CREATE ALERT Lat_High") && made.statement.ends_with("9093')"));
    }

    #[test]
    fn a_select_and_promql_are_asked_every_so_often() {
        let made = create("CREATE ALERT a ON (SELECT host, max(value) FROM m GROUP BY host) EVERY '5s'");
        assert_eq!(
            (made.on, made.every_ns),
            (On::Select("SELECT host, max(value) FROM m GROUP BY host".into()), 5 * S)
        );
        let made = create("CREATE ALERT a ON PROMQL 'up == 0'");
        assert_eq!((made.on, made.every_ns), (On::Promql("up == 0".into()), 15 * S));
        let made = create("CREATE ALERT a ON DETECTOR d");
        assert_eq!(made.on, On::Detector { name: "d".into(), condition: "is_anomaly".into() });
    }

    #[test]
    fn wrong_statements_say_what_was_expected() {
        for (sql, message) in [
            ("CREATE ALERT a", "expected ON, found the end of the statement"),
            ("CREATE ALERT a ON cpu", "expected DETECTOR, PROMQL or a SELECT in brackets, found cpu"),
            ("CREATE ALERT a ON DETECTOR d WHERE FOR '1m'", "expected a condition, found FOR"),
            ("CREATE ALERT a ON PROMQL 'up' NOTIFY (MAIL 'x')", "expected WEBHOOK or ALERTMANAGER, found MAIL"),
            (
                "CREATE ALERT a ON PROMQL 'up' NOTIFY (WEBHOOK 'ftp://x')",
                "'ftp://x' is no URL that begins with http://: others are reached by a proxy",
            ),
            (
                "CREATE ALERT a ON PROMQL 'up' LABELS (alertname = 'b')",
                "the label alertname is made by the alert itself: choose another name",
            ),
            (
                "CREATE ALERT a ON PROMQL 'up' SOMETIMES",
                "expected EVERY, FOR, KEEP FIRING FOR, LABELS, ANNOTATIONS, NOTIFY or the end of the statement, found SOMETIMES",
            ),
        ] {
            assert_eq!(parse(sql).unwrap().unwrap_err().message, message, "{sql}");
        }
        assert!(parse("CREATE TABLE alert (a int)").is_none());
    }
}
