//! Rows of each value and pair of values, on either side.
//!
//! ```text
//! row ─► codes of its values ─► rows of equal codes, counted once ─► values and pairs of values
//!                                (few: attributes repeat)             (pruned to the frequent ones)
//! ```
//! What is too much is pruned as Misra and Gries (1982) do, on both sides apart: a count has a credit beside it, from which
//! pruning takes what the `n`-th largest has, and a count goes when no credit is left on either side. What is told of a
//! value is short by at most one in `n` rows of a side; without pruning all counts are exact.
use std::collections::HashMap;

use super::judge::{self, Counted};
use super::{DIMS_MAX, Difference, VALUE_BYTES_MAX};
use crate::state::{Put, Reader, malformed};
use crate::{Error, Result};

/// Most values of a dimension; a quarter of them is safe on either side.
const VALUES_MAX: usize = 10_000;
/// Most pairs of values, of all dimensions together.
const PAIRS_MAX: usize = 200_000;
/// Most rows of different codes that wait to be counted.
const ROWS_MAX: usize = 16_384;
/// The code of rows without a value.
const NONE: u32 = 0;
/// Bytes a hash table needs for an entry, besides what the entry holds.
const ENTRY_BYTES: usize = 16;

/// Rows and credits of both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Count {
    rows: [u64; 2],
    credit: [u64; 2],
}

impl Count {
    fn add(&mut self, rows: [u64; 2]) {
        for (side, n) in rows.into_iter().enumerate() {
            self.rows[side] = self.rows[side].saturating_add(n);
            self.credit[side] = self.credit[side].saturating_add(n);
        }
    }

    /// Whether anything is left after both sides have paid.
    fn pay(&mut self, price: [u64; 2]) -> bool {
        for (credit, price) in self.credit.iter_mut().zip(price) {
            *credit = credit.saturating_sub(price);
        }
        self.credit != [0, 0]
    }

    fn put(&self, out: &mut Vec<u8>) {
        self.rows.iter().chain(&self.credit).for_each(|&n| out.put_u64(n));
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { rows: [from.u64()?, from.u64()?], credit: [from.u64()?, from.u64()?] })
    }

    fn merge(&mut self, other: Self) {
        for side in 0..2 {
            self.rows[side] = self.rows[side].saturating_add(other.rows[side]);
            self.credit[side] = self.credit[side].saturating_add(other.credit[side]);
        }
    }
}

/// What each side has to pay, so that at most a quarter of `most` counts is left of it.
fn price(counts: &mut dyn Iterator<Item = &Count>, most: usize) -> [u64; 2] {
    let (mut selected, mut baseline): (Vec<u64>, Vec<u64>) = counts.map(|c| (c.credit[0], c.credit[1])).unzip();
    [&mut selected, &mut baseline].map(|credits| match credits.len() {
        n if n > most / 4 => *credits.select_nth_unstable_by(most / 4, |a, b| b.cmp(a)).1,
        _ => 0,
    })
}

/// The values of one dimension; the first is "none".
#[derive(Clone, Debug)]
struct Values {
    codes: HashMap<Box<str>, u32>,
    /// By code.
    names: Vec<Box<str>>,
    counts: Vec<Count>,
    bytes: usize,
}

impl Values {
    fn new() -> Self {
        Self { codes: HashMap::new(), names: vec!["".into()], counts: vec![Count::default()], bytes: 0 }
    }

    fn code(&mut self, value: &str) -> u32 {
        let value = shortened(value);
        if let Some(&code) = self.codes.get(value) {
            return code;
        }
        let code = self.names.len() as u32;
        self.codes.insert(value.into(), code);
        self.names.push(value.into());
        self.counts.push(Count::default());
        self.bytes += 2 * value.len();
        code
    }

    /// Drops values without credit; says which code each of the others has now.
    fn prune(&mut self) -> Vec<Option<u32>> {
        let price = price(&mut self.counts.iter().skip(1), VALUES_MAX);
        let mut kept = Self::new();
        let old = std::mem::replace(self, Self::new());
        kept.counts[0] = old.counts[0];
        let mut moved = vec![Some(NONE)];
        for (name, mut count) in old.names.into_iter().zip(old.counts).skip(1) {
            moved.push(count.pay(price).then(|| {
                let code = kept.code(&name);
                kept.counts[code as usize] = count;
                code
            }));
        }
        *self = kept;
        moved
    }

    fn size(&self) -> usize {
        self.bytes
            + self.names.len() * (2 * size_of::<Box<str>>() + size_of::<Count>() + size_of::<u32>() + ENTRY_BYTES)
    }
}

/// The first bytes of a value, whole characters.
fn shortened(value: &str) -> &str {
    &value[..value.floor_char_boundary(VALUE_BYTES_MAX)]
}

/// Dimension and code of a value.
type Place = (u8, u32);

/// Counts rows by their values; see the module.
#[derive(Clone, Debug)]
pub struct Contrast {
    dims: Vec<Values>,
    pairs: HashMap<(Place, Place), Count>,
    /// Rows of different codes, in the order they came, and where each stands.
    rows: Vec<(Box<[u32]>, [u64; 2])>,
    places: HashMap<Box<[u32]>, u32>,
    totals: [u64; 2],
}

impl Contrast {
    /// For rows of `dims` dimensions.
    ///
    /// # Errors
    /// `Invalid` for none, or more than [`DIMS_MAX`].
    pub fn new(dims: usize) -> Result<Self> {
        if !(1..=DIMS_MAX).contains(&dims) {
            return Err(Error::Invalid(format!("{dims} dimensions: give between 1 and {DIMS_MAX}")));
        }
        Ok(Self {
            dims: vec![Values::new(); dims],
            pairs: HashMap::new(),
            rows: Vec::new(),
            places: HashMap::new(),
            totals: [0, 0],
        })
    }

    /// The code of a value of a dimension, which holds until [`Contrast::settle`].
    pub fn code(&mut self, dim: usize, value: Option<&str>) -> u32 {
        value.map_or(NONE, |value| self.dims[dim].code(value))
    }

    /// Counts a row of one code for each dimension.
    pub fn count(&mut self, codes: &[u32], selected: bool) {
        let side = usize::from(!selected);
        self.totals[side] += 1;
        let at = match self.places.get(codes) {
            Some(&at) => at as usize,
            None => {
                self.places.insert(codes.into(), self.rows.len() as u32);
                self.rows.push((codes.into(), [0, 0]));
                self.rows.len() - 1
            }
        };
        self.rows[at].1[side] += 1;
    }

    /// Bounds the memory; to be called every few thousand rows. Codes handed out before are void.
    pub fn settle(&mut self) {
        let full = self.dims.iter().any(|values| values.names.len() > VALUES_MAX);
        if full || self.rows.len() > ROWS_MAX {
            self.spread();
            self.prune();
        }
    }

    /// Adds the waiting rows to their values and pairs.
    fn spread(&mut self) {
        self.places.clear();
        for (codes, rows) in std::mem::take(&mut self.rows) {
            for (dim, &code) in codes.iter().enumerate() {
                self.dims[dim].counts[code as usize].add(rows);
                for (other, &second) in codes.iter().enumerate().skip(dim + 1) {
                    self.pairs.entry(((dim as u8, code), (other as u8, second))).or_default().add(rows);
                }
            }
            if self.pairs.len() > 2 * PAIRS_MAX {
                self.prune_pairs();
            }
        }
    }

    fn prune(&mut self) {
        if self.dims.iter().any(|values| values.names.len() > VALUES_MAX) {
            let moved: Vec<Vec<Option<u32>>> = self
                .dims
                .iter_mut()
                .map(|values| match values.names.len() {
                    n if n > VALUES_MAX => values.prune(),
                    n => (0..n as u32).map(Some).collect(),
                })
                .collect();
            // a pair is no more frequent than either of its values
            let place = |(dim, code): Place| Some((dim, moved[dim as usize][code as usize]?));
            let pairs = std::mem::take(&mut self.pairs);
            self.pairs = pairs.into_iter().filter_map(|((a, b), n)| Some(((place(a)?, place(b)?), n))).collect();
        }
        if self.pairs.len() > PAIRS_MAX {
            self.prune_pairs();
        }
    }

    fn prune_pairs(&mut self) {
        let price = price(&mut self.pairs.values(), PAIRS_MAX);
        self.pairs.retain(|_, count| count.pay(price));
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        let row = 2 * (size_of::<Box<[u32]>>() + 4 * self.dims.len()) + 2 * size_of::<u64>() + ENTRY_BYTES;
        let pair = size_of::<(Place, Place)>() + size_of::<Count>() + ENTRY_BYTES;
        self.dims.iter().map(Values::size).sum::<usize>() + self.rows.len() * row + self.pairs.capacity() * pair
    }

    /// Appends all that was counted.
    pub fn save(&mut self, out: &mut Vec<u8>) {
        self.spread();
        self.totals.iter().for_each(|&n| out.put_u64(n));
        for values in &self.dims {
            out.put_u32(values.names.len() as u32);
            for (name, count) in values.names.iter().zip(&values.counts) {
                out.put_u16(name.len() as u16);
                out.extend_from_slice(name.as_bytes());
                count.put(out);
            }
        }
        let mut pairs: Vec<_> = self.pairs.iter().collect();
        pairs.sort_unstable_by_key(|pair| pair.0);
        out.put_u32(pairs.len() as u32);
        for ((a, b), count) in pairs {
            for (dim, code) in [a, b] {
                out.put_u8(*dim);
                out.put_u32(*code);
            }
            count.put(out);
        }
    }

    /// Adds what another, of as many dimensions, has saved.
    ///
    /// # Errors
    /// `Invalid` for malformed bytes; what was read of them before counts.
    pub fn merge(&mut self, saved: &[u8]) -> Result<()> {
        self.spread();
        let mut from = Reader::new(saved);
        for total in &mut self.totals {
            *total = total.saturating_add(from.u64()?);
        }
        let mut codes: Vec<Vec<u32>> = Vec::with_capacity(self.dims.len());
        for values in &mut self.dims {
            let mut own = Vec::new();
            for position in 0..from.u32()? {
                let length = from.u16()?;
                let name =
                    std::str::from_utf8(from.bytes(length.into())?).map_err(|_| malformed("a value is no text"))?;
                let code = if position == NONE { NONE } else { values.code(name) };
                values.counts[code as usize].merge(Count::read(&mut from)?);
                own.push(code);
            }
            codes.push(own);
        }
        for _ in 0..from.u32()? {
            let mut place = || -> Result<Place> {
                let (dim, code) = (from.u8()?, from.u32()?);
                let own = codes.get(usize::from(dim)).and_then(|codes| codes.get(code as usize));
                Ok((dim, *own.ok_or_else(|| malformed("a pair has an unknown value"))?))
            };
            let pair = (place()?, place()?);
            self.pairs.entry(pair).or_default().merge(Count::read(&mut from)?);
        }
        from.end()?;
        self.prune();
        Ok(())
    }

    /// What sets the sides apart, by falling score; nothing when a side has no rows.
    ///
    /// Every value that was counted is told, and each pair that says more than its values, [`super::DIFFERENCES_MAX`] of
    /// them at most.
    pub fn differences(&mut self) -> Vec<Difference> {
        self.spread();
        let rows = |(dim, code): Place| self.dims[usize::from(dim)].counts[code as usize].rows;
        let mut counted: Vec<Counted<Place>> = Vec::new();
        for (dim, values) in self.dims.iter().enumerate() {
            let seen = values.counts.iter().enumerate().filter(|(_, count)| count.rows != [0, 0]);
            counted.extend(seen.map(|(code, count)| Counted {
                value: (dim as u8, code as u32),
                rows: count.rows,
                and: None,
            }));
        }
        counted.extend(self.pairs.iter().map(|(&(a, b), count)| Counted {
            value: a,
            rows: count.rows,
            and: Some((b, [rows(a), rows(b)])),
        }));
        // codes are in the order in which values came: equal data has equal answers in the order of the values
        let label = |(dim, code): Place| (dim, code != NONE, &*self.dims[usize::from(dim)].names[code as usize]);
        counted.sort_unstable_by(|a, b| {
            let key = |c: &Counted<Place>| (label(c.value), c.and.map(|(second, _)| label(second)));
            key(a).cmp(&key(b))
        });
        let name = |(dim, code): Place| {
            let values = &self.dims[usize::from(dim)];
            (usize::from(dim), (code != NONE).then(|| values.names[code as usize].to_string()))
        };
        judge::differences(&counted, self.totals)
            .into_iter()
            .map(|(at, judged)| Difference {
                value: name(counted[at].value),
                and: counted[at].and.map(|(second, _)| name(second)),
                rows: counted[at].rows,
                shares: judged.shares,
                lift: judged.lift,
                score: judged.score,
                p_value: judged.p_value,
            })
            .collect()
    }
}
