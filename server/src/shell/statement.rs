//! Where a statement ends: at a semicolon that stands in no string, quoted name or comment.

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Plain,
    Quoted(u8),
    LineComment,
    BlockComment(u32),
}

/// Calls `at` with the offset of each terminating semicolon; returns the state at the end.
fn scan(text: &str, mut at: impl FnMut(usize)) -> State {
    let bytes = text.as_bytes();
    let mut state = State::Plain;
    let mut i = 0;
    while i < bytes.len() {
        let pair = (bytes[i], bytes.get(i + 1).copied().unwrap_or(0));
        let mut step = 1;
        state = match (state, pair) {
            (State::Plain, (b';', _)) => {
                at(i);
                State::Plain
            }
            (State::Plain, (quote @ (b'\'' | b'"'), _)) => State::Quoted(quote),
            (State::Plain, (b'-', b'-')) => State::LineComment,
            (State::Plain, (b'/', b'*')) => {
                step = 2;
                State::BlockComment(1)
            }
            // A doubled quote closes and opens again: the same state either way.
            (State::Quoted(quote), (byte, _)) if byte == quote => State::Plain,
            (State::LineComment, (b'\n', _)) => State::Plain,
            (State::BlockComment(depth), (b'*', b'/')) => {
                step = 2;
                if depth == 1 { State::Plain } else { State::BlockComment(depth - 1) }
            }
            (State::BlockComment(depth), (b'/', b'*')) => {
                step = 2;
                State::BlockComment(depth + 1)
            }
            (state, _) => state,
        };
        i += step;
    }
    state
}

/// The statements of `text`, without their semicolons; the last may lack one.
pub(crate) fn split(text: &str) -> Vec<&str> {
    let mut statements = Vec::new();
    let mut start = 0;
    scan(text, |end| {
        statements.push(text[start..end].trim());
        start = end + 1;
    });
    statements.push(text[start..].trim());
    statements.retain(|statement| !is_blank(statement));
    statements
}

/// Whether `text` is nothing but spaces and comments.
fn is_blank(text: &str) -> bool {
    let mut rest = text.trim_start();
    loop {
        if rest.is_empty() {
            return true;
        }
        if rest.starts_with("--") {
            rest = rest.split_once('\n').map_or("", |(_, after)| after).trim_start();
        } else {
            return false;
        }
    }
}

/// Whether the editor should run `text` rather than wait for more.
pub(super) fn is_complete(text: &str) -> bool {
    let trimmed = text.trim();
    if trimmed.is_empty() || trimmed.starts_with('\\') || trimmed == "quit" || trimmed == "exit" {
        return true;
    }
    let mut last = None;
    let end = scan(trimmed, |at| last = Some(at));
    matches!(end, State::Plain | State::LineComment) && last.is_some_and(|at| is_blank(&trimmed[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semicolons_in_strings_names_and_comments_do_not_end_a_statement() {
        let text = "SELECT ';' AS \"a;b\", 'it''s;'; -- no; not here\nSELECT 2 /* ; /* ; */ ; */ ;\n-- the end\n";
        assert_eq!(split(text), ["SELECT ';' AS \"a;b\", 'it''s;'", "-- no; not here\nSELECT 2 /* ; /* ; */ ; */"]);
        assert_eq!(split("SELECT 1"), ["SELECT 1"]);
        assert!(split(" ;; \n;").is_empty());
    }

    #[test]
    fn the_editor_waits_for_the_semicolon() {
        for complete in ["", "  ", "\\dt", "SELECT 1;", "SELECT 1; -- done", "SELECT 1;\n", "quit"] {
            assert!(is_complete(complete), "{complete:?}");
        }
        for open in ["SELECT 1", "SELECT ';", "SELECT 1; SELECT 2", "SELECT 1 -- ;", "SELECT /* ; */ 1"] {
            assert!(!is_complete(open), "{open:?}");
        }
    }
}
