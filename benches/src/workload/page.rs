//! A template of one exporter's page: its label sets, and how each value behaves. One series a line in the file:
//! the series as the exposition format writes it, a tab, the behaviour.
use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::behaviour::Behaviour;

/// A label set as pairs, `__name__` included, sorted by name.
pub type Labels = Vec<(String, String)>;

/// The series of one exporter.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// In the order of the page.
    pub series: Vec<(Labels, Arc<Behaviour>)>,
}

impl Page {
    /// Reads a page file.
    ///
    /// # Errors
    /// Names the line that cannot be read.
    pub fn parse(text: &str) -> Result<Self> {
        let mut series = Vec::new();
        for (number, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let parse = || -> Result<(Labels, Arc<Behaviour>)> {
                let (name, behaviour) = line.rsplit_once('\t').context("expected a tab before the behaviour")?;
                let (labels, rest) = parse_series(name)?;
                ensure!(rest.is_empty(), "expected nothing between the series and the tab, got {rest:?}");
                Ok((labels, Arc::new(behaviour.parse()?)))
            };
            series.push(parse().with_context(|| format!("line {}", number + 1))?);
        }
        Ok(Self { series })
    }

    /// Writes a page file.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (labels, behaviour) in &self.series {
            text.push_str(&format_series(labels));
            // writing to a String cannot fail
            let _ = writeln!(text, "\t{behaviour}");
        }
        text
    }
}

/// The exposition format's notation of a series.
pub fn format_series(labels: &[(String, String)]) -> String {
    let name = labels.iter().find(|(n, _)| n == "__name__").map_or("", |(_, v)| v);
    let pairs: Vec<String> = labels
        .iter()
        .filter(|(n, _)| n != "__name__")
        .map(|(n, v)| format!("{n}=\"{}\"", v.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")))
        .collect();
    if pairs.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", pairs.join(",")) }
}

/// Reads `name{label="value",…}` and returns its labels, sorted, with what follows.
///
/// # Errors
/// When quotes or braces do not match.
pub fn parse_series(text: &str) -> Result<(Labels, &str)> {
    let end = text.find(['{', ' ', '\t']).unwrap_or(text.len());
    let mut labels = vec![("__name__".to_owned(), text[..end].to_owned())];
    let mut rest = &text[end..];
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (name, after) = rest.split_once("=\"").context("expected name=\"value\" inside the braces")?;
            let (value, after) = unquote(after)?;
            labels.push((name.to_owned(), value));
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    labels.sort();
    Ok((labels, rest))
}

fn unquote(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next().context("expected a character after the backslash")?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            _ => value.push(c),
        }
    }
    anyhow::bail!("expected a closing quote after {value:?}")
}
