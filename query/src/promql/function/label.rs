//! Functions that change labels.
use super::super::expr::Expr;
use super::super::filter::anchored;
use super::super::labels::{is_name_fate, with};
use super::super::value::{Column, refuse_same_labels};
use crate::error::{Error, ErrorKind, Result};

/// Strings must be literals, regular expressions and label names good.
pub(super) fn check(function: &str, args: &[Expr]) -> Result<()> {
    for arg in &args[1..] {
        text(arg).map_err(|_| Error::invalid(format!("expected type string in call to function {function:?}")))?;
    }
    Ok(())
}

/// `label_replace(v, dst, replacement, src, regex)`
pub(super) fn replace(columns: Vec<Column>, args: &[Expr]) -> Result<Vec<Column>> {
    let [dst, replacement, src, pattern] = args else {
        return Err(Error::invalid("label_replace needs five arguments"));
    };
    let (dst, replacement, src, pattern) = (text(dst)?, text(replacement)?, text(src)?, text(pattern)?);
    let regex = anchored(pattern).map_err(|_| {
        Error::new(ErrorKind::Execution, format!("invalid regular expression in label_replace(): {pattern}"))
    })?;
    refuse_bad_name(dst, "label_replace")?;
    relabel(columns, |column| {
        let value = column.labels.get(src).unwrap_or("");
        let Some(captures) = regex.captures(value) else { return Ok(None) };
        let mut expanded = String::new();
        captures.expand(replacement, &mut expanded);
        with(&column.labels, &[(dst, &expanded)]).map(Some)
    })
}

/// `label_join(v, dst, separator, src…)`
pub(super) fn join(columns: Vec<Column>, args: &[Expr]) -> Result<Vec<Column>> {
    let [dst, separator, sources @ ..] = args else {
        return Err(Error::invalid("label_join needs at least three arguments"));
    };
    let (dst, separator) = (text(dst)?, text(separator)?);
    let sources = sources.iter().map(text).collect::<Result<Vec<&str>>>()?;
    refuse_bad_name(dst, "label_join")?;
    relabel(columns, |column| {
        let values: Vec<&str> = sources.iter().map(|name| column.labels.get(name).unwrap_or("")).collect();
        with(&column.labels, &[(dst, &values.join(separator))]).map(Some)
    })
}

fn relabel(
    mut columns: Vec<Column>,
    labels: impl Fn(&Column) -> Result<Option<foretell_engine::LabelSet>>,
) -> Result<Vec<Column>> {
    for column in &mut columns {
        if let Some(labels) = labels(column)? {
            column.labels = labels;
        }
    }
    refuse_same_labels(&columns)?;
    Ok(columns)
}

fn refuse_bad_name(name: &str, function: &str) -> Result<()> {
    if name.is_empty() || name.contains('\0') || is_name_fate(name) {
        return Err(Error::new(
            ErrorKind::Execution,
            format!("invalid destination label name in {function}(): {name}"),
        ));
    }
    Ok(())
}

fn text(arg: &Expr) -> Result<&str> {
    match arg {
        Expr::Text(text) => Ok(text),
        _ => Err(Error::invalid("expected a string")),
    }
}
