//! Matchers of Prometheus as conditions on the table `samples`, with Prometheus's meaning: a label that a series lacks is "".
use regex::Regex;

use super::label_text::{self, Op};

/// The conditions of `text`, such as `up{job=~"a.*"}`, joined by AND.
///
/// # Errors
/// What is wrong with `text`.
pub(super) fn sql(text: &str) -> Result<String, String> {
    let (conditions, rest) = label_text::parse(text)?;
    if !rest.trim().is_empty() {
        return Err(format!("expected the end of the matchers, found {:?}", rest.trim()));
    }
    let conditions = conditions.iter().map(|(name, op, value)| condition(name, *op, value));
    let conditions: Vec<String> = conditions.collect::<Result<_, _>>()?;
    Ok(if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") })
}

/// `text` as a string of SQL.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn condition(name: &str, op: Op, value: &str) -> Result<String, String> {
    let column = if name == "__name__" { "metric".to_owned() } else { format!("labels[{}]", literal(name)) };
    Ok(match (op, value.is_empty()) {
        (Op::Equal, true) => format!("{column} IS NULL"),
        (Op::Equal, false) => format!("{column} = {}", literal(value)),
        (Op::NotEqual, true) => format!("{column} IS NOT NULL"),
        (Op::NotEqual, false) => format!("{column} IS DISTINCT FROM {}", literal(value)),
        (Op::Regex | Op::NotRegex, _) => {
            let anchored = format!("^(?s:{value})$");
            let regex = Regex::new(&anchored).map_err(|error| format!("label {name}: {error}"))?;
            let operator = if op == Op::Regex { "~" } else { "!~" };
            let found = format!("{column} {operator} {}", literal(&anchored));
            // NULL matches no operator of SQL.
            if regex.is_match("") == (op == Op::Regex) { format!("({column} IS NULL OR {found})") } else { found }
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_label_is_empty_as_in_prometheus() {
        for (matchers, expected) in [
            ("up", "metric = 'up'"),
            ("{}", "true"),
            (r#"up{a="it's"}"#, "metric = 'up' AND labels['a'] = 'it''s'"),
            (r#"{a=""}"#, "labels['a'] IS NULL"),
            (r#"{a!=""}"#, "labels['a'] IS NOT NULL"),
            (r#"{a!="b"}"#, "labels['a'] IS DISTINCT FROM 'b'"),
            (r#"{a=~"b.+"}"#, "labels['a'] ~ '^(?s:b.+)$'"),
            (r#"{a=~"b|"}"#, "(labels['a'] IS NULL OR labels['a'] ~ '^(?s:b|)$')"),
            (r#"{a!~"b"}"#, "(labels['a'] IS NULL OR labels['a'] !~ '^(?s:b)$')"),
            (r#"{a!~".*"}"#, "labels['a'] !~ '^(?s:.*)$'"),
            (r#"{__name__=~"a|b"}"#, "metric ~ '^(?s:a|b)$'"),
        ] {
            assert_eq!(sql(matchers).unwrap(), expected, "{matchers}");
        }
        assert!(sql(r#"{a=~"("}"#).unwrap_err().contains("label a"));
        assert!(sql("up offset 5m").unwrap_err().contains("the end of the matchers"));
    }
}
