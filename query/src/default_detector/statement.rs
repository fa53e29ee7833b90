//! Statements about the default detector.
//!
//! ```text
//!  CREATE [OR REPLACE] DEFAULT DETECTOR [IF NOT EXISTS] [ON '{job="node"}']    every series unless it says
//!  EXPLAIN CREATE …   what it would change
//!  SHOW DEFAULT DETECTOR        DROP DEFAULT DETECTOR [IF EXISTS]
//! ```
use crate::error::Result;
use crate::statement::{Cursor, Existing, Opening, tokens};

/// What is watched unless the statement says: every series.
const EVERYTHING: &str = "{__name__=~\".+\"}";

/// A statement about the default detector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DetectorStatement {
    /// `CREATE`
    Create {
        /// The series it watches, a selector of PromQL.
        matcher: String,
        /// What happens to one that is there.
        existing: Existing,
    },
    /// `EXPLAIN CREATE`: what it would change.
    Preview {
        /// As for `CREATE`.
        matcher: String,
    },
    /// `SHOW`
    Show,
    /// `DROP`
    Drop {
        /// Whether a missing one is fine.
        if_exists: bool,
    },
}

const VERBS: [&str; 4] = ["create", "explain", "show", "drop"];

/// The statement in `sql` if it is one about the default detector; `None` leaves the text to others.
pub(crate) fn parse(sql: &str) -> Option<Result<DetectorStatement>> {
    let tokens = tokens(sql, &VERBS)?;
    let mut cursor = Cursor::new(sql, &tokens);
    let opening = Opening::read(&mut cursor, &VERBS).filter(|opening| opening.verb != "explain")?;
    cursor.word("default").then(|| cursor.expect("detector").and_then(|()| read(opening, cursor)))
}

fn read(opening: Opening, mut cursor: Cursor<'_>) -> Result<DetectorStatement> {
    let matcher = |cursor: &mut Cursor<'_>| match cursor.word("on") {
        true => cursor.text("a selector in quotes, such as '{job=\"node\"}', after ON").map(str::to_owned),
        false => Ok(EVERYTHING.to_owned()),
    };
    let statement = match opening.verb {
        "create" => {
            let existing = cursor.existing(opening.replace)?;
            let matcher = matcher(&mut cursor)?;
            if opening.preview {
                DetectorStatement::Preview { matcher }
            } else {
                DetectorStatement::Create { matcher, existing }
            }
        }
        "show" => DetectorStatement::Show,
        _ => DetectorStatement::Drop { if_exists: cursor.if_exists()? },
    };
    cursor.end_or("ON")?;
    Ok(statement)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_read_and_others_left_alone() {
        let parsed = |sql: &str| parse(sql).unwrap().unwrap();
        let matcher = || "{job=\"node\"}".to_owned();
        assert_eq!(
            parsed("create or replace default DETECTOR on '{job=\"node\"}';"),
            DetectorStatement::Create { matcher: matcher(), existing: Existing::Replaced }
        );
        assert_eq!(
            parsed("CREATE DEFAULT DETECTOR IF NOT EXISTS"),
            DetectorStatement::Create { matcher: EVERYTHING.into(), existing: Existing::Kept }
        );
        assert_eq!(
            parsed("EXPLAIN CREATE OR REPLACE DEFAULT DETECTOR ON '{job=\"node\"}'"),
            DetectorStatement::Preview { matcher: matcher() }
        );
        assert_eq!(parsed("SHOW DEFAULT DETECTOR"), DetectorStatement::Show);
        assert_eq!(parsed("drop default detector if exists"), DetectorStatement::Drop { if_exists: true });
        for sql in ["CREATE DETECTOR d ON t INTO u", "SHOW DETECTORS", "SELECT 'default detector'", "EXPLAIN SELECT 1"]
        {
            assert!(parse(sql).is_none(), "{sql}");
        }
    }

    #[test]
    fn wrong_statements_say_what_was_expected() {
        for (sql, message) in [
            ("CREATE DEFAULT", "expected DETECTOR, found the end of the statement"),
            ("CREATE DEFAULT DETECTOR d", "expected ON or the end of the statement, found d"),
            (
                "CREATE DEFAULT DETECTOR ON up",
                "expected a selector in quotes, such as '{job=\"node\"}', after ON, found up",
            ),
        ] {
            assert_eq!(parse(sql).unwrap().unwrap_err().message, message, "{sql}");
        }
    }
}
