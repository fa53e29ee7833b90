//! Answers as tables.
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde_json::Value;

use super::answer::Answer;

/// Longest text of a cell, characters.
const CELL_CHARS_MAX: usize = 200;

/// Narrower terminals get tables that wrap.
const WIDTH_MIN: u16 = 40;

/// The answer as a table, with a line below that says how much of it this is.
pub(crate) fn table(answer: &Answer) -> String {
    if answer.columns.is_empty() {
        return "done".to_owned();
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    // Some terminals do not know their width; squeezing a table into nothing helps nobody.
    if table.width().is_some_and(|width| width >= WIDTH_MIN) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table.set_header(answer.columns.iter().map(|column| Cell::new(printable(&column.name))));
    for (index, column) in answer.columns.iter().enumerate() {
        let numeric = ["INT", "DOUBLE", "REAL", "DECIMAL"].iter().any(|part| column.sql_type.contains(part));
        let nested = column.sql_type.contains('<');
        if let Some(column) = table.column_mut(index)
            && numeric
            && !nested
        {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for row in &answer.rows {
        table.add_row(row.iter().map(|value| Cell::new(text(value))));
    }
    let shown = answer.rows.len() as u64;
    let rows = if answer.rows_total == 1 { "1 row".to_owned() } else { format!("{} rows", answer.rows_total) };
    let elapsed = answer.elapsed_ms.map_or_else(String::new, |ms| format!(", {ms:.1} ms"));
    let rest = if shown < answer.rows_total {
        format!("; only the first {shown} are shown: add LIMIT, raise --max-rows, or use --format csv")
    } else {
        String::new()
    };
    format!("{table}\n{rows}{elapsed}{rest}")
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => printable(text),
        other => printable(&other.to_string()),
    }
}

/// Cut to a bearable length, and without control characters: stored labels must not command the terminal.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(CELL_CHARS_MAX));
    for (count, c) in text.chars().enumerate() {
        if count == CELL_CHARS_MAX {
            shown.push('…');
            break;
        }
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_what_it_leaves_out() {
        let text = br#"{"columns":[{"name":"a","type":"BIGINT"},{"name":"b","type":"VARCHAR"}],
            "rows":[[1,"x\u001b[2J"],[2,null],[3,"z"]],"stats":{"elapsed_ms":1.5}}"#;
        let answer = super::super::answer::read(&text[..], 2).unwrap();
        let shown = table(&answer);
        assert!(shown.contains("3 rows, 1.5 ms; only the first 2"), "{shown}");
        assert!(shown.contains("NULL") && !shown.contains('\u{1b}') && !shown.contains('z'), "{shown}");
    }
}
