//! Lines of bounded length with their numbers.
use std::io::{BufRead, Read as _};

use anyhow::{Context as _, bail};

/// Longest line, and longest record of several lines.
pub(super) const BYTES_MAX: usize = 1 << 20;

/// Lines of a file.
pub(super) struct Lines<R> {
    reader: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, number: 0 }
    }

    /// The number of the line read last, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Appends the next line, its line feed included; `false` at the end of the file.
    ///
    /// # Errors
    /// When the file cannot be read, or `out` would get longer than [`BYTES_MAX`].
    pub(super) fn append(&mut self, out: &mut Vec<u8>) -> anyhow::Result<bool> {
        let room = (BYTES_MAX + 1).saturating_sub(out.len()) as u64;
        let len = self.reader.by_ref().take(room).read_until(b'\n', out).context("cannot read")?;
        if out.len() > BYTES_MAX {
            bail!("line {} is longer than {BYTES_MAX} bytes", self.number + 1);
        }
        self.number += u64::from(len > 0);
        Ok(len > 0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_and_bounded() {
        let mut lines = Lines::new(&b"a\n\nc"[..]);
        let mut out = Vec::new();
        while lines.append(&mut out).unwrap() {}
        assert_eq!((out.as_slice(), lines.number()), (&b"a\n\nc"[..], 3));
        let long = vec![b'x'; BYTES_MAX + 1];
        assert!(Lines::new(&long[..]).append(&mut Vec::new()).unwrap_err().to_string().contains("line 1 is longer"));
        assert!(Lines::new(&long[1..]).append(&mut Vec::new()).unwrap());
    }
}
