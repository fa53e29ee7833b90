//! `explain_change(TABLE selected, TABLE baseline, dims => […])`: the aggregate behind the table ([`super::table_form`]).
//!
//! Its arguments are whether a row is selected, then name and value of each dimension. The answer is a list of structs by
//! falling score, empty when a side has no rows.
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray};
use arrow::compute::can_cast_types;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int32Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};
use foretell_ml::contrast::{Contrast, Difference};

use super::collect::{list_of_structs, struct_list};
use super::constant;
use super::forecast::external;
use crate::error::Error;
use crate::table::label_type;

const NAME: &str = "explain_change";

/// The aggregate.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct ExplainChange {
    signature: Signature,
}

impl Default for ExplainChange {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn fields() -> Fields {
    let field = |kind: DataType| move |name: &str| Field::new(name, kind.clone(), true);
    let text = ["dimension", "value", "dimension_2", "value_2"].into_iter().map(field(DataType::Utf8));
    let counts = ["selected", "baseline"].into_iter().map(field(DataType::Int64));
    let numbers = ["selected_share", "baseline_share", "lift", "score", "p_value"];
    text.chain(counts).chain(numbers.into_iter().map(field(DataType::Float64))).collect()
}

fn misused() -> Error {
    Error::invalid(format!(
        "{NAME} is a table function: write SELECT * FROM {NAME}(TABLE selected, TABLE baseline, dims => [service])"
    ))
}

impl AggregateUDFImpl for ExplainChange {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let Some((DataType::Boolean, dims)) = types.split_first().filter(|(_, dims)| dims.len() % 2 == 0) else {
            return Err(misused().into());
        };
        let mut coerced = vec![DataType::Boolean];
        for pair in dims.chunks(2) {
            coerced.push(DataType::Utf8);
            coerced.push(match &pair[1] {
                kind if *kind == label_type() => kind.clone(),
                kind if can_cast_types(kind, &DataType::Utf8) && !kind.is_nested() => DataType::Utf8,
                kind => {
                    return Err(Error::invalid(format!(
                        "{NAME}: a dimension cannot be {kind}: give text or numbers, such as attributes['key']"
                    ))
                    .into());
                }
            });
        }
        Ok(coerced)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(list_of_structs(fields()))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let mut names = Vec::with_capacity(args.exprs.len() / 2);
        for expr in args.exprs.iter().skip(1).step_by(2) {
            let name = constant::text(&constant::value(expr, NAME, "dims")?, NAME, "dims")?;
            names.push(name.ok_or_else(misused)?);
        }
        Ok(Box::new(Sides { contrast: Contrast::new(names.len()).map_err(external)?, names }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "counts"), DataType::Binary, true))])
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// Rows of both sides, counted.
struct Sides {
    names: Vec<String>,
    contrast: Contrast,
}

impl fmt::Debug for Sides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sides({})", self.names.join(", "))
    }
}

impl Sides {
    /// The code of each row's value of one dimension.
    fn codes(&mut self, dim: usize, values: &ArrayRef) -> Vec<u32> {
        if let Some(values) = values.as_dictionary_opt::<Int32Type>() {
            // each value of the dictionary is looked up once, if a row has it
            let texts = values.values().as_string::<i32>();
            let mut known: Vec<Option<u32>> = vec![None; texts.len()];
            let none = self.contrast.code(dim, None);
            return values
                .keys_iter()
                .map(|key| match key {
                    Some(key) if texts.is_valid(key) => {
                        *known[key].get_or_insert_with(|| self.contrast.code(dim, Some(texts.value(key))))
                    }
                    _ => none,
                })
                .collect();
        }
        values.as_string::<i32>().iter().map(|value| self.contrast.code(dim, value)).collect()
    }
}

impl Accumulator for Sides {
    fn update_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        let selected = arguments[0].as_boolean();
        let columns: Vec<Vec<u32>> =
            (0..self.names.len()).map(|dim| self.codes(dim, &arguments[2 + 2 * dim])).collect();
        let mut codes = vec![0; columns.len()];
        for row in 0..selected.len() {
            for (code, column) in codes.iter_mut().zip(&columns) {
                *code = column[row];
            }
            self.contrast.count(&codes, selected.is_valid(row) && selected.value(row));
        }
        self.contrast.settle();
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let found = self.contrast.differences();
        let text = |texts: Vec<Option<&str>>| -> ArrayRef { Arc::new(StringArray::from(texts)) };
        let count = |side: usize| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(found.iter().map(|d| d.rows[side] as i64)))
        };
        let number =
            |f: fn(&Difference) -> f64| -> ArrayRef { Arc::new(Float64Array::from_iter_values(found.iter().map(f))) };
        let columns = vec![
            text(found.iter().map(|d| Some(self.names[d.value.0].as_str())).collect()),
            text(found.iter().map(|d| d.value.1.as_deref()).collect()),
            text(found.iter().map(|d| d.and.as_ref().map(|second| self.names[second.0].as_str())).collect()),
            text(found.iter().map(|d| d.and.as_ref().and_then(|second| second.1.as_deref())).collect()),
            count(0),
            count(1),
            number(|d| d.shares[0]),
            number(|d| d.shares[1]),
            number(|d| d.lift),
            number(|d| d.score),
            number(|d| d.p_value),
        ];
        struct_list(fields(), columns)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.contrast.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut bytes = Vec::new();
        self.contrast.save(&mut bytes);
        Ok(vec![ScalarValue::Binary(Some(bytes))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for saved in states[0].as_binary::<i32>().iter().flatten() {
            self.contrast.merge(saved).map_err(external)?;
        }
        Ok(())
    }
}
