//! Attributes: each key a column of the type that its values have, so that reading one key reads one column.
//!
//! | column | type | what |
//! |---|---|---|
//! | `attr/s/KEY` | Utf8 | texts |
//! | `attr/i/KEY` | Int64 | integers |
//! | `attr/d/KEY` | Float64 | doubles |
//! | `attr/b/KEY` | Boolean | booleans |
//! | `attr/j/KEY` | Utf8 | lists, maps and bytes, as JSON |
//! | `attributes` | Map of Utf8 to Utf8 | keys without a column of their own; the value begins with the letter of its type |
//!
//! A table has at most [`OWN_COLUMNS_MAX`] such columns: keys that come later, keys whose name is too long, and keys that are
//! rare in their batch (a column costs every row of it) share the map.
//! A key may have values of several types; a row has a key once.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, MapArray, MapBuilder, MapFieldNames, RecordBatch,
    StringArray, StringBuilder,
};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};
use hashbrown::{HashMap, HashSet};

use crate::error::{Error, Result};

/// Columns of attributes of one table.
pub const OWN_COLUMNS_MAX: usize = 512;
/// Bytes of a key with a column of its own.
pub const OWN_KEY_BYTES_MAX: usize = 200;
/// A key has a column in a batch if one row in so many has it.
const RARE_ROWS: usize = 128;

/// The column of keys without one of their own.
pub(crate) const REST: &str = "attributes";
const PREFIX: &str = "attr/";

/// A value of an attribute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Text.
    Text(&'a str),
    /// A whole number.
    Integer(i64),
    /// A number, its bits kept.
    Double(f64),
    /// True or false.
    Boolean(bool),
    /// A list, a map or bytes: as JSON.
    Json(&'a str),
}

/// The types of values, each with its letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Text,
    Integer,
    Double,
    Boolean,
    Json,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Text, Self::Integer, Self::Double, Self::Boolean, Self::Json];

    fn letter(self) -> char {
        match self {
            Self::Text => 's',
            Self::Integer => 'i',
            Self::Double => 'd',
            Self::Boolean => 'b',
            Self::Json => 'j',
        }
    }

    /// Whether it is stored as text.
    pub(crate) fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::Json)
    }

    /// As SQL names it.
    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Double => "double",
            Self::Boolean => "boolean",
            Self::Json => "json",
        }
    }

    /// Name of the column of `key`.
    pub(crate) fn column(self, key: &str) -> String {
        format!("{PREFIX}{}/{key}", self.letter())
    }
}

/// The key that the column `name` is of, if it is one of attributes.
pub(crate) fn key_of(name: &str) -> Option<&str> {
    column_of(name).map(|(_, key)| key)
}

/// The same with the type.
fn column_of(name: &str) -> Option<(Kind, &str)> {
    let (letter, key) = name.strip_prefix(PREFIX)?.split_once('/')?;
    let kind = Kind::ALL.into_iter().find(|kind| letter.chars().eq([kind.letter()]))?;
    Some((kind, key))
}

impl Value<'_> {
    fn kind(&self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Integer(_) => Kind::Integer,
            Self::Double(_) => Kind::Double,
            Self::Boolean(_) => Kind::Boolean,
            Self::Json(_) => Kind::Json,
        }
    }

    /// Appends it as SQL shows it.
    pub fn put(&self, out: &mut String) {
        // Writing to a string does not fail.
        let _ = match self {
            Self::Text(text) | Self::Json(text) => out.write_str(text),
            Self::Integer(number) => write!(out, "{number}"),
            Self::Double(number) => write!(out, "{number}"),
            Self::Boolean(bit) => write!(out, "{bit}"),
        };
    }
}

/// Values of one column, and the rows that have one.
enum Sparse {
    /// All texts together, and where each ends.
    Text(String, Vec<usize>),
    Integer(Vec<i64>),
    Double(Vec<f64>),
    Boolean(Vec<bool>),
}

struct Own {
    key: Arc<str>,
    kind: Kind,
    rows: Vec<u32>,
    values: Sparse,
}

impl Own {
    fn new(key: Arc<str>, kind: Kind) -> Self {
        let values = match kind {
            Kind::Text | Kind::Json => Sparse::Text(String::new(), Vec::new()),
            Kind::Integer => Sparse::Integer(Vec::new()),
            Kind::Double => Sparse::Double(Vec::new()),
            Kind::Boolean => Sparse::Boolean(Vec::new()),
        };
        Self { key, kind, rows: Vec::new(), values }
    }

    fn push(&mut self, row: u32, value: &Value<'_>) {
        match (&mut self.values, value) {
            (Sparse::Text(all, ends), Value::Text(text) | Value::Json(text)) => {
                all.push_str(text);
                ends.push(all.len());
            }
            (Sparse::Integer(values), Value::Integer(number)) => values.push(*number),
            (Sparse::Double(values), Value::Double(number)) => values.push(*number),
            (Sparse::Boolean(values), Value::Boolean(bit)) => values.push(*bit),
            // A column is found by the kind of the value.
            _ => return,
        }
        self.rows.push(row);
    }

    /// Its value number `place`, texts as texts.
    fn get(&self, place: usize) -> Value<'_> {
        match &self.values {
            Sparse::Text(all, ends) => {
                let from = if place == 0 { 0 } else { ends[place - 1] };
                Value::Text(&all[from..ends[place]])
            }
            Sparse::Integer(values) => Value::Integer(values[place]),
            Sparse::Double(values) => Value::Double(values[place]),
            Sparse::Boolean(values) => Value::Boolean(values[place]),
        }
    }

    /// One entry a row, NULL where there is none.
    fn finish(&self, rows: usize) -> ArrayRef {
        let mut at = 0;
        // The place of each row's value.
        let places = (0..rows as u32).map(|row| {
            let has = self.rows.get(at) == Some(&row);
            at += usize::from(has);
            has.then(|| at - 1)
        });
        match &self.values {
            Sparse::Text(all, ends) => Arc::new(StringArray::from_iter(places.map(|place| {
                let place = place?;
                let from = if place == 0 { 0 } else { ends[place - 1] };
                Some(&all[from..ends[place]])
            }))),
            Sparse::Integer(values) => Arc::new(Int64Array::from_iter(places.map(|place| Some(values[place?])))),
            Sparse::Double(values) => Arc::new(Float64Array::from_iter(places.map(|place| Some(values[place?])))),
            Sparse::Boolean(values) => Arc::new(BooleanArray::from_iter(places.map(|place| Some(values[place?])))),
        }
    }
}

/// What is known of a key of a batch.
struct Key {
    name: Arc<str>,
    /// The row that had it last.
    last: Option<u32>,
    /// Columns of its kinds.
    own: [Option<usize>; Kind::ALL.len()],
}

/// Attributes of the rows of a batch.
pub(crate) struct AttributesBuilder {
    known: Option<Arc<Schema>>,
    /// Columns that the table has or will have.
    own_columns: usize,
    keys: HashMap<Arc<str>, Key>,
    columns: Vec<Own>,
    /// Row, key and value with the letter of its type, of what has no column.
    rest: Vec<(u32, Arc<str>, String)>,
    rows: u32,
}

impl AttributesBuilder {
    /// For a table that has the columns `known`.
    pub(crate) fn new(known: Option<Arc<Schema>>) -> Self {
        let own_columns = known.iter().flat_map(|known| known.fields()).filter(|field| key_of(field.name()).is_some());
        let own_columns = own_columns.count();
        Self { known, own_columns, keys: HashMap::new(), columns: Vec::new(), rest: Vec::new(), rows: 0 }
    }

    /// Adds a row. Of a key that occurs twice the first value counts.
    pub(crate) fn push<'a>(&mut self, attributes: impl IntoIterator<Item = (&'a str, Value<'a>)>) {
        let row = self.rows;
        for (name, value) in attributes {
            let kind = value.kind();
            if !self.keys.contains_key(name) {
                let name: Arc<str> = name.into();
                self.keys.insert(Arc::clone(&name), Key { name, last: None, own: Default::default() });
            }
            let Some(key) = self.keys.get_mut(name) else { continue };
            if key.last == Some(row) {
                continue;
            }
            key.last = Some(row);
            if let Some(column) = key.own[kind as usize] {
                self.columns[column].push(row, &value);
                continue;
            }
            let is_known = self.known.as_ref().is_some_and(|known| known.index_of(&kind.column(name)).is_ok());
            if is_known || (name.len() <= OWN_KEY_BYTES_MAX && self.own_columns < OWN_COLUMNS_MAX) {
                self.own_columns += usize::from(!is_known);
                key.own[kind as usize] = Some(self.columns.len());
                let mut own = Own::new(Arc::clone(&key.name), kind);
                own.push(row, &value);
                self.columns.push(own);
            } else {
                self.rest.push((row, Arc::clone(&key.name), lettered(kind, &value)));
            }
        }
        self.rows += 1;
    }

    /// The columns, with their names.
    ///
    /// # Errors
    /// None in fact.
    pub(crate) fn finish(self) -> Result<Vec<(String, ArrayRef)>> {
        let (rows, mut rest) = (self.rows as usize, self.rest);
        let mut columns: Vec<(String, ArrayRef)> = Vec::new();
        for own in self.columns {
            if own.rows.len() * RARE_ROWS >= rows {
                columns.push((own.kind.column(&own.key), own.finish(rows)));
            } else {
                let value = |place| lettered(own.kind, &own.get(place));
                rest.extend(own.rows.iter().enumerate().map(|(place, &row)| (row, Arc::clone(&own.key), value(place))));
            }
        }
        if rest.is_empty() {
            return Ok(columns);
        }
        rest.sort_by_key(|entry| entry.0);
        let (mut builder, mut rest) = (map_builder(), rest.into_iter().peekable());
        for row in 0..rows as u32 {
            while let Some((_, key, value)) = rest.next_if(|entry| entry.0 == row) {
                builder.keys().append_value(key);
                builder.values().append_value(value);
            }
            builder.append(true).map_err(|error| Error::internal(error.to_string()))?;
        }
        columns.push((REST.to_owned(), Arc::new(builder.finish())));
        Ok(columns)
    }
}

fn lettered(kind: Kind, value: &Value<'_>) -> String {
    let mut text = String::from(kind.letter());
    value.put(&mut text);
    text
}

/// A builder of maps as tables show them.
pub(crate) fn map_builder() -> MapBuilder<StringBuilder, StringBuilder> {
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
}

/// The columns of a table, with `columns`, that hold attributes: of the keys `wanted`, or of all.
pub(crate) fn stored_columns<'a>(columns: &'a Schema, wanted: Option<&HashSet<String>>) -> Vec<&'a str> {
    let holds = |field: &&Arc<Field>| match key_of(field.name()) {
        Some(key) => wanted.is_none_or(|wanted| wanted.contains(key)),
        None => field.name() == REST,
    };
    columns.fields().iter().filter(holds).map(|field| field.name().as_str()).collect()
}

/// One column of a key, in a batch of a scan.
enum Read<'a> {
    Text(&'a StringArray),
    Integer(&'a Int64Array),
    Double(&'a Float64Array),
    Boolean(&'a BooleanArray),
}

impl<'a> Read<'a> {
    fn of(array: &'a ArrayRef) -> Option<Self> {
        Some(match array.data_type() {
            DataType::Utf8 => Self::Text(array.as_string()),
            DataType::Int64 => Self::Integer(array.as_primitive::<Int64Type>()),
            DataType::Float64 => Self::Double(array.as_primitive::<Float64Type>()),
            DataType::Boolean => Self::Boolean(array.as_boolean()),
            _ => return None,
        })
    }

    fn get(&self, row: usize) -> Option<Value<'a>> {
        match self {
            Self::Text(array) => array.is_valid(row).then(|| Value::Text(array.value(row))),
            Self::Integer(array) => array.is_valid(row).then(|| Value::Integer(array.value(row))),
            Self::Double(array) => array.is_valid(row).then(|| Value::Double(array.value(row))),
            Self::Boolean(array) => array.is_valid(row).then(|| Value::Boolean(array.value(row))),
        }
    }
}

/// The attributes of each row of a scanned batch as a map with keys in order: of the keys `wanted`, or of all.
pub(crate) fn maps(batch: &RecordBatch, wanted: Option<&HashSet<String>>) -> Result<MapArray> {
    let wants = |key: &str| wanted.is_none_or(|wanted| wanted.contains(key));
    let mut own: BTreeMap<&str, Vec<Read<'_>>> = BTreeMap::new();
    let mut rest = None;
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        if array.null_count() == array.len() {
            continue;
        }
        match key_of(field.name()) {
            Some(key) if wants(key) => own.entry(key).or_default().extend(Read::of(array)),
            None if field.name() == REST => rest = array.as_map_opt(),
            _ => {}
        }
    }
    let mut builder = map_builder();
    let (mut pairs, mut scratch): (BTreeMap<&str, &str>, String) = Default::default();
    for row in 0..batch.num_rows() {
        pairs.clear();
        if let Some(map) = rest.filter(|map| map.is_valid(row)) {
            let (from, to) = (map.value_offsets()[row] as usize, map.value_offsets()[row + 1] as usize);
            let (keys, values) = (map.keys().as_string::<i32>(), map.values().as_string::<i32>());
            // Without the letter of its type, which is one byte.
            let all = (from..to).map(|at| (keys.value(at), values.value(at).get(1..).unwrap_or("")));
            pairs.extend(all.filter(|(key, _)| wants(key)));
        }
        let mut pairs = pairs.iter().peekable();
        for (key, columns) in &own {
            let Some(value) = columns.iter().find_map(|column| column.get(row)) else { continue };
            while let Some((rest_key, rest_value)) = pairs.next_if(|(rest_key, _)| *rest_key < key) {
                builder.keys().append_value(rest_key);
                builder.values().append_value(rest_value);
            }
            builder.keys().append_value(key);
            match value {
                Value::Text(text) => builder.values().append_value(text),
                other => {
                    scratch.clear();
                    other.put(&mut scratch);
                    builder.values().append_value(&scratch);
                }
            }
        }
        for (key, value) in pairs {
            builder.keys().append_value(key);
            builder.values().append_value(value);
        }
        builder.append(true).map_err(|error| Error::internal(error.to_string()))?;
    }
    Ok(builder.finish())
}

/// The types of the attributes of each row of a scanned batch as a map with keys in order.
pub(crate) fn type_maps(batch: &RecordBatch) -> Result<MapArray> {
    let mut own: BTreeMap<&str, Vec<(Kind, &ArrayRef)>> = BTreeMap::new();
    let mut rest = None;
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        match column_of(field.name()) {
            Some((kind, key)) => own.entry(key).or_default().push((kind, array)),
            None if field.name() == REST => rest = array.as_map_opt(),
            None => {}
        }
    }
    let mut builder = map_builder();
    let mut pairs: BTreeMap<&str, &'static str> = BTreeMap::new();
    for row in 0..batch.num_rows() {
        pairs.clear();
        if let Some(map) = rest.filter(|map| map.is_valid(row)) {
            let (from, to) = (map.value_offsets()[row] as usize, map.value_offsets()[row + 1] as usize);
            let (keys, values) = (map.keys().as_string::<i32>(), map.values().as_string::<i32>());
            for at in from..to {
                let kind = Kind::ALL.into_iter().find(|kind| values.value(at).starts_with(kind.letter()));
                pairs.extend(kind.map(|kind| (keys.value(at), kind.name())));
            }
        }
        for (&key, columns) in &own {
            let column = columns.iter().find(|(_, array)| array.is_valid(row));
            pairs.extend(column.map(|(kind, _)| (key, kind.name())));
        }
        for (key, name) in &pairs {
            builder.keys().append_value(key);
            builder.values().append_value(name);
        }
        builder.append(true).map_err(|error| Error::internal(error.to_string()))?;
    }
    Ok(builder.finish())
}

/// Attributes of something inside of a row, as one entry of `builder`.
pub(crate) fn put_map<'a>(
    builder: &mut MapBuilder<StringBuilder, StringBuilder>,
    attributes: impl IntoIterator<Item = &'a (&'a str, Value<'a>)>,
) -> Result<()> {
    let (mut seen, mut scratch) = (HashSet::new(), String::new());
    for (key, value) in attributes {
        if seen.insert(*key) {
            scratch.clear();
            value.put(&mut scratch);
            builder.keys().append_value(key);
            builder.values().append_value(&scratch);
        }
    }
    builder.append(true).map_err(|error| Error::internal(error.to_string()))
}

/// Columns as a batch; `rows` of each.
pub(crate) fn batch(columns: Vec<(String, ArrayRef)>) -> Result<RecordBatch> {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(name, array.data_type().clone(), true)).collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(|error| Error::internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(batch: &RecordBatch, wanted: Option<&[&str]>) -> Vec<Vec<(String, String)>> {
        let wanted: Option<HashSet<String>> = wanted.map(|keys| keys.iter().map(|&key| key.to_owned()).collect());
        pairs(&maps(batch, wanted.as_ref()).unwrap())
    }

    fn pairs(maps: &MapArray) -> Vec<Vec<(String, String)>> {
        let row = |row: usize| {
            let entries = maps.value(row);
            let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
            (0..entries.len()).map(|at| (keys.value(at).to_owned(), values.value(at).to_owned())).collect()
        };
        (0..maps.len()).map(row).collect()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn each_key_and_type_has_a_column_and_rows_come_back() {
        let mut builder = AttributesBuilder::new(None);
        builder.push([("http.status", Value::Integer(200)), ("ok", Value::Boolean(true)), ("ok", Value::Text("x"))]);
        builder.push([]);
        builder.push([("http.status", Value::Text("none")), ("a", Value::Double(0.5)), ("l", Value::Json("[1]"))]);
        let batch = batch(builder.finish().unwrap()).unwrap();
        let schema = batch.schema();
        let mut names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["attr/b/ok", "attr/d/a", "attr/i/http.status", "attr/j/l", "attr/s/http.status"]);
        let first = vec![pair("http.status", "200"), pair("ok", "true")];
        let last = vec![pair("a", "0.5"), pair("http.status", "none"), pair("l", "[1]")];
        assert_eq!(shown(&batch, None), [first, vec![], last]);
        assert_eq!(shown(&batch, Some(&["ok"])), [vec![pair("ok", "true")], vec![], vec![]]);
        assert_eq!(stored_columns(&schema, Some(&HashSet::from(["ok".to_owned()]))), ["attr/b/ok"]);
        let first = vec![pair("http.status", "integer"), pair("ok", "boolean")];
        let last = vec![pair("a", "double"), pair("http.status", "text"), pair("l", "json")];
        assert_eq!(pairs(&type_maps(&batch).unwrap()), [first, vec![], last]);
    }

    #[test]
    fn keys_beyond_the_columns_of_a_table_share_a_map_and_columns_that_exist_are_used() {
        let mut builder = AttributesBuilder::new(None);
        let keys: Vec<String> = (0..OWN_COLUMNS_MAX + 3).map(|key| format!("k{key:04}")).collect();
        let long = "x".repeat(OWN_KEY_BYTES_MAX + 1);
        builder.push(std::iter::once((long.as_str(), Value::Integer(7))));
        builder.push(keys.iter().map(|key| (key.as_str(), Value::Integer(1))));
        let batch = batch(builder.finish().unwrap()).unwrap();
        assert_eq!(batch.num_columns(), OWN_COLUMNS_MAX + 1);
        let rows = shown(&batch, None);
        assert_eq!(rows[0], [pair(&long, "7")]);
        assert_eq!(rows[1], keys.iter().map(|key| pair(key, "1")).collect::<Vec<_>>());
        assert_eq!(shown(&batch, Some(&["k0514", "k0000"]))[1], [pair("k0000", "1"), pair("k0514", "1")]);
        let mut builder = AttributesBuilder::new(Some(batch.schema()));
        builder.push([("new", Value::Integer(1)), ("k0000", Value::Integer(2))]);
        let names: Vec<String> = builder.finish().unwrap().into_iter().map(|column| column.0).collect();
        assert_eq!(names, ["attr/i/k0000", REST]);
    }

    #[test]
    fn keys_that_are_rare_in_a_batch_share_the_map() {
        let mut builder = AttributesBuilder::new(None);
        for row in 0..RARE_ROWS as i64 + 1 {
            let rare = [("rare", Value::Double(row as f64 / 2.0)), ("rarer", Value::Text("x"))];
            let common = std::iter::once(("common", Value::Integer(row)));
            builder.push(common.chain(rare.into_iter().filter(|_| row == 5)));
        }
        let batch = batch(builder.finish().unwrap()).unwrap();
        let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["attr/i/common", REST]);
        let rows = shown(&batch, None);
        assert_eq!(rows[5], [pair("common", "5"), pair("rare", "2.5"), pair("rarer", "x")]);
        assert_eq!(rows[6], [pair("common", "6")]);
        let types = pairs(&type_maps(&batch).unwrap());
        assert_eq!(types[5], [pair("common", "integer"), pair("rare", "double"), pair("rarer", "text")]);
    }
}
