//! Statements about continuous queries, recognised on tokens before DataFusion sees the text.
//!
//! ```text
//!  CREATE CONTINUOUS QUERY [IF NOT EXISTS] name INTO table [WATERMARK '30s'] AS SELECT …
//!  SHOW CONTINUOUS QUERIES
//!  DESCRIBE CONTINUOUS QUERY name        (or DESC)
//!  DROP CONTINUOUS QUERY [IF EXISTS] name
//! ```
//! Names fold to lower case unless quoted, as table names do.
use super::definition::Definition;
use crate::error::Result;
use crate::statement::{Cursor, tokens};

/// How far behind the newest sample windows stay open when the statement does not say.
const WATERMARK_NS_DEFAULT: i64 = 300_000_000_000;

/// A statement about continuous queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ObjectStatement {
    /// `CREATE CONTINUOUS QUERY`
    Create {
        /// What to create.
        definition: Definition,
        /// Whether an existing query of the same name is fine.
        if_not_exists: bool,
    },
    /// `SHOW CONTINUOUS QUERIES`
    Show,
    /// `DESCRIBE CONTINUOUS QUERY`
    Describe {
        /// Name.
        name: String,
    },
    /// `DROP CONTINUOUS QUERY`
    Drop {
        /// Name.
        name: String,
        /// Whether a missing query is fine.
        if_exists: bool,
    },
}

/// The statement in `sql` if it is one about continuous queries; `None` leaves the text to the SQL planner.
pub(crate) fn parse(sql: &str) -> Option<Result<ObjectStatement>> {
    let tokens = tokens(sql, &["create", "show", "desc", "drop"])?;
    let mut cursor = Cursor::new(sql, &tokens);
    let verb = ["create", "show", "describe", "desc", "drop"].into_iter().find(|verb| cursor.word(verb))?;
    if !cursor.word("continuous") {
        return None;
    }
    Some(match verb {
        "create" => create(cursor),
        "show" => show(cursor),
        "drop" => drop(cursor),
        _ => describe(cursor),
    })
}

fn create(mut cursor: Cursor<'_>) -> Result<ObjectStatement> {
    cursor.expect("query")?;
    let if_not_exists = cursor.word("if");
    if if_not_exists {
        cursor.expect("not")?;
        cursor.expect("exists")?;
    }
    let name = cursor.name("a name for the continuous query")?;
    cursor.expect("into")?;
    let target = cursor.name("a table to write to")?;
    let watermark_ns = if cursor.word("watermark") { cursor.duration("WATERMARK")? } else { WATERMARK_NS_DEFAULT };
    cursor.expect("as")?;
    let sql = cursor.rest("SELECT …")?;
    Ok(ObjectStatement::Create {
        definition: Definition { name, target, sql: sql.to_owned(), watermark_ns },
        if_not_exists,
    })
}

fn show(mut cursor: Cursor<'_>) -> Result<ObjectStatement> {
    cursor.expect("queries")?;
    cursor.end()?;
    Ok(ObjectStatement::Show)
}

fn describe(mut cursor: Cursor<'_>) -> Result<ObjectStatement> {
    cursor.expect("query")?;
    let name = cursor.name("the name of a continuous query")?;
    cursor.end()?;
    Ok(ObjectStatement::Describe { name })
}

fn drop(mut cursor: Cursor<'_>) -> Result<ObjectStatement> {
    cursor.expect("query")?;
    let if_exists = cursor.word("if");
    if if_exists {
        cursor.expect("exists")?;
    }
    let name = cursor.name("the name of a continuous query")?;
    cursor.end()?;
    Ok(ObjectStatement::Drop { name, if_exists })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn create(sql: &str) -> (Definition, bool) {
        match parse(sql).unwrap().unwrap() {
            ObjectStatement::Create { definition, if_not_exists } => (definition, if_not_exists),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn create_keeps_the_select_byte_for_byte() {
        let (definition, if_not_exists) =
            create("-- größe\ncreate Continuous QUERY Cpu_1m INTO \"Cpu\" watermark '1m30s'\nAS\n SELECT 'ä',\n 2 ; ");
        assert_eq!(
            definition,
            Definition {
                name: "cpu_1m".into(),
                target: "Cpu".into(),
                sql: "SELECT 'ä',\n 2".into(),
                watermark_ns: 90_000_000_000
            }
        );
        assert!(!if_not_exists);
        let (definition, if_not_exists) = create("CREATE CONTINUOUS QUERY IF NOT EXISTS q INTO t AS SELECT 1");
        assert_eq!((definition.watermark_ns, if_not_exists), (WATERMARK_NS_DEFAULT, true));
    }

    #[test]
    fn show_describe_and_drop_are_recognised_in_any_case() {
        assert_eq!(parse(" show continuous queries;").unwrap().unwrap(), ObjectStatement::Show);
        assert_eq!(
            parse("DESC CONTINUOUS QUERY \"Q\"").unwrap().unwrap(),
            ObjectStatement::Describe { name: "Q".into() }
        );
        assert_eq!(
            parse("/* x */ drop continuous query if exists Q").unwrap().unwrap(),
            ObjectStatement::Drop { name: "q".into(), if_exists: true }
        );
    }

    #[test]
    fn other_statements_are_left_alone() {
        for sql in [
            "SELECT 1",
            "SHOW TABLES",
            "create table continuous (a int)",
            "DROP TABLE t",
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
            (
                "DROP CONTINUOUS QUERY \"a b\"",
                "name \"a b\" must have 1 to 128 characters out of letters, digits and _ : . -",
            ),
        ] {
            assert_eq!(parse(sql).unwrap().unwrap_err().message, message, "{sql}");
        }
    }
}
