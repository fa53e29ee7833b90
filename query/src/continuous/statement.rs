//! Statements about continuous queries and detectors, recognised on tokens before DataFusion sees the text.
//!
//! ```text
//!  CREATE [OR REPLACE] CONTINUOUS QUERY [IF NOT EXISTS] name INTO table [option …] AS SELECT …
//!  CREATE [OR REPLACE] DETECTOR [IF NOT EXISTS] name ON table [WHERE (…)] [KEY (column, …)] [TIME ts] [VALUE column | (…)]
//!         [USING 'method' [SEASON '1d'] | USING MODEL model] [option …] INTO table
//!  option: WATERMARK '30s' | EMIT ON UPDATE | EMIT ON WINDOW CLOSE | LATE REVISE [WITHIN '1h'] | LATE DROP | LATE INTO table
//!          | BACKFILL FROM '2026-01-01' | BACKFILL FROM '7d' | BACKFILL NONE
//!  SHOW CONTINUOUS QUERIES | DETECTORS
//!  EXPLAIN CREATE …                                                    what it would change
//!  DESCRIBE | EXPLAIN CONTINUOUS QUERY | DETECTOR name                 (or DESC)
//!  ALTER CONTINUOUS QUERY | DETECTOR name PAUSE | RESUME
//!  DROP CONTINUOUS QUERY | DETECTOR [IF EXISTS] name
//! ```
//! Names fold to lower case unless quoted, as table names do.
use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use foretell_engine::clock::{Clock, SystemClock};

use super::definition::{Definition, Emit, Late};
use super::detector;
use crate::duration;
use crate::error::{Error, Result};
use crate::statement::{Cursor, Existing, Opening, expected, tokens};

/// How far behind the newest sample windows stay open when the statement does not say.
const WATERMARK_NS_DEFAULT: i64 = 300_000_000_000;

/// What a statement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noun {
    /// A continuous query.
    Query,
    /// A detector.
    Detector,
}

impl Noun {
    /// As it is written in sentences.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Query => "continuous query",
            Self::Detector => "detector",
        }
    }
    /// Their table in schema `sys`.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::Query => "continuous_queries",
            Self::Detector => "detectors",
        }
    }
    /// What lists all of them.
    pub(crate) fn listed_by(self) -> &'static str {
        match self {
            Self::Query => "SHOW CONTINUOUS QUERIES",
            Self::Detector => "SHOW DETECTORS",
        }
    }
}

/// A statement about continuous queries or detectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ObjectStatement {
    /// `CREATE`
    Create {
        /// What to create.
        definition: Definition,
        /// What happens to one of the same name.
        existing: Existing,
    },
    /// `EXPLAIN CREATE`: what it would change.
    Preview(Definition),
    /// `SHOW`
    Show(Noun),
    /// `DESCRIBE`
    Describe(Noun, String),
    /// `EXPLAIN`
    Explain(Noun, String),
    /// `ALTER … PAUSE | RESUME`
    Pause {
        /// Which kind.
        noun: Noun,
        /// Name.
        name: String,
        /// Whether it rests from now on.
        paused: bool,
    },
    /// `DROP`
    Drop {
        /// Which kind.
        noun: Noun,
        /// Name.
        name: String,
        /// Whether a missing one is fine.
        if_exists: bool,
    },
}

const VERBS: [&str; 7] = ["create", "alter", "explain", "show", "describe", "desc", "drop"];

/// The statement in `sql` if it is one about continuous queries or detectors; `None` leaves the text to the SQL planner.
pub(crate) fn parse(sql: &str) -> Option<Result<ObjectStatement>> {
    let tokens = tokens(sql, &VERBS)?;
    let mut cursor = Cursor::new(sql, &tokens);
    let opening = Opening::read(&mut cursor, &VERBS)?;
    let shows = opening.verb == "show";
    if cursor.word("continuous") {
        let query = cursor.expect(if shows { "queries" } else { "query" });
        return Some(query.and_then(|()| read(opening, Noun::Query, cursor)));
    }
    cursor.word(if shows { "detectors" } else { "detector" }).then(|| read(opening, Noun::Detector, cursor))
}

fn read(opening: Opening, noun: Noun, mut cursor: Cursor<'_>) -> Result<ObjectStatement> {
    let name = |cursor: &mut Cursor<'_>| cursor.name(&format!("the name of a {}", noun.name()));
    let statement = match opening.verb {
        "create" => {
            let (definition, existing) = create(opening.replace, noun, cursor)?;
            return Ok(if opening.preview {
                ObjectStatement::Preview(definition)
            } else {
                ObjectStatement::Create { definition, existing }
            });
        }
        "show" => ObjectStatement::Show(noun),
        "drop" => {
            let if_exists = cursor.if_exists()?;
            ObjectStatement::Drop { noun, name: name(&mut cursor)?, if_exists }
        }
        "alter" => {
            let name = name(&mut cursor)?;
            let paused = cursor.word("pause");
            if !paused && !cursor.word("resume") {
                return Err(expected("PAUSE or RESUME", cursor.peek()));
            }
            ObjectStatement::Pause { noun, name, paused }
        }
        "explain" => ObjectStatement::Explain(noun, name(&mut cursor)?),
        _ => ObjectStatement::Describe(noun, name(&mut cursor)?),
    };
    cursor.end()?;
    Ok(statement)
}

fn create(replace: bool, noun: Noun, mut cursor: Cursor<'_>) -> Result<(Definition, Existing)> {
    let existing = cursor.existing(replace)?;
    let name = cursor.name(&format!("a name for the {}", noun.name()))?;
    let definition = match noun {
        Noun::Query => query(name, &mut cursor)?,
        Noun::Detector => detector::read(name, &mut cursor)?,
    };
    Ok((definition, existing))
}

fn query(name: String, cursor: &mut Cursor<'_>) -> Result<Definition> {
    cursor.expect("into")?;
    let target = cursor.name("a table to write to")?;
    let mut options = Options::default();
    while options.read(cursor)? {}
    cursor.expect("as")?;
    let sql = cursor.rest("SELECT …")?;
    Ok(options.definition(name, target, sql.to_owned()))
}

/// Options that both kinds have.
#[derive(Default)]
pub(super) struct Options {
    pub(super) watermark_ns: Option<i64>,
    pub(super) emit: Option<Emit>,
    late: Option<Late>,
    from: Option<i64>,
}

impl Options {
    /// Reads one if one comes.
    ///
    /// # Errors
    /// `Invalid`, saying what was expected.
    pub(super) fn read(&mut self, cursor: &mut Cursor<'_>) -> Result<bool> {
        if cursor.word("watermark") {
            once(&mut self.watermark_ns, "WATERMARK", length(cursor, "WATERMARK")?)?;
        } else if cursor.word("emit") {
            cursor.expect("on")?;
            let on_close = cursor.word("window");
            cursor.expect(if on_close { "close" } else { "update" })?;
            once(&mut self.emit, "EMIT", if on_close { Emit::Close } else { Emit::Update })?;
        } else if cursor.word("late") {
            let late = if cursor.word("drop") {
                Late::Within(0)
            } else if cursor.word("into") {
                Late::Into(cursor.name("a table for late rows")?)
            } else {
                cursor.expect("revise")?;
                if cursor.word("within") { Late::Within(length(cursor, "WITHIN")?) } else { Late::Revise }
            };
            once(&mut self.late, "LATE", late)?;
        } else if cursor.word("backfill") {
            let from = if cursor.word("none") {
                SystemClock.now_ns()
            } else {
                cursor.expect("from")?;
                instant(cursor.text("a time such as '2026-01-01' or a duration such as '7d' after FROM")?)?
            };
            once(&mut self.from, "BACKFILL", from)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// With these options.
    pub(super) fn definition(self, name: String, target: String, sql: String) -> Definition {
        Definition {
            name,
            target,
            sql,
            source: String::new(),
            watermark_ns: self.watermark_ns.unwrap_or(WATERMARK_NS_DEFAULT),
            emit: self.emit.unwrap_or_default(),
            late: self.late.unwrap_or_default(),
            from: self.from,
            paused: false,
            detector: None,
            models: Vec::new(),
        }
    }
}

/// A duration in quotes that may be '0s'.
fn length(cursor: &mut Cursor<'_>, after: &str) -> Result<i64> {
    let text = cursor.text(&format!("a duration such as '30s' after {after}"))?;
    if text.trim() == "0s" { Ok(0) } else { duration::parse(text) }
}

/// A time, or how long ago it was.
fn instant(text: &str) -> Result<i64> {
    if let Ok(ago) = duration::parse(text) {
        return Ok(SystemClock.now_ns().saturating_sub(ago));
    }
    string_to_timestamp_nanos(text).map_err(|_| {
        Error::invalid(format!("'{text}' is neither a time such as '2026-01-01T00:00:00Z' nor a duration such as '7d'"))
    })
}

fn once<T>(slot: &mut Option<T>, what: &str, value: T) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::invalid(format!("{what} is given twice"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn create(sql: &str) -> (Definition, Existing) {
        match parse(sql).unwrap().unwrap() {
            ObjectStatement::Create { definition, existing } => (definition, existing),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn create_keeps_the_select_byte_for_byte() {
        let (definition, existing) =
            create("-- größe\ncreate Continuous QUERY Cpu_1m INTO \"Cpu\" watermark '1m30s'\nAS\n SELECT 'ä',\n 2 ; ");
        let expected = Options { watermark_ns: Some(90_000_000_000), ..Options::default() };
        assert_eq!(definition, expected.definition("cpu_1m".into(), "Cpu".into(), "SELECT 'ä',\n 2".into()));
        assert_eq!(existing, Existing::Refused);
        let (definition, existing) = create("CREATE CONTINUOUS QUERY IF NOT EXISTS q INTO t AS SELECT 1");
        assert_eq!((definition.watermark_ns, existing), (WATERMARK_NS_DEFAULT, Existing::Kept));
    }

    #[test]
    fn options_come_in_any_order() {
        let (definition, existing) = create(
            "CREATE OR REPLACE CONTINUOUS QUERY q INTO t LATE REVISE WITHIN '10m' BACKFILL FROM '2026-01-01' \
             EMIT ON WINDOW CLOSE WATERMARK '0s' AS SELECT 1",
        );
        assert_eq!(existing, Existing::Replaced);
        assert_eq!((definition.watermark_ns, definition.emit), (0, Emit::Close));
        assert_eq!(definition.late, Late::Within(600_000_000_000));
        assert_eq!(definition.from, Some(1_767_225_600_000_000_000));
        let (definition, _) = create("CREATE CONTINUOUS QUERY q INTO t LATE INTO Rest EMIT ON UPDATE AS SELECT 1");
        assert_eq!((definition.late, definition.emit), (Late::Into("rest".into()), Emit::Update));
        let (definition, _) = create("CREATE CONTINUOUS QUERY q INTO t LATE DROP BACKFILL NONE AS SELECT 1");
        assert_eq!(definition.late, Late::Within(0));
        assert!(definition.from.unwrap() > 1_767_225_600_000_000_000);
    }

    #[test]
    fn other_verbs_are_recognised_in_any_case() {
        let parsed = |sql: &str| parse(sql).unwrap().unwrap();
        let (query, detector) = (Noun::Query, Noun::Detector);
        assert_eq!(parsed(" show continuous queries;"), ObjectStatement::Show(query));
        assert_eq!(parsed("SHOW DETECTORS"), ObjectStatement::Show(detector));
        assert_eq!(parsed("DESC CONTINUOUS QUERY \"Q\""), ObjectStatement::Describe(query, "Q".into()));
        assert_eq!(parsed("explain detector D"), ObjectStatement::Explain(detector, "d".into()));
        assert_eq!(
            parsed("alter continuous query q pause"),
            ObjectStatement::Pause { noun: query, name: "q".into(), paused: true }
        );
        assert_eq!(
            parsed("/* x */ drop continuous query if exists Q"),
            ObjectStatement::Drop { noun: query, name: "q".into(), if_exists: true }
        );
    }

    #[test]
    fn other_statements_are_left_alone() {
        for sql in [
            "SELECT 1",
            "SHOW TABLES",
            "create table continuous (a int)",
            "DROP TABLE t",
            "ALTER MODEL m ROLLBACK",
            "EXPLAIN SELECT 1",
            "select 'create continuous query'",
            "",
            "create 'unterminated",
        ] {
            assert!(parse(sql).is_none(), "{sql}");
        }
    }

    #[test]
    fn wrong_statements_say_what_was_expected() {
        for (sql, message) in [
            ("CREATE CONTINUOUS VIEW v AS SELECT 1", "expected QUERY, found VIEW"),
            ("CREATE CONTINUOUS QUERY q AS SELECT 1", "expected INTO, found AS"),
            ("CREATE CONTINUOUS QUERY q INTO t", "expected AS, found the end of the statement"),
            ("CREATE CONTINUOUS QUERY q INTO t AS", "expected SELECT …, found the end of the statement"),
            ("CREATE CONTINUOUS QUERY q INTO t EMIT ON WINDOW AS", "expected CLOSE, found AS"),
            ("CREATE CONTINUOUS QUERY q INTO t LATE LATER AS", "expected REVISE, found LATER"),
            ("CREATE CONTINUOUS QUERY q INTO t LATE DROP LATE DROP AS SELECT 1", "LATE is given twice"),
            (
                "CREATE CONTINUOUS QUERY q INTO t BACKFILL FROM 'never' AS SELECT 1",
                "'never' is neither a time such as '2026-01-01T00:00:00Z' nor a duration such as '7d'",
            ),
            (
                "CREATE OR REPLACE CONTINUOUS QUERY IF NOT EXISTS q INTO t AS SELECT 1",
                "write OR REPLACE or IF NOT EXISTS, not both",
            ),
            (
                "CREATE CONTINUOUS QUERY q INTO s.t AS SELECT 1",
                "names of objects and of their tables have no schema: write one name",
            ),
            (
                "CREATE CONTINUOUS QUERY q INTO t WATERMARK 30 AS SELECT 1",
                "expected a duration such as '30s' after WATERMARK, found 30",
            ),
            (
                "CREATE CONTINUOUS QUERY q INTO t WATERMARK '30 parsecs' AS SELECT 1",
                "'30 parsecs' is not a duration: write numbers with units ns, us, ms, s, m, h, d, w or y, for example '90s' or '1h30m'",
            ),
            ("SHOW CONTINUOUS QUERIES now", "expected the end of the statement, found now"),
            ("ALTER CONTINUOUS QUERY q STOP", "expected PAUSE or RESUME, found STOP"),
            (
                "DROP CONTINUOUS QUERY \"a b\"",
                "name \"a b\" must have 1 to 128 characters out of letters, digits and _ : . -",
            ),
        ] {
            assert_eq!(parse(sql).unwrap().unwrap_err().message, message, "{sql}");
        }
    }
}
