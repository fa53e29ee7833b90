//! Gathering many series by their labels, to add all that have one in one go.
use hashbrown::HashMap;

use crate::types::LabelSet;

/// Which of some series have a label, and which a value of it.
#[derive(Default)]
pub(super) struct Gathered<'a> {
    /// Places in `lists`.
    names: HashMap<&'a [u8], usize>,
    values: HashMap<(&'a [u8], &'a [u8]), usize>,
    lists: Vec<Vec<u32>>,
}

/// A label of an earlier series, and its lists.
struct Before<'a> {
    name: &'a [u8],
    value: &'a [u8],
    of_name: usize,
    of_value: usize,
}

impl<'a> Gathered<'a> {
    /// Of numbered series. Neighbours best have many labels in common: those cost a comparison.
    pub(super) fn of(series: impl IntoIterator<Item = (u32, &'a LabelSet)>) -> Self {
        let mut gathered = Self::default();
        // By position in a label set.
        let mut before: Vec<Before<'a>> = Vec::new();
        for (number, labels) in series {
            for (at, (name, value)) in labels.iter_bytes().enumerate() {
                match before.get_mut(at) {
                    Some(before) if before.name == name && before.value == value => {}
                    Some(before) => {
                        let of_name = if before.name == name { before.of_name } else { gathered.of_name(name) };
                        *before = Before { name, value, of_name, of_value: gathered.of_value(name, value) };
                    }
                    None => {
                        let (of_name, of_value) = (gathered.of_name(name), gathered.of_value(name, value));
                        before.push(Before { name, value, of_name, of_value });
                    }
                }
                gathered.lists[before[at].of_name].push(number);
                gathered.lists[before[at].of_value].push(number);
            }
        }
        gathered
    }

    fn of_name(&mut self, name: &'a [u8]) -> usize {
        *self.names.entry(name).or_insert_with(|| add_list(&mut self.lists))
    }

    fn of_value(&mut self, name: &'a [u8], value: &'a [u8]) -> usize {
        *self.values.entry((name, value)).or_insert_with(|| add_list(&mut self.lists))
    }

    /// The labels in any order, each with the numbers of the series that have it, as these came.
    pub(super) fn names(&self) -> impl Iterator<Item = (&'a [u8], &[u32])> {
        self.names.iter().map(|(&name, &list)| (name, &*self.lists[list]))
    }

    /// As [`Gathered::names`], the labels with each of their values.
    pub(super) fn values(&self) -> impl Iterator<Item = ((&'a [u8], &'a [u8]), &[u32])> {
        self.values.iter().map(|(&pair, &list)| (pair, &*self.lists[list]))
    }
}

fn add_list(lists: &mut Vec<Vec<u32>>) -> usize {
    lists.push(Vec::new());
    lists.len() - 1
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn each_label_and_value_has_exactly_the_series_that_have_it(
            series in prop::collection::vec(prop::collection::btree_map("[a-d]{1,2}", "[xy]{1,2}", 0..5), 0..40),
        ) {
            let sets: Vec<LabelSet> = series
                .iter()
                .map(|pairs| LabelSet::from_pairs(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))).unwrap())
                .collect();
            let (mut names, mut values) = (BTreeMap::<_, Vec<u32>>::new(), BTreeMap::<_, Vec<u32>>::new());
            for (number, pairs) in (7u32..).zip(&series) {
                for (name, value) in pairs {
                    names.entry(name.as_bytes()).or_default().push(number);
                    values.entry((name.as_bytes(), value.as_bytes())).or_default().push(number);
                }
            }
            let gathered = Gathered::of((7u32..).zip(&sets));
            prop_assert_eq!(gathered.names().map(|(n, list)| (n, list.to_vec())).collect::<BTreeMap<_, _>>(), names);
            prop_assert_eq!(gathered.values().map(|(v, list)| (v, list.to_vec())).collect::<BTreeMap<_, _>>(), values);
        }
    }
}
