//! Asking the head index without holding its lock while a regular expression runs.
use croaring::Bitmap;
use parking_lot::RwLock;

use crate::error::{Error, Result};
use crate::types::SeriesId;

use super::head::Head;
use super::postings::{Postings, Visit};
use super::terms::is_among;

/// Values that are copied out at once.
const VALUES_AT_ONCE: usize = 1024;
/// Evictions during one question after which it is given up.
const ATTEMPTS_MAX: usize = 8;

/// The postings of the active series, of slots. The lock is taken for a bounded time each; answers fit together only if no
/// eviction came between, which [`HeadPostings::ask`] sees to. A series that is created meanwhile is in all later answers
/// or in none of the earlier ones: it can be missed, and its samples are younger than the question.
pub(crate) struct HeadPostings<'a>(&'a RwLock<Head>);

impl<'a> HeadPostings<'a> {
    /// What `question` answers when no slot changes hands meanwhile.
    ///
    /// # Errors
    /// `Unavailable` when evictions follow each other faster than the answer.
    pub(crate) fn ask<T>(head: &'a RwLock<Head>, mut question: impl FnMut(&Self) -> Result<T>) -> Result<T> {
        let postings = Self(head);
        for _ in 0..ATTEMPTS_MAX {
            let before = head.read().evictions();
            let answer = question(&postings)?;
            if head.read().evictions() == before {
                return Ok(answer);
            }
        }
        Err(Error::Unavailable("idle series are being forgotten; retry after a moment".into()))
    }

    /// The ids of slots.
    pub(crate) fn ids(&self, slots: &Bitmap) -> Vec<SeriesId> {
        self.0.read().ids(slots)
    }
}

impl Postings for HeadPostings<'_> {
    fn all(&self) -> Result<Bitmap> {
        Ok(self.0.read().all().clone())
    }

    fn present(&self, label: &str) -> Result<Bitmap> {
        Ok(self.0.read().terms().get(label).map_or_else(Bitmap::new, |label| label.present.clone()))
    }

    fn exact(&self, label: &str, value: &str) -> Result<Bitmap> {
        let mut out = Bitmap::new();
        let head = self.0.read();
        if let Some(posting) = head.terms().get(label).and_then(|label| label.values.get(value)) {
            posting.or_into(&mut out);
        }
        Ok(out)
    }

    fn any(&self, label: &str, prefix: &str, want: &dyn Fn(&str) -> bool) -> Result<Bitmap> {
        let mut out = Bitmap::new();
        self.visit(label, prefix, None, |values| {
            values.retain(|value| want(value));
            let head = self.0.read();
            let Some(label) = head.terms().get(label) else { return Ok(false) };
            values.iter().filter_map(|value| label.values.get(&**value)).for_each(|posting| posting.or_into(&mut out));
            Ok(true)
        })?;
        Ok(out)
    }

    fn values(&self, label: &str, among: Option<&Bitmap>, visit: Visit<'_>) -> Result<()> {
        self.visit(label, "", among, |values| {
            for value in values {
                if !visit(value)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    fn names(&self, among: Option<&Bitmap>, visit: Visit<'_>) -> Result<()> {
        let names: Vec<String> = self.0.read().terms().names(among).map(str::to_owned).collect();
        for name in names {
            if !visit(&name)? {
                break;
            }
        }
        Ok(())
    }
}

impl HeadPostings<'_> {
    /// Copies values that begin with `prefix` out and hands them over, until `batch` has enough of it.
    fn visit(
        &self,
        label: &str,
        prefix: &str,
        among: Option<&Bitmap>,
        mut batch: impl FnMut(&mut Vec<Box<str>>) -> Result<bool>,
    ) -> Result<()> {
        let mut after: Option<Box<str>> = None;
        loop {
            let mut values: Vec<Box<str>> = Vec::new();
            let mut seen = 0;
            {
                let head = self.0.read();
                let Some(label) = head.terms().get(label) else { return Ok(()) };
                let mut last = None;
                for (value, posting) in label.values_after(prefix, after.as_deref(), VALUES_AT_ONCE) {
                    (seen, last) = (seen + 1, Some(value));
                    if is_among(posting, among) {
                        values.push(value.into());
                    }
                }
                after = last.map(Into::into);
            }
            if !batch(&mut values)? || seen < VALUES_AT_ONCE {
                return Ok(());
            }
        }
    }
}
