//! The three formats of text around the cells.
use std::io::Write as _;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};

use super::cell::{Cells, json_text, quote_csv};
use super::{Stats, Unencodable};

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Csv,
    Ndjson,
}

/// Writes an answer as text.
pub(super) struct Text {
    format: Format,
    schema: SchemaRef,
    /// Column names as JSON strings.
    names: Vec<Vec<u8>>,
    first_row: bool,
}

impl Text {
    pub(super) fn new(format: Format, schema: &SchemaRef) -> Self {
        let names = schema.fields().iter().map(|field| json_text(field.name())).collect();
        Self { format, schema: SchemaRef::clone(schema), names, first_row: true }
    }

    /// What stands before the rows.
    pub(super) fn head(&self, out: &mut Vec<u8>) {
        match self.format {
            Format::Json => {
                out.extend_from_slice(b"{\"columns\":[");
                for (i, (field, name)) in self.schema.fields().iter().zip(&self.names).enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(b"{\"name\":");
                    out.extend_from_slice(name);
                    out.extend_from_slice(b",\"type\":");
                    out.extend_from_slice(&json_text(&type_name(field.data_type())));
                    out.push(b'}');
                }
                out.extend_from_slice(b"],\"rows\":[");
            }
            Format::Csv => {
                for (i, field) in self.schema.fields().iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    let start = out.len();
                    out.extend_from_slice(field.name().as_bytes());
                    quote_csv(start, out);
                }
                out.extend_from_slice(b"\n");
            }
            Format::Ndjson => {}
        }
    }

    /// The rows of `batch`.
    pub(super) fn batch(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), Unencodable> {
        let columns = batch.columns().iter().map(Cells::new).collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            match self.format {
                Format::Json => {
                    out.extend_from_slice(if self.first_row { b"\n[" } else { b",\n[" });
                    for (i, cells) in columns.iter().enumerate() {
                        if i > 0 {
                            out.push(b',');
                        }
                        cells.write_json(row, out);
                    }
                    out.push(b']');
                }
                Format::Csv => {
                    for (i, cells) in columns.iter().enumerate() {
                        if i > 0 {
                            out.push(b',');
                        }
                        cells.write_csv(row, out);
                    }
                    out.push(b'\n');
                }
                Format::Ndjson => {
                    for (i, (cells, name)) in columns.iter().zip(&self.names).enumerate() {
                        out.push(if i > 0 { b',' } else { b'{' });
                        out.extend_from_slice(name);
                        out.push(b':');
                        cells.write_json(row, out);
                    }
                    out.extend_from_slice(if columns.is_empty() { b"{}\n" } else { b"}\n" });
                }
            }
            self.first_row = false;
        }
        Ok(())
    }

    /// What stands after the rows of a complete answer.
    pub(super) fn tail(&self, stats: &Stats, out: &mut Vec<u8>) {
        if self.format == Format::Json {
            let Stats { query_id, rows, elapsed } = stats;
            let elapsed_ms = elapsed.as_secs_f64() * 1e3;
            let _ = write!(
                out,
                "\n],\"stats\":{{\"query_id\":{query_id},\"rows\":{rows},\"elapsed_ms\":{elapsed_ms:.3}}}}}\n"
            );
        }
    }

    /// What stands at the end of an answer that fails on its way: `body` is the error object.
    pub(super) fn failed(&self, body: &str, out: &mut Vec<u8>) {
        match self.format {
            // The object that is being written ends as an error object: `rows`, then `status`, `errorType`, `error`.
            Format::Json => {
                let _ = writeln!(out, "\n],{}", body.trim_start_matches('{'));
            }
            Format::Ndjson => {
                let _ = writeln!(out, "{body}");
            }
            Format::Csv => {}
        }
    }
}

/// The name of a type as SQL users write it.
pub(super) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "NULL".to_owned(),
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INTEGER".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::UInt8 => "TINYINT UNSIGNED".to_owned(),
        DataType::UInt16 => "SMALLINT UNSIGNED".to_owned(),
        DataType::UInt32 => "INTEGER UNSIGNED".to_owned(),
        DataType::UInt64 => "BIGINT UNSIGNED".to_owned(),
        DataType::Float16 | DataType::Float32 => "REAL".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "BYTEA".to_owned()
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => "TIMESTAMP".to_owned(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => "TIMESTAMP(6)".to_owned(),
        DataType::Timestamp(TimeUnit::Millisecond, _) => "TIMESTAMP(3)".to_owned(),
        DataType::Timestamp(TimeUnit::Second, _) => "TIMESTAMP(0)".to_owned(),
        DataType::Date32 | DataType::Date64 => "DATE".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".to_owned(),
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL".to_owned(),
        DataType::Dictionary(_, values) => type_name(values),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            format!("LIST<{}>", type_name(item.data_type()))
        }
        DataType::Struct(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|field| format!("{} {}", field.name(), type_name(field.data_type()))).collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                format!("MAP<{}, {}>", type_name(fields[0].data_type()), type_name(fields[1].data_type()))
            }
            _ => "MAP".to_owned(),
        },
        other => other.to_string().to_uppercase(),
    }
}
