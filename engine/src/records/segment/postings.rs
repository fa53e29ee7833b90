//! Which rows of a group have its frequent words: what a search for a common word reads instead of all texts.
//!
//! ```text
//! postings = varint(words) numbers(length of each word) bytes(all words) numbers(bitmap of each word) varint(bitmaps)
//!            bytes(all bitmaps, ceil(rows / 8) bytes each; bit i of one: row i has the word)
//! ```
//! Words are in the form in which they are compared, in order. Words that are always together, as those of a template are,
//! share a bitmap.
use std::path::Path;

use arrow::array::{Array, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::buffer::Buffer;
use hashbrown::HashMap;

use crate::codec::{Packer, Unpacker};
use crate::error::Result;
use crate::format::{Reader, put_varint};
use crate::text::{Words, fold, words};

use super::super::bloom;

/// A word is frequent if one row in so many has it.
const FREQUENT_ROWS: usize = 32;
/// Most words of a group, the most frequent ones, and the longest.
const WORDS_MAX: usize = 64;
const WORD_BYTES_MAX: usize = 64;

/// Rows of one word while they are counted.
#[derive(Clone, Copy)]
struct Count {
    rows: u32,
    last: usize,
}

/// The hashes of all words of `texts`, and their postings, if there are words that are worth it. Where texts repeat as a whole
/// they are a dictionary that is quickly searched.
pub(super) fn build(texts: &StringArray, packer: &mut Packer) -> (Vec<u128>, Option<Vec<u8>>) {
    let mut counts: HashMap<u128, Count> = HashMap::new();
    let each = |f: &mut dyn FnMut(usize, u128, &str)| {
        for (row, text) in texts.iter().enumerate() {
            for word in words(text.unwrap_or_default()) {
                let word = fold(word);
                f(row, bloom::hash(word.as_bytes()), &word);
            }
        }
    };
    each(&mut |row, hash, _| {
        let count = counts.entry(hash).or_insert(Count { rows: 0, last: usize::MAX });
        count.rows += u32::from(count.last != row);
        count.last = row;
    });
    let mut frequent: Vec<(u32, u128)> = counts
        .iter()
        .filter(|(_, count)| count.rows as usize * FREQUENT_ROWS >= texts.len())
        .map(|(&hash, count)| (count.rows, hash))
        .collect();
    frequent.sort_unstable_by(|a, b| b.cmp(a));
    let mut found: HashMap<u128, (String, Vec<u8>)> = HashMap::new();
    let wanted: HashMap<u128, ()> = frequent.iter().map(|&(_, hash)| (hash, ())).collect();
    each(&mut |row, hash, word| {
        // Numbers are many and each has rows of its own; to look for one is to look for a rare word.
        if !wanted.contains_key(&hash) || word.len() > WORD_BYTES_MAX || word.bytes().all(|b| b.is_ascii_digit()) {
            return;
        }
        let (_, bits) = found.entry(hash).or_insert_with(|| (word.to_owned(), vec![0; texts.len().div_ceil(8)]));
        bits[row / 8] |= 1 << (row % 8);
    });
    let mut kept: Vec<(String, Vec<u8>)> =
        frequent.iter().filter_map(|(_, hash)| found.remove(hash)).take(WORDS_MAX).collect();
    kept.sort_unstable();
    let postings = (!kept.is_empty()).then(|| encode(&kept, packer));
    (counts.into_keys().collect(), postings)
}

fn encode(kept: &[(String, Vec<u8>)], packer: &mut Packer) -> Vec<u8> {
    let (mut out, mut numbers, mut bitmaps) = (Vec::new(), HashMap::new(), Vec::new());
    put_varint(&mut out, kept.len() as u64);
    let lengths: Vec<u64> = kept.iter().map(|(word, _)| word.len() as u64).collect();
    packer.pack(&lengths, &mut out);
    let all: String = kept.iter().map(|(word, _)| word.as_str()).collect();
    packer.pack_bytes(all.as_bytes(), &mut out);
    let which = kept.iter().map(|(_, bits)| {
        let next = numbers.len() as u64;
        *numbers.entry(bits.as_slice()).or_insert_with(|| {
            bitmaps.extend_from_slice(bits);
            next
        })
    });
    let which: Vec<u64> = which.collect();
    packer.pack(&which, &mut out);
    put_varint(&mut out, numbers.len() as u64);
    packer.pack_bytes(&bitmaps, &mut out);
    out
}

/// The rows of a group of `rows` rows that have all `words`; `None` if one of them is not among the postings `bytes`, which
/// says nothing of it.
///
/// # Errors
/// `Corruption` with path and offset.
pub(super) fn rows_with(
    words: &Words,
    bytes: &[u8],
    (path, offset): (&Path, u64),
    rows: usize,
    unpacker: &mut Unpacker,
) -> Result<Option<BooleanBuffer>> {
    let mut input = Reader::new(bytes, path, offset);
    let at = input.clone();
    let corrupt = |what: &str, got: u64| at.corrupt(what, got.to_string());
    let (mut numbers, mut text, mut which, mut bitmaps) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let count = input.varint()?;
    if count == 0 || count > WORDS_MAX as u64 {
        return Err(corrupt("1 to 64 words of postings", count));
    }
    unpacker.unpack(&mut input, count as usize, &mut numbers)?;
    if let Some(&wrong) = numbers.iter().find(|&&length| length == 0 || length > WORD_BYTES_MAX as u64) {
        return Err(corrupt("a word of 1 to 64 bytes", wrong));
    }
    unpacker.unpack_bytes(&mut input, numbers.iter().sum::<u64>() as usize, &mut text)?;
    unpacker.unpack(&mut input, count as usize, &mut which)?;
    let mut begin = 0;
    let known: HashMap<&[u8], u64> = numbers
        .iter()
        .zip(&which)
        .map(|(&length, &which)| {
            let word = &text[begin..begin + length as usize];
            begin += length as usize;
            (word, which)
        })
        .collect();
    let wanted: Option<Vec<u64>> = words.folded().iter().map(|word| known.get(word.as_bytes()).copied()).collect();
    let Some(wanted) = wanted else { return Ok(None) };
    let distinct = input.varint()?;
    if distinct == 0 || distinct > count {
        return Err(corrupt("as many bitmaps as words or fewer", distinct));
    }
    let each = rows.div_ceil(8);
    unpacker.unpack_bytes(&mut input, distinct as usize * each, &mut bitmaps)?;
    input.finish()?;
    let mut all = vec![u8::MAX; each];
    for which in wanted {
        if which >= distinct {
            return Err(corrupt("the number of a bitmap", which));
        }
        let bits = &bitmaps[which as usize * each..][..each];
        all.iter_mut().zip(bits).for_each(|(all, bits)| *all &= bits);
    }
    Ok(Some(BooleanBuffer::new(Buffer::from(all), 0, rows)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::codec::Effort;

    const ROWS: usize = 1000;

    fn texts() -> StringArray {
        let verb = |row: usize| ["GET", "Put", "delete"][row % 3];
        let text = |row: usize| match row % 10 {
            9 => None,
            3 => Some(format!("{} /x{row}: Refused, {} times", verb(row), row % 4)),
            _ => Some(format!("{} /x{row} gr\u{f6}\u{df}er \u{d6}l", verb(row))),
        };
        StringArray::from_iter((0..ROWS).map(text))
    }

    fn ask(bytes: &[u8], wanted: &str) -> Result<Option<BooleanBuffer>> {
        rows_with(&Words::of(wanted), bytes, (Path::new("x"), 7), ROWS, &mut Unpacker::default())
    }

    #[test]
    fn rows_of_frequent_words_are_those_of_a_search_and_nothing_is_said_of_others() {
        let texts = texts();
        let (hashes, postings) = build(&texts, &mut Packer::new(Effort::Thorough).unwrap());
        assert_eq!(hashes.len(), 3 + 900 + 4 + 2, "verbs, paths, words, digits");
        let postings = postings.unwrap();
        for wanted in ["get", "GET", "refused times", "put Refused", "\u{d6}L", "gr\u{f6}\u{df}er delete", "get put"] {
            let found = ask(&postings, wanted).unwrap().unwrap();
            let (expected, nulls) = Words::of(wanted).rows(&texts).into_parts();
            assert_eq!(found, &expected & nulls.unwrap().inner(), "{wanted}");
        }
        for wanted in ["x17", "get x17", "2", "nowhere"] {
            assert_eq!(ask(&postings, wanted).unwrap(), None, "{wanted}");
        }
        // Six words that never differ in their rows share bitmaps: three verbs, "refused times", the two others.
        assert!(postings.len() < 5 * ROWS / 8 + 100, "{} bytes", postings.len());
    }

    #[test]
    fn only_so_many_words_of_so_many_bytes_have_postings() {
        let long = "w".repeat(WORD_BYTES_MAX + 1);
        let words: Vec<String> = (0..WORDS_MAX + 20).map(|n| format!("w{n:03}")).collect();
        let text = |row: usize| format!("{long} {} row{row}", words[..words.len() - row % 3].join(" "));
        let texts = StringArray::from_iter_values((0..ROWS).map(text));
        let postings = build(&texts, &mut Packer::new(Effort::Thorough).unwrap()).1.unwrap();
        let has = |word: &str| ask(&postings, word).unwrap().is_some();
        assert_eq!(words.iter().filter(|word| has(word)).count(), WORDS_MAX);
        assert!(!has(words.last().unwrap()) && !has(&long), "the most frequent ones, and no long one");
        let rare = StringArray::from_iter_values((0..ROWS).map(|row| format!("row{row} 5")));
        assert!(build(&rare, &mut Packer::new(Effort::Thorough).unwrap()).1.is_none());
    }

    #[test]
    fn bytes_that_no_writer_wrote_never_panic() {
        let postings = build(&texts(), &mut Packer::new(Effort::Thorough).unwrap()).1.unwrap();
        let mut bytes = postings.clone();
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                bytes[at] ^= flip;
                let _ = ask(&bytes, "get refused");
                bytes[at] ^= flip;
            }
            let _ = ask(&bytes[..at], "get refused");
        }
        assert!(ask(&postings, "get refused").unwrap().is_some());
    }
}
