use super::*;

fn shown(batch: &RecordBatch, wanted: Option<&[&str]>) -> Vec<Vec<(String, String)>> {
    let wanted: Option<HashSet<String>> = wanted.map(|keys| keys.iter().map(|&key| key.to_owned()).collect());
    let maps = maps(batch, wanted.as_ref()).unwrap();
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
}

#[test]
fn types_of_each_row_are_told_but_for_texts() {
    let mut builder = AttributesBuilder::new(None);
    builder.push([("i", Value::Integer(1)), ("s", Value::Text("x")), ("o", Value::Boolean(true))]);
    builder.push([("i", Value::Text("x")), ("d", Value::Double(0.5)), ("l", Value::Json("[]"))]);
    let long = "x".repeat(OWN_KEY_BYTES_MAX + 1);
    builder.push([(long.as_str(), Value::Double(1.0))]);
    let maps = types(&batch(builder.finish().unwrap()).unwrap()).unwrap();
    let row = |row: usize| {
        let entries = maps.value(row);
        let (keys, kinds) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
        (0..entries.len()).map(|at| pair(keys.value(at), kinds.value(at))).collect::<Vec<_>>()
    };
    assert_eq!(row(0), [pair("i", "integer"), pair("o", "boolean")]);
    assert_eq!(row(1), [pair("d", "double"), pair("l", "json")]);
    assert_eq!(row(2), [pair(&long, "double")]);
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
fn a_key_of_several_types_without_columns_is_in_the_map_in_each_row_with_the_type_it_has_there() {
    let full: Vec<String> = (0..OWN_COLUMNS_MAX).map(|key| Kind::Boolean.column(&format!("k{key}"))).collect();
    let mut full: Vec<Field> = full.into_iter().map(|name| Field::new(name, DataType::Boolean, true)).collect();
    full.push(Field::new(Kind::Double.column("n"), DataType::Float64, true));
    let mut builder = AttributesBuilder::new(Some(Arc::new(Schema::new(full))));
    for row in 0..6 {
        let value = [Value::Text("x"), Value::Integer(row), Value::Double(0.5)][row as usize % 3];
        builder.push([("n", value), ("n", Value::Boolean(true))]);
    }
    let batch = batch(builder.finish().unwrap()).unwrap();
    let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["attr/d/n", REST], "only the double has a column");
    let values: Vec<String> = shown(&batch, None).into_iter().map(|mut row| row.remove(0).1).collect();
    assert_eq!(values, ["x", "1", "0.5", "x", "4", "0.5"]);
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
}

#[test]
fn many_keys_that_are_seldom_there_cost_no_more_than_the_values_that_came() {
    let rows = 4096;
    let mut builder = AttributesBuilder::new(None);
    let keys: Vec<String> = (0..300).map(|key| format!("k{key}")).collect();
    // Each key is in one row of 100, the first one in all.
    let has = |row: usize, key: usize| key == 0 || row % 100 == key % 100;
    for row in 0..rows {
        let all = keys.iter().enumerate().filter(|(key, _)| has(row, *key));
        builder.push(all.map(|(_, name)| (name.as_str(), Value::Integer(row as i64))));
    }
    let values: usize = (0..rows).map(|row| (0..300).filter(|&key| has(row, key)).count()).sum();
    let batch = batch(builder.finish().unwrap()).unwrap();
    let empty: usize = batch.columns().iter().map(|column| column.null_count()).sum();
    assert!((1..=values * EMPTY_PER_VALUE).contains(&empty), "{empty} for {values} values");
    assert_eq!(batch.schema().field(0).name(), "attr/i/k0");
    let shown = shown(&batch, None);
    for (row, shown) in shown.iter().enumerate() {
        let expected = keys.iter().enumerate().filter(|(key, _)| has(row, *key));
        let mut expected: Vec<(String, String)> = expected.map(|(_, name)| pair(name, &row.to_string())).collect();
        expected.sort();
        assert_eq!(*shown, expected, "row {row}");
    }
}
