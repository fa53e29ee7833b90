//! The terms of the active series: label -> value -> slots.
//!
//! One table for all metrics: a value that every metric of a target carries is stored once. Values are sorted, so that those
//! with a prefix are a range.
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use croaring::Bitmap;

use super::gather::Gathered;

/// Most values of an identifying label occur on one series: those need no bitmap.
#[derive(Debug)]
pub(super) enum Posting {
    One(u32),
    Many(Box<Bitmap>),
}

impl Posting {
    fn of(slots: &[u32]) -> Self {
        match slots {
            [slot] => Self::One(*slot),
            slots => Self::Many(Box::new(Bitmap::of(slots))),
        }
    }
    /// Adds `slots`, which it does not have; whether it became a bitmap.
    fn add(&mut self, slots: &[u32]) -> bool {
        match self {
            Self::One(one) => {
                let mut bitmap = Bitmap::of(slots);
                bitmap.add(*one);
                *self = Self::Many(Box::new(bitmap));
                true
            }
            Self::Many(bitmap) => {
                bitmap.add_many(slots);
                false
            }
        }
    }
    /// Removes `slot`; whether nothing is left.
    fn remove(&mut self, slot: u32) -> bool {
        match self {
            Self::One(one) => *one == slot,
            Self::Many(bitmap) => {
                bitmap.remove(slot);
                bitmap.is_empty()
            }
        }
    }
    pub(super) fn or_into(&self, out: &mut Bitmap) {
        match self {
            Self::One(one) => out.add(*one),
            Self::Many(bitmap) => out.or_inplace(bitmap),
        }
    }
    fn intersects(&self, among: &Bitmap) -> bool {
        match self {
            Self::One(one) => among.contains(*one),
            Self::Many(bitmap) => bitmap.intersect(among),
        }
    }
}

/// A label of the active series.
#[derive(Debug, Default)]
pub(super) struct Label {
    pub(super) values: BTreeMap<Box<str>, Posting>,
    /// The slots that have it, whatever the value.
    pub(super) present: Bitmap,
}

impl Label {
    /// At most `count` values that begin with `prefix`, in order, from behind `after` on.
    pub(super) fn values_after(
        &self,
        prefix: &str,
        after: Option<&str>,
        count: usize,
    ) -> impl Iterator<Item = (&str, &Posting)> {
        let from = match after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(prefix),
        };
        let values = self.values.range::<str, _>((from, Bound::Unbounded)).map(|(value, posting)| (&**value, posting));
        values.take_while(move |(value, _)| value.starts_with(prefix)).take(count)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Terms {
    labels: BTreeMap<Arc<str>, Label>,
    values: usize,
    value_bytes: usize,
    /// Values on more than one series, or that once were.
    bitmaps: usize,
    /// Labels of all series together.
    places: usize,
}

/// Memory of a label: key, bitmap and a tree of values, of which the first node is the most.
const LABEL_BYTES: usize = 640;
/// Memory of a value besides its text: key, posting and their share of a tree node, an allocation.
const VALUE_BYTES: usize = 64;
/// Memory of a bitmap with few slots.
const BITMAP_BYTES: usize = 128;
/// Memory of a slot in the bitmaps of a label and of its value.
const PLACE_BYTES: usize = 4;

impl Terms {
    pub(super) fn get(&self, label: &str) -> Option<&Label> {
        self.labels.get(label)
    }

    /// The labels that a slot of `among` has, in order; without it, all.
    pub(super) fn names<'a>(&'a self, among: Option<&'a Bitmap>) -> impl Iterator<Item = &'a str> {
        let labels = self.labels.iter();
        labels.filter(move |(_, label)| among.is_none_or(|among| label.present.intersect(among))).map(|pair| &**pair.0)
    }

    /// Adds what was gathered of new slots. `shared` is only called for a label that is new.
    pub(super) fn add(&mut self, gathered: &Gathered<'_>, mut shared: impl FnMut(&str) -> Arc<str>) {
        for (name, slots) in gathered.names() {
            let Ok(name) = std::str::from_utf8(name) else { continue };
            if !self.labels.contains_key(name) {
                self.labels.insert(shared(name), Label::default());
            }
            if let Some(label) = self.labels.get_mut(name) {
                label.present.add_many(slots);
            }
        }
        for ((name, value), slots) in gathered.values() {
            let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else { continue };
            let Some(label) = self.labels.get_mut(name) else { continue };
            self.places += slots.len();
            match label.values.get_mut(value) {
                Some(posting) => self.bitmaps += usize::from(posting.add(slots)),
                None => {
                    self.values += 1;
                    self.value_bytes += value.len();
                    self.bitmaps += usize::from(slots.len() > 1);
                    label.values.insert(value.into(), Posting::of(slots));
                }
            }
        }
    }

    /// Takes out what [`Terms::add`] added.
    pub(super) fn remove(&mut self, slot: u32, (name, value): (&str, &str)) {
        let Some(label) = self.labels.get_mut(name) else { return };
        label.present.remove(slot);
        self.places -= 1;
        if label.values.get_mut(value).is_some_and(|posting| posting.remove(slot)) {
            let gone = label.values.remove(value);
            self.bitmaps -= usize::from(matches!(gone, Some(Posting::Many(_))));
            self.values -= 1;
            self.value_bytes -= value.len();
        }
        if label.values.is_empty() {
            self.labels.remove(name);
        }
    }

    /// Memory it holds, about.
    pub(super) fn bytes(&self) -> usize {
        self.labels.len() * LABEL_BYTES
            + self.values * VALUE_BYTES
            + self.value_bytes
            + self.bitmaps * BITMAP_BYTES
            + self.places * PLACE_BYTES
    }
}

/// Whether a posting has one of `among`; without it, yes.
pub(super) fn is_among(posting: &Posting, among: Option<&Bitmap>) -> bool {
    among.is_none_or(|among| posting.intersects(among))
}
