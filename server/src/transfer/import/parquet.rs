//! Rows of a Parquet file.
use std::fs::File;

use anyhow::{Context as _, anyhow};
use indicatif::ProgressBar;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::super::columns::Columns;
use super::super::layout::Layout;
use super::super::time_text::Epoch;
use super::batch::{Batcher, Row};

/// Rows decoded at a time.
const BATCH_ROWS: usize = 8_192;

/// Sends the rows of `file`, which has `len` bytes.
///
/// # Errors
/// With the number of the row.
pub(super) fn read(
    file: File,
    len: u64,
    epoch: Option<Epoch>,
    batcher: &mut Batcher<'_>,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).context("not a whole Parquet file")?;
    let rows_total = builder.metadata().file_metadata().num_rows().max(1) as f64;
    let names: Vec<String> = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let layout = Layout::of(&names, batcher.metric_is_named()).map_err(|error| anyhow!(error))?;
    let mut rows_before = 0;
    for batch in builder.with_batch_size(BATCH_ROWS).build().context("cannot read")? {
        let batch = batch.with_context(|| format!("after row {rows_before}"))?;
        let columns =
            Columns::of(&batch, &layout, epoch).map_err(|error| anyhow!("after row {rows_before}: {error}"))?;
        for row in 0..columns.rows() {
            let place = rows_before + row as u64 + 1;
            push(&columns, row, place, batcher).with_context(|| format!("row {place}"))?;
        }
        rows_before += columns.rows() as u64;
        bar.set_position((len as f64 * (rows_before as f64 / rows_total)) as u64);
    }
    Ok(())
}

fn push(columns: &Columns, row: usize, place: u64, batcher: &mut Batcher<'_>) -> anyhow::Result<()> {
    let (ts, value) = columns.sample(row).map_err(|error| anyhow!(error))?;
    let mut labels = Vec::with_capacity(16);
    columns.labels(row, &mut labels).map_err(|error| anyhow!(error))?;
    batcher.push(&Row { place, ts, value, metric: columns.metric(row) }, &mut labels)
}
