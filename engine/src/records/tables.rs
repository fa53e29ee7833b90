//! Which tables of records a store has, and the columns of each.
//!
//! Nothing stores this: it is the union of what segments and log say, so it cannot disagree with them. A column that no
//! live row has is forgotten at the next open, and may then come back with another type.
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

use crate::error::{Error, Result};

use super::kind::put_type;
use super::size::{bytes_of, bytes_of_rows};
use super::{
    BATCH_BYTES_MAX, BATCH_ROWS_MAX, COLUMN_NAME_BYTES_MAX, COLUMNS_MAX, RecordTable, Records, SERIES_COLUMN,
    TABLES_MAX, TS_COLUMN, VALUE_BYTES_MAX,
};

/// A table and its columns, without `series` and `ts`, by name.
#[derive(Clone, Debug)]
pub(crate) struct TableColumns {
    pub(crate) table: RecordTable,
    pub(crate) columns: SchemaRef,
}

impl TableColumns {
    /// The columns called `names`, in that order, or all.
    ///
    /// # Errors
    /// `Invalid` for a name that no column has.
    pub(crate) fn columns_called(&self, names: Option<&[&str]>) -> Result<Vec<FieldRef>> {
        let fields = self.columns.fields();
        let Some(names) = names else { return Ok(fields.to_vec()) };
        let called = |name: &&str| match self.columns.index_of(name) {
            Ok(at) => Ok(Arc::clone(&fields[at])),
            Err(_) => Err(Error::Invalid(format!("table {} has no column {name:?}", self.table.name()))),
        };
        names.iter().map(called).collect()
    }
}

/// Every table, by name. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables(Arc<BTreeMap<Arc<str>, TableColumns>>);

impl Tables {
    /// One table.
    pub(crate) fn get(&self, name: &str) -> Option<&TableColumns> {
        self.0.get(name)
    }

    /// Every table, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &TableColumns> {
        self.0.values()
    }

    /// Adds what is new about `table` and its `columns`.
    ///
    /// # Errors
    /// `Invalid`, and nothing is added, when the table has another rule, a column another type, or the type is none that
    /// columns may have; `Limit` for too many tables or columns.
    pub(crate) fn admit(&mut self, table: &RecordTable, columns: &Schema) -> Result<()> {
        let known = self.0.get(table.name());
        if known.is_none() && self.0.len() >= TABLES_MAX {
            return Err(Error::Limit(format!("a store has at most {TABLES_MAX} tables of records; use one of them")));
        }
        if let Some(known) = known
            && known.table.unique() != table.unique()
        {
            return Err(Error::Invalid(format!(
                "records of table {} are unique {:?} and cannot be written as {:?}; use another table",
                table.name(),
                known.table.unique(),
                table.unique()
            )));
        }
        let mut new: Vec<FieldRef> = Vec::new();
        for field in columns.fields() {
            match known.and_then(|known| column_type(&known.columns, field.name())) {
                Some(data_type) if data_type == field.data_type() => {}
                Some(data_type) => {
                    return Err(Error::Invalid(format!(
                        "column {} of table {} is {data_type} and cannot take {}; convert the values or use another name",
                        field.name(),
                        table.name(),
                        field.data_type()
                    )));
                }
                None => {
                    check_column(field)?;
                    new.push(Arc::new(Field::new(field.name(), field.data_type().clone(), true)));
                }
            }
        }
        if known.is_some() && new.is_empty() {
            return Ok(());
        }
        let mut fields: Vec<FieldRef> = known.map_or(Vec::new(), |known| known.columns.fields().to_vec());
        fields.append(&mut new);
        if fields.len() > COLUMNS_MAX {
            return Err(Error::Limit(format!(
                "table {} would have {} columns, at most {COLUMNS_MAX} are allowed; put rare keys into one map",
                table.name(),
                fields.len()
            )));
        }
        fields.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        if let Some(twice) = fields.windows(2).find(|pair| pair[0].name() == pair[1].name()) {
            return Err(Error::Invalid(format!("a batch has column {:?} twice; name each once", twice[0].name())));
        }
        let columns = Arc::new(Schema::new(fields));
        let tables = Arc::make_mut(&mut self.0);
        tables.insert(Arc::clone(table.name()), TableColumns { table: table.clone(), columns });
        Ok(())
    }
}

/// The type of the column `name` of a schema in name order.
fn column_type<'a>(columns: &'a Schema, name: &str) -> Option<&'a DataType> {
    let fields = columns.fields();
    let at = fields.binary_search_by(|field| field.name().as_str().cmp(name)).ok()?;
    Some(fields[at].data_type())
}

fn check_column(field: &Field) -> Result<()> {
    let name = field.name();
    if name.is_empty() || name.len() > COLUMN_NAME_BYTES_MAX || [SERIES_COLUMN, TS_COLUMN].contains(&name.as_str()) {
        return Err(Error::Invalid(format!(
            "{name:?} cannot name a column of records; use 1 to {COLUMN_NAME_BYTES_MAX} bytes, not {SERIES_COLUMN} or \
             {TS_COLUMN}"
        )));
    }
    put_type(&mut Vec::new(), field.data_type())
}

/// Checks what can be said of a batch alone: lengths and limits.
///
/// # Errors
/// `Invalid`, saying what to change.
pub(crate) fn check(records: &Records) -> Result<()> {
    let rows = records.series.len();
    if records.ts.len() != rows || records.columns.num_rows() != rows {
        return Err(Error::Invalid(format!(
            "columns of records must have equal length, not {rows} series, {} timestamps, {} rows of columns",
            records.ts.len(),
            records.columns.num_rows()
        )));
    }
    if rows > BATCH_ROWS_MAX {
        return Err(Error::Invalid(format!("a batch of {rows} records exceeds {BATCH_ROWS_MAX}; split it")));
    }
    let bytes: usize = records.columns.columns().iter().map(|column| bytes_of(column)).sum();
    if bytes > BATCH_BYTES_MAX {
        return Err(Error::Invalid(format!("a batch of {bytes} bytes of records exceeds {BATCH_BYTES_MAX}; split it")));
    }
    for (field, column) in records.columns.schema_ref().fields().iter().zip(records.columns.columns()) {
        if bytes_of(column) <= VALUE_BYTES_MAX {
            continue;
        }
        let values = (0..rows).map(|row| bytes_of_rows(column, row, 1));
        if let Some(bytes) = values.into_iter().find(|&bytes| bytes > VALUE_BYTES_MAX) {
            return Err(Error::Invalid(format!(
                "a value of {bytes} bytes in column {} exceeds the {VALUE_BYTES_MAX} allowed; shorten it",
                field.name()
            )));
        }
    }
    Ok(())
}
