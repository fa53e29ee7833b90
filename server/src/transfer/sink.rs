//! Rows to the bytes of a file.
use std::time::Duration;

use anyhow::{anyhow, bail};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::FileFormat;
use super::columns::Columns;
use super::layout::Layout;
use super::openmetrics;
use super::output::Output;
use crate::encode::{Encoder, Format, Stats};

/// Writes batches of one schema to an output.
pub(super) struct Sink {
    format: FileFormat,
    output: Output,
    encoding: Option<Encoding>,
    rows: u64,
    stale: u64,
}

struct Encoding {
    schema: SchemaRef,
    kind: Kind,
}

enum Kind {
    Encoded(Box<Encoder>),
    OpenMetrics(Layout),
}

/// What became of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Rows.
    pub(super) rows: u64,
    /// Stale markers that the format has no place for.
    pub(super) stale_left_out: u64,
}

impl Sink {
    pub(super) fn new(format: FileFormat, output: Output) -> Self {
        Self { format, output, encoding: None, rows: 0, stale: 0 }
    }

    /// Says which columns come; the first answer says so for all.
    ///
    /// # Errors
    /// When the columns are others than before, or the format cannot hold them.
    pub(super) fn columns(&mut self, schema: &SchemaRef) -> anyhow::Result<()> {
        if let Some(encoding) = &self.encoding {
            if encoding.schema.fields() != schema.fields() {
                bail!("the columns of the table changed while it was exported; run the export again");
            }
            return Ok(());
        }
        let mut out = Vec::new();
        let mut encoded = |format| {
            let mut encoder = Encoder::new(format, schema)?;
            encoder.head(&mut out);
            Ok::<_, anyhow::Error>(Kind::Encoded(Box::new(encoder)))
        };
        let kind = match self.format {
            FileFormat::Parquet => encoded(Format::Parquet)?,
            FileFormat::Csv => encoded(Format::Csv)?,
            FileFormat::Ndjson => encoded(Format::Ndjson)?,
            FileFormat::Promtool => {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                Kind::OpenMetrics(Layout::of(&names, false).map_err(|error| anyhow!("--format promtool: {error}"))?)
            }
        };
        self.output.write(&out)?;
        self.encoding = Some(Encoding { schema: SchemaRef::clone(schema), kind });
        Ok(())
    }

    /// Takes rows of the columns given.
    ///
    /// # Errors
    /// When a value has no place in the format, or the output takes no more.
    pub(super) fn rows(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        match self.encoding.as_mut().map(|encoding| &mut encoding.kind) {
            Some(Kind::Encoded(encoder)) => {
                let mut out = Vec::new();
                encoder.batch(batch, &mut out)?;
                self.output.write(&out)?;
            }
            Some(Kind::OpenMetrics(layout)) => {
                let mut text = String::new();
                let columns = Columns::of(batch, layout, None).map_err(|error| anyhow!(error))?;
                self.stale += openmetrics::write(&columns, &mut text).map_err(|error| anyhow!(error))?;
                self.output.write(text.as_bytes())?;
            }
            None => bail!("rows without columns"),
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    pub(super) fn rows_taken(&self) -> u64 {
        self.rows
    }

    /// Completes the file.
    ///
    /// # Errors
    /// As [`Sink::rows`].
    pub(super) fn finish(mut self) -> anyhow::Result<Written> {
        match self.encoding.map(|encoding| encoding.kind) {
            Some(Kind::Encoded(mut encoder)) => {
                let mut out = Vec::new();
                encoder.tail(&Stats { query_id: 0, rows: self.rows, elapsed: Duration::ZERO }, &mut out)?;
                self.output.write(&out)?;
            }
            Some(Kind::OpenMetrics(_)) => self.output.write(openmetrics::END.as_bytes())?,
            None => bail!("nothing was answered"),
        }
        self.output.finish()?;
        Ok(Written { rows: self.rows - self.stale, stale_left_out: self.stale })
    }
}
