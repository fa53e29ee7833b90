//! Which column of a table of samples is what: `ts`, `value`, `metric`, `labels`; every other column is a label.

/// Indexes of columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) ts: usize,
    pub(super) value: usize,
    /// The metric's name; without one every row is of the metric that the user names, or of none.
    pub(super) metric: Option<usize>,
    /// All labels, as a map.
    pub(super) labels: Option<usize>,
    /// One label each.
    pub(super) others: Vec<usize>,
}

impl Layout {
    /// Of columns with `names`. When the user names the metric, a column `metric` is a label like others.
    ///
    /// # Errors
    /// Which column is missing or there twice.
    pub(super) fn of(names: &[&str], metric_is_named: bool) -> Result<Self, String> {
        if let Some((_, twice)) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            return Err(format!("the column {twice:?} is there twice"));
        }
        let find = |wanted: &str| names.iter().position(|name| *name == wanted);
        let need = |wanted: &str| {
            find(wanted).ok_or_else(|| {
                let shown: Vec<&str> = names.iter().copied().take(20).collect();
                format!("there is no column {wanted}; samples need ts and value, the columns are {}", shown.join(", "))
            })
        };
        let (ts, value, labels) = (need("ts")?, need("value")?, find("labels"));
        let metric = if metric_is_named { None } else { find("metric") };
        if metric.is_none() && labels.is_none() && !metric_is_named && find("__name__").is_none() {
            return Err("there is no column metric; name the metric of all rows with --metric".to_owned());
        }
        let fixed = [Some(ts), Some(value), metric, labels];
        let others = (0..names.len()).filter(|i| !fixed.contains(&Some(*i))).collect();
        Ok(Self { ts, value, metric, labels, others })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name_and_the_rest_are_labels() {
        let layout = Layout::of(&["host", "value", "ts", "metric"], false).unwrap();
        assert_eq!(layout, Layout { ts: 2, value: 1, metric: Some(3), labels: None, others: vec![0] });
        let named = Layout::of(&["ts", "value", "metric"], true).unwrap();
        assert_eq!((named.metric, named.others), (None, vec![2]), "with --metric, `metric` is a label");
        assert_eq!(Layout::of(&["ts", "metric", "labels", "value"], false).unwrap().labels, Some(2));
        assert!(Layout::of(&["ts", "value", "host"], false).unwrap_err().contains("--metric"));
        assert!(Layout::of(&["time", "value"], true).unwrap_err().contains("no column ts"));
        assert!(Layout::of(&["ts", "value", "a", "a"], true).unwrap_err().contains("twice"));
    }
}
