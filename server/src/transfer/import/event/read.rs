//! Files, row by row.
use std::fs::File;
use std::io::BufRead;

use anyhow::{Context as _, anyhow, bail};
use indicatif::ProgressBar;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use super::super::csv::{Record, Records};
use super::super::lines::Lines;
use super::batch::Batcher;
use super::cell::Cell;
use super::columns::Columns;
use super::mapping::Mapping;
use super::row::Row;

/// Rows decoded at a time.
const BATCH_ROWS: usize = 8_192;

/// Takes the rows of one file.
pub(in super::super) struct Import<'a> {
    mapping: &'a Mapping,
    batcher: Batcher<'a>,
    /// Rows with faults that may still be left out.
    skip: u64,
    skipped: u64,
    first_fault: Option<String>,
}

impl<'a> Import<'a> {
    /// Up to `skip` rows with faults are left out.
    pub(in super::super) fn new(mapping: &'a Mapping, batcher: Batcher<'a>, skip: u64) -> Self {
        Self { mapping, batcher, skip, skipped: 0, first_fault: None }
    }

    /// Sends what is pending, see [`Batcher::flush`].
    ///
    /// # Errors
    /// As that.
    pub(in super::super) fn flush(&mut self) -> anyhow::Result<()> {
        self.batcher.flush()
    }

    /// Rows acknowledged.
    pub(in super::super) fn sent(&self) -> u64 {
        self.batcher.sent()
    }

    /// Rows left out, and what was wrong with the first.
    pub(in super::super) fn skipped(&self) -> (u64, Option<&str>) {
        (self.skipped, self.first_fault.as_deref())
    }

    fn row(&mut self, word: &str, place: u64, row: Result<Row<'_>, String>) -> anyhow::Result<()> {
        let taken = row.and_then(|row| {
            let parts = self.mapping.parts(&row)?;
            self.batcher.push(place, &parts, self.mapping)
        });
        match taken {
            Ok(()) => self.batcher.flush_if_full(),
            Err(error) => self.leave_out(format!("{word} {place}: {error}")),
        }
    }

    fn leave_out(&mut self, fault: String) -> anyhow::Result<()> {
        if self.skip == 0 {
            bail!(fault);
        }
        self.skip -= 1;
        self.skipped += 1;
        self.first_fault.get_or_insert(fault);
        Ok(())
    }
}

/// Sends the rows of a CSV file. An empty field has no value.
///
/// # Errors
/// With the line.
pub(in super::super) fn read_csv<R: BufRead>(lines: Lines<R>, import: &mut Import<'_>) -> anyhow::Result<()> {
    let mut records = Records::new(lines);
    let (mut header, mut record) = (Record::default(), Record::default());
    if !records.next(&mut header)? {
        bail!("empty: a CSV file begins with the names of its columns");
    }
    let names: Vec<&str> = header.fields().collect();
    import.mapping.check(&names).map_err(|error| anyhow!("line {}: {error}", header.line))?;
    loop {
        match records.next(&mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => {
                let row = csv_row(&names, &record);
                import.row("line", record.line, row)?;
            }
            // The next line may begin a record again.
            Err(error) => import.leave_out(format!("{error:#}"))?,
        }
    }
}

fn csv_row<'a>(names: &[&'a str], record: &'a Record) -> Result<Row<'a>, String> {
    if record.len() != names.len() {
        return Err(format!("{} fields, the header has {}", record.len(), names.len()));
    }
    let cell = |text: &'a str| if text.is_empty() { Cell::Null } else { Cell::text(text) };
    Ok(Row { fields: names.iter().zip(record.fields()).map(|(name, text)| ((*name).into(), cell(text))).collect() })
}

/// Sends the rows of a file that has an object in each line.
///
/// # Errors
/// With the line.
pub(in super::super) fn read_json<R: BufRead>(mut lines: Lines<R>, import: &mut Import<'_>) -> anyhow::Result<()> {
    let mut raw = Vec::new();
    loop {
        raw.clear();
        if !lines.append(&mut raw)? {
            return Ok(());
        }
        if !raw.trim_ascii().is_empty() {
            import.row("line", lines.number(), json_row(&raw))?;
        }
    }
}

fn json_row(raw: &[u8]) -> Result<Row<'static>, String> {
    match serde_json::from_slice(raw) {
        Ok(Value::Object(object)) => {
            let fields = object.into_iter().map(|(name, value)| (name.into(), Cell::of_json(value)));
            Ok(Row { fields: fields.collect() })
        }
        Ok(_) => Err("not a JSON object".to_owned()),
        Err(error) => Err(format!("not JSON: {error}")),
    }
}

/// Sends the rows of `file`, which has `len` bytes.
///
/// # Errors
/// With the number of the row.
pub(in super::super) fn read_parquet(
    file: File,
    len: u64,
    import: &mut Import<'_>,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).context("not a whole Parquet file")?;
    let rows_total = builder.metadata().file_metadata().num_rows().max(1) as f64;
    let names: Vec<String> = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    import.mapping.check(&names).map_err(|error| anyhow!(error))?;
    let mut rows_before = 0;
    for batch in builder.with_batch_size(BATCH_ROWS).build().context("cannot read")? {
        let batch = batch.with_context(|| format!("after row {rows_before}"))?;
        let columns = Columns::of(&batch).map_err(|error| anyhow!("after row {rows_before}: {error}"))?;
        for row in 0..batch.num_rows() {
            import.row("row", rows_before + row as u64 + 1, columns.row(row))?;
        }
        rows_before += batch.num_rows() as u64;
        bar.set_position((len as f64 * (rows_before as f64 / rows_total)) as u64);
    }
    Ok(())
}
