//! Line editing, history, completion and backslash commands.
use std::borrow::Cow;
use std::path::PathBuf;
use std::process::ExitCode;

use reedline::{
    ColumnarMenu, Completer, CompletionResult, Emacs, FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder as _,
    Prompt, PromptEditMode, PromptHistorySearch, Reedline, ReedlineEvent, ReedlineMenu, Signal, Span, Suggestion,
    ValidationResult, Validator, default_emacs_keybindings,
};

use super::{Session, statement};
use crate::serve::say;

const HISTORY_LINES_MAX: usize = 10_000;
const MENU: &str = "completion";
const COMPLETIONS_MAX: usize = 200;

const HELP: &str = "\
statements end with a semicolon and may span lines; Tab completes names
  \\dt            tables
  \\d NAME        columns of a table
  \\timing        show how long each statement takes, as seen from here
  \\refresh       fetch the names for completion again
  \\?             this help
  \\q             leave (also Ctrl-D)";

/// The shell proper.
pub(super) fn run(mut session: Session) -> anyhow::Result<ExitCode> {
    say(&format!("foretell {} on {}; \\? for help", env!("CARGO_PKG_VERSION"), session.client.base()));
    let mut editor = editor(&session);
    loop {
        match editor.read_line(&SqlPrompt)? {
            Signal::Success(text) => match command(&mut session, text.trim()) {
                Next::Continue => {}
                Next::Refresh => editor = editor_with(names(&session), editor),
                Next::Leave => return Ok(ExitCode::SUCCESS),
            },
            Signal::CtrlC => {}
            _ => return Ok(ExitCode::SUCCESS),
        }
    }
}

enum Next {
    Continue,
    Refresh,
    Leave,
}

fn command(session: &mut Session, text: &str) -> Next {
    let mut words = text.split_whitespace();
    match words.next() {
        None => {}
        Some("\\q" | "quit" | "exit") => return Next::Leave,
        Some("\\?" | "\\h") => say(HELP),
        Some("\\refresh") => return Next::Refresh,
        Some("\\timing") => {
            session.timing = !session.timing;
            say(if session.timing { "timing is on" } else { "timing is off" });
        }
        Some("\\dt") => tables(session),
        Some("\\d") => match words.next() {
            None => tables(session),
            Some(name) => describe(session, name.trim_end_matches(';')),
        },
        Some(other) if other.starts_with('\\') => say(&format!("unknown command {other}; \\? lists the commands")),
        Some(_) => {
            for sql in statement::split(text) {
                if !show(session, sql) {
                    break;
                }
            }
        }
    }
    Next::Continue
}

/// Runs `sql`, printing its answer or its error; whether it succeeded.
fn show(session: &Session, sql: &str) -> bool {
    match session.execute(sql) {
        Ok(()) => true,
        Err(failure) => {
            eprintln!("error: {failure}");
            false
        }
    }
}

fn tables(session: &Session) {
    show(session, "SELECT * FROM sys.tables");
}

/// The columns of `name`, from the head of an answer without rows.
fn describe(session: &Session, name: &str) {
    match session.client.rows(&format!("SELECT * FROM {name} LIMIT 0"), 0) {
        Ok(answer) => {
            let mut table = comfy_table::Table::new();
            table.load_preset(comfy_table::presets::UTF8_FULL_CONDENSED).set_header(["column", "type"]);
            for column in &answer.columns {
                table.add_row([&column.name, &column.sql_type]);
            }
            say(&table.to_string());
        }
        Err(failure) => eprintln!("error: {failure}"),
    }
}

/// `$XDG_STATE_HOME/foretell/history`, or its default place.
fn history_path() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    Some(state.join("foretell").join("history"))
}

fn names(session: &Session) -> Vec<String> {
    let mut names = session.client.names();
    names.extend(KEYWORDS.iter().map(|&word| word.to_owned()));
    names.sort_unstable();
    names.dedup();
    names
}

fn editor(session: &Session) -> Reedline {
    let mut keys = default_emacs_keybindings();
    keys.add_binding(
        KeyModifiers::NONE,
        KeyCode::Tab,
        ReedlineEvent::UntilFound(vec![ReedlineEvent::Menu(MENU.to_owned()), ReedlineEvent::MenuNext]),
    );
    let menu = Box::new(ColumnarMenu::default().with_name(MENU));
    let editor = Reedline::create()
        .with_validator(Box::new(UntilSemicolon))
        .with_menu(ReedlineMenu::EngineCompleter(menu))
        .with_quick_completions(true)
        .with_partial_completions(true)
        .with_edit_mode(Box::new(Emacs::new(keys)));
    let editor = editor_with(names(session), editor);
    let history = history_path().map(|path| {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        FileBackedHistory::with_file(HISTORY_LINES_MAX, path).map_err(std::io::Error::other)
    });
    match history {
        Some(Ok(history)) => editor.with_history(Box::new(history)),
        Some(Err(error)) => {
            eprintln!("no history: {error}");
            editor
        }
        None => editor,
    }
}

fn editor_with(names: Vec<String>, editor: Reedline) -> Reedline {
    editor.with_completer(Box::new(Names(names)))
}

const KEYWORDS: [&str; 33] = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "ORDER BY",
    "LIMIT",
    "HAVING",
    "DISTINCT",
    "COUNT",
    "JOIN",
    "LEFT",
    "USING",
    "UNION",
    "WITH",
    "OVER",
    "PARTITION BY",
    "BETWEEN",
    "INTERVAL",
    "TIMESTAMP",
    "NULL",
    "DESC",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "CREATE",
    "CONTINUOUS",
    "QUERY",
    "INTO",
    "WATERMARK",
    "SHOW",
    "DROP",
    "EXPLAIN",
];

/// Completes the word before the cursor from a list of names.
struct Names(Vec<String>);

impl Names {
    fn matching(&self, line: &str, cursor: usize) -> Vec<Suggestion> {
        let before = line.get(..cursor).unwrap_or(line);
        let start = before
            .rfind(|c: char| !(c.is_alphanumeric() || "_.\":".contains(c)))
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        let word = before[start..].trim_matches('"').to_lowercase();
        if word.is_empty() {
            return Vec::new();
        }
        let span = Span::new(start, cursor);
        self.0
            .iter()
            // `metrics."up"` is found by `up`, `"up` and `metrics.up`.
            .filter(|name| {
                let name = name.to_lowercase();
                let bare = name.replace('"', "");
                name.starts_with(&word)
                    || bare.starts_with(&word)
                    || bare.rsplit('.').next().is_some_and(|last| last.starts_with(&word))
            })
            .take(COMPLETIONS_MAX)
            .map(|name| Suggestion { value: name.clone(), span, append_whitespace: true, ..Suggestion::default() })
            .collect()
    }
}

impl Completer for Names {
    fn complete(&mut self, line: &str, cursor: usize) -> CompletionResult {
        CompletionResult::fresh(self.matching(line, cursor))
    }
}

struct UntilSemicolon;

impl Validator for UntilSemicolon {
    fn validate(&self, text: &str) -> ValidationResult {
        if statement::is_complete(text) { ValidationResult::Complete } else { ValidationResult::Incomplete }
    }
}

struct SqlPrompt;

impl Prompt for SqlPrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed("foretell")
    }
    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }
    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("> ")
    }
    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("     ...> ")
    }
    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        Cow::Owned(format!("(search: {}) ", search.term))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(line: &str) -> Vec<String> {
        let names = ["anomaly_score", "metrics.\"up\"", "sys.tables"].map(str::to_owned).to_vec();
        Names(names).matching(line, line.len()).into_iter().map(|found| found.value).collect()
    }

    #[test]
    fn names_complete_from_any_part_a_user_would_type() {
        assert_eq!(completed("SELECT ano"), ["anomaly_score"]);
        assert_eq!(completed("SELECT * FROM u"), ["metrics.\"up\""]);
        assert_eq!(completed("SELECT * FROM metrics.u"), ["metrics.\"up\""]);
        assert_eq!(completed("SELECT * FROM SYS.t"), ["sys.tables"]);
        assert!(completed("SELECT ").is_empty());
        assert!(completed("SELECT é").is_empty());
    }
}
