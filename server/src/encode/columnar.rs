//! Arrow IPC streams and Parquet files, as byte sequences that leave while they are being made.
//!
//! Parquet: a row group is held back until it has [`GROUP_ROWS_MAX`] rows or [`GROUP_BYTES_MAX`] bytes, compressed page by page
//! with zstd meanwhile. Floats are written plain, never through a dictionary, so that their bits (NaN payloads, signed zeros)
//! cannot depend on how a dictionary compares; times and integers as deltas.
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, Encoding, Type, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::Unencodable;

/// Rows of a row group.
const GROUP_ROWS_MAX: usize = 128 << 10;
/// Bytes that a row group holds in memory before it is written.
const GROUP_BYTES_MAX: usize = 16 << 20;

/// Writes a result as columns.
pub(super) enum Columnar {
    Arrow(Box<StreamWriter<Vec<u8>>>),
    Parquet(Box<ArrowWriter<Vec<u8>>>),
}

impl Columnar {
    pub(super) fn arrow(schema: &SchemaRef) -> Result<Self, Unencodable> {
        let writer = StreamWriter::try_new(Vec::new(), schema).map_err(|error| Unencodable::new("arrow", &error))?;
        Ok(Self::Arrow(Box::new(writer)))
    }

    pub(super) fn parquet(schema: &SchemaRef) -> Result<Self, Unencodable> {
        let writer = properties(schema)
            .and_then(|properties| ArrowWriter::try_new(Vec::new(), SchemaRef::clone(schema), Some(properties)));
        Ok(Self::Parquet(Box::new(writer.map_err(unparquetable)?)))
    }

    /// Moves what has been written to `out`.
    pub(super) fn drain(&mut self, out: &mut Vec<u8>) {
        out.append(match self {
            Self::Arrow(writer) => writer.get_mut(),
            Self::Parquet(writer) => writer.inner_mut(),
        });
    }

    pub(super) fn batch(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), Unencodable> {
        match self {
            Self::Arrow(writer) => writer.write(batch).map_err(|error| Unencodable::new("arrow", &error))?,
            Self::Parquet(writer) => {
                writer.write(batch).map_err(unparquetable)?;
                // Wide rows: every column holds a page and a dictionary.
                if writer.memory_size() > GROUP_BYTES_MAX {
                    writer.flush().map_err(unparquetable)?;
                }
            }
        }
        self.drain(out);
        Ok(())
    }

    /// Writes the end.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Unencodable> {
        match self {
            Self::Arrow(writer) => writer.finish().map_err(|error| Unencodable::new("arrow", &error))?,
            Self::Parquet(writer) => writer.finish().map(drop).map_err(unparquetable)?,
        }
        self.drain(out);
        Ok(())
    }
}

fn unparquetable(error: ParquetError) -> Unencodable {
    Unencodable::new("parquet", &error)
}

fn properties(schema: &SchemaRef) -> Result<WriterProperties, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("foretell version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(GROUP_ROWS_MAX));
    for leaf in ArrowSchemaConverter::new().convert(schema)?.columns() {
        let path = leaf.path().clone();
        properties = match leaf.physical_type() {
            Type::FLOAT | Type::DOUBLE => properties.set_column_dictionary_enabled(path, false),
            Type::INT64 => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
            _ => properties,
        };
    }
    Ok(properties.build())
}
