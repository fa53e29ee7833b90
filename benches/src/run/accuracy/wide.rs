//! Wide CSV files: a header, then a name and values a line; blanks follow the last value.
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Values of each series by name.
pub(super) type Table = BTreeMap<String, Vec<f64>>;

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Table> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut table = Table::new();
    for line in text.lines().skip(1) {
        let mut cells = line.split(',').map(|cell| cell.trim().trim_matches('"'));
        let name = cells.next().unwrap_or_default().to_owned();
        let values: Result<Vec<f64>, _> = cells.take_while(|cell| !cell.is_empty()).map(str::parse).collect();
        table.insert(name, values.with_context(|| path.display().to_string())?);
    }
    ensure!(!table.is_empty(), "{} holds no series", path.display());
    Ok(table)
}

/// Writes a file.
pub(super) fn write(path: &Path, table: &Table) -> Result<()> {
    let mut text = String::from("id,values\n");
    for (name, values) in table {
        text.push_str(name);
        for value in values {
            text.push_str(&format!(",{value}"));
        }
        text.push('\n');
    }
    fs::write(path, text).with_context(|| path.display().to_string())
}
