//! Things whose memory is wanted again soon: readers take turns with them, instead of each asking the system for its own, page by
//! page.
use std::ops::{Deref, DerefMut};

use parking_lot::Mutex;

/// Things that nobody uses, at most so many.
pub(crate) struct Pool<T> {
    kept: Mutex<Vec<T>>,
    kept_max: usize,
}

impl<T> Pool<T> {
    /// An empty pool.
    pub(crate) const fn new(kept_max: usize) -> Self {
        Self { kept: Mutex::new(Vec::new()), kept_max }
    }

    /// One of the things.
    pub(crate) fn take(&self) -> Option<T> {
        self.kept.lock().pop()
    }

    /// Keeps `thing` for the next, if there is room.
    pub(crate) fn give(&self, thing: T) {
        let mut kept = self.kept.lock();
        if kept.len() < self.kept_max {
            kept.push(thing);
        }
    }
}

impl<T: Default + 'static> Pool<Box<T>> {
    /// One of the things, or a new one; it comes back when it is dropped.
    pub(crate) fn lend(&'static self) -> Lent<T> {
        Lent { thing: Some(self.take().unwrap_or_default()), pool: self }
    }
}

/// A thing out of a pool. It is as whoever had it before left it, and stays where it is: most of them are large.
pub(crate) struct Lent<T: 'static> {
    /// There until it is dropped.
    thing: Option<Box<T>>,
    pool: &'static Pool<Box<T>>,
}

impl<T> Deref for Lent<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.thing {
            Some(thing) => thing,
            None => unreachable!("it was given back"),
        }
    }
}

impl<T> DerefMut for Lent<T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.thing {
            Some(thing) => thing,
            None => unreachable!("it was given back"),
        }
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        if let Some(thing) = self.thing.take() {
            self.pool.give(thing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_lent_again_up_to_the_most_that_are_kept() {
        static POOL: Pool<Box<u8>> = Pool::new(2);
        let mut lent: Vec<Lent<u8>> = (0..3).map(|_| POOL.lend()).collect();
        lent.iter_mut().zip(1..).for_each(|(thing, n)| **thing = n);
        drop(lent);
        let again: Vec<Option<Box<u8>>> = (0..3).map(|_| POOL.take()).collect();
        assert_eq!(again, [Some(Box::new(2)), Some(Box::new(1)), None]);
    }
}
