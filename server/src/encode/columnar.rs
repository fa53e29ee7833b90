//! Arrow IPC streams, as byte sequences that leave while they are being made.
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;

use super::Unencodable;

/// Writes a result as columns.
pub(super) enum Columnar {
    Arrow(Box<StreamWriter<Vec<u8>>>),
}

impl Columnar {
    pub(super) fn arrow(schema: &SchemaRef) -> Result<Self, Unencodable> {
        let writer = StreamWriter::try_new(Vec::new(), schema).map_err(|error| Unencodable::new("arrow", &error))?;
        Ok(Self::Arrow(Box::new(writer)))
    }

    /// Moves what has been written to `out`.
    pub(super) fn drain(&mut self, out: &mut Vec<u8>) {
        out.append(match self {
            Self::Arrow(writer) => writer.get_mut(),
        });
    }

    pub(super) fn batch(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), Unencodable> {
        match self {
            Self::Arrow(writer) => writer.write(batch).map_err(|error| Unencodable::new("arrow", &error))?,
        }
        self.drain(out);
        Ok(())
    }

    /// Writes the end.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Unencodable> {
        match self {
            Self::Arrow(writer) => writer.finish().map_err(|error| Unencodable::new("arrow", &error))?,
        }
        self.drain(out);
        Ok(())
    }
}
