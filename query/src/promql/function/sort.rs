//! The order of an instant query's answer.
use std::cmp::Ordering;

use super::super::expr::Expr;
use super::super::number::nan_first;
use super::super::value::Column;

/// Puts the series of an instant vector into the order that `expr` asks for.
pub(crate) fn order(expr: &Expr, columns: &mut [Column]) {
    let Expr::Call(function, args) = expr else { return };
    let labels = || {
        let name = |arg: &Expr| match arg {
            Expr::Text(name) => Some(name.clone()),
            _ => None,
        };
        args.iter().skip(1).filter_map(name).collect::<Vec<String>>()
    };
    match function.name {
        "sort" => columns.sort_by(|a, b| nan_last(a.values[0], b.values[0], |a, b| nan_first(&a, &b))),
        "sort_desc" => columns.sort_by(|a, b| nan_last(a.values[0], b.values[0], |a, b| nan_first(&b, &a))),
        "sort_by_label" => {
            let names = labels();
            columns.sort_by(|a, b| by_labels(a, b, &names));
        }
        "sort_by_label_desc" => {
            let names = labels();
            columns.sort_by(|a, b| by_labels(b, a, &names));
        }
        _ => {}
    }
}

fn nan_last(a: f64, b: f64, otherwise: impl Fn(f64, f64) -> Ordering) -> Ordering {
    a.is_nan().cmp(&b.is_nan()).then_with(|| otherwise(a, b))
}

fn by_labels(a: &Column, b: &Column, names: &[String]) -> Ordering {
    let value = |column: &Column, name: &str| column.labels.get(name).unwrap_or("").to_owned();
    let by_names = names.iter().map(|name| natural(&value(a, name), &value(b, name)));
    by_names.fold(Ordering::Equal, Ordering::then).then_with(|| a.labels.compare(&b.labels))
}

/// Runs of digits compare as numbers, the rest as text.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        match (a.first(), b.first()) {
            (None, None) => return Ordering::Equal,
            (None, _) => return Ordering::Less,
            (_, None) => return Ordering::Greater,
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (digits_a, rest_a) = split_digits(a);
                let (digits_b, rest_b) = split_digits(b);
                let order = digits_a.len().cmp(&digits_b.len()).then_with(|| digits_a.cmp(digits_b));
                if order != Ordering::Equal {
                    return order;
                }
                (a, b) = (rest_a, rest_b);
            }
            (Some(x), Some(y)) if x != y => return x.cmp(y),
            _ => (a, b) = (&a[1..], &b[1..]),
        }
    }
}

/// Leading digits without zeros in front, and the rest.
fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|c| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let zeros = digits.iter().position(|&c| c != b'0').unwrap_or(digits.len());
    (&digits[zeros..], rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_labels_sort_as_numbers() {
        assert_eq!(natural("cpu2", "cpu10"), Ordering::Less);
        assert_eq!(natural("cpu02", "cpu2"), Ordering::Equal);
        assert_eq!(natural("a", "ab"), Ordering::Less);
    }
}
