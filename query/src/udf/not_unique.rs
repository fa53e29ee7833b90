//! `not_unique(x)`: `x`, of which nothing is believed.
//!
//! DataFusion 55.2 takes the key of a GROUP BY to be unique still after `unnest`: of `SELECT id, unnest(…) AS f … GROUP BY id` it
//! drops what else rows are grouped by, and takes a join with it for a look-up that finds one row. Tables that are made that way
//! ([`super::table_form`]) put the key into this function. A statement that is written so by hand is sorted right by
//! `rule::whole_orders`; grouping or joining it once more by the same key goes wrong unless the key is in the function there, too.
use arrow::datatypes::DataType;
use datafusion::common::utils::take_function_args;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

/// Its name in SQL.
pub(crate) const NAME: &str = "not_unique";

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct NotUnique {
    signature: Signature,
}

impl Default for NotUnique {
    fn default() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for NotUnique {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [kind] = take_function_args(NAME, types)?;
        Ok(kind.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = take_function_args(NAME, args.args)?;
        Ok(value)
    }
}

/// What stands in the function, if `expr` is a call of it.
pub(crate) fn argument(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::ScalarFunction(call) if call.name() == NAME => call.args.first(),
        _ => None,
    }
}
