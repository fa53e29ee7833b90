//! Texts as what a program prints again and again, the skeleton, and the numbers in between: numbers by themselves take what
//! they have in information, while a compressor of bytes pays for each of their digits.
//!
//! ```text
//! split = varint(k) numbers(length of each skeleton){k} bytes(all skeletons)
//!         numbers(which){n}                                0: the text stands whole; i: skeleton i - 1
//!         numbers(length){texts that stand whole} bytes(these texts)
//!         for each skeleton, for each of its slots: numbers(value){texts of it}
//! skeleton = bytes, and for each slot  0  a number without zeros in front
//!                                    | 1 width  one of `width` digits, zeros in front
//! ```
use arrow::array::StringArray;
use arrow::buffer::{BooleanBuffer, OffsetBuffer};
use hashbrown::HashMap;

use crate::codec::{Packer, Unpacker};
use crate::error::Result;
use crate::format::{Reader, put_varint};
use crate::text::Words;

const FREE: u8 = 0;
const PADDED: u8 = 1;

/// Fewer texts are not worth it.
const TEXTS_MIN: usize = 64;
/// A skeleton is worth its streams if so many texts have it.
const TEXTS_OF_SKELETON_MIN: usize = 16;
/// Slots of a skeleton.
const SLOTS_MAX: usize = 64;
/// Digits that a number of 64 bits surely holds; longer runs are text.
const DIGITS_MAX: usize = 18;
/// Longest text that is split.
const TEXT_BYTES_MAX: usize = 4096;

/// What [`split`] makes of texts.
pub(super) struct Split<'a> {
    skeletons: Vec<Box<[u8]>>,
    /// Of each text.
    which: Vec<u64>,
    whole: Vec<&'a [u8]>,
    /// Of each skeleton, slot by slot.
    slots: Vec<Vec<Vec<u64>>>,
}

/// Writes the skeleton of `text` to `skeleton` and appends its numbers to `numbers`; `false` if it cannot be split.
fn take_apart(text: &[u8], skeleton: &mut Vec<u8>, numbers: &mut Vec<u64>) -> bool {
    skeleton.clear();
    let from = numbers.len();
    let mut at = 0;
    while at < text.len() {
        let byte = text[at];
        if byte <= PADDED {
            return false;
        }
        if !byte.is_ascii_digit() {
            skeleton.push(byte);
            at += 1;
            continue;
        }
        let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let run = &text[at..at + digits];
        at += digits;
        if digits > DIGITS_MAX {
            return false;
        }
        match byte {
            b'0' if digits > 1 => skeleton.extend([PADDED, digits as u8]),
            _ => skeleton.push(FREE),
        }
        numbers.push(run.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')));
    }
    numbers.len() - from <= SLOTS_MAX
}

/// Splits `texts`; `None` when less than half of them have a skeleton that is worth it.
pub(super) fn split<'a>(texts: impl Iterator<Item = &'a [u8]> + Clone) -> Option<Split<'a>> {
    let count = texts.clone().count();
    if count < TEXTS_MIN {
        return None;
    }
    // Texts by skeleton as they are found, and each text's numbers one behind the other.
    let (mut known, mut texts_of): (HashMap<Box<[u8]>, usize>, Vec<usize>) = Default::default();
    let (mut skeleton, mut numbers) = (Vec::new(), Vec::new());
    let mut found: Vec<Option<(usize, usize)>> = Vec::with_capacity(count);
    for text in texts.clone() {
        let from = numbers.len();
        if text.len() > TEXT_BYTES_MAX || !take_apart(text, &mut skeleton, &mut numbers) {
            numbers.truncate(from);
            found.push(None);
            continue;
        }
        let number = match known.get(skeleton.as_slice()) {
            Some(number) => *number,
            None => {
                known.insert(skeleton.as_slice().into(), texts_of.len());
                texts_of.push(0);
                texts_of.len() - 1
            }
        };
        texts_of[number] += 1;
        found.push(Some((number, from)));
    }
    let kept = |number: &usize| texts_of[*number] >= TEXTS_OF_SKELETON_MIN;
    let split: usize = (0..texts_of.len()).filter(kept).map(|number| texts_of[number]).sum();
    if split * 2 < count {
        return None;
    }
    let mut order: Vec<(Box<[u8]>, usize)> = known.into_iter().filter(|(_, number)| kept(number)).collect();
    order.sort_unstable_by_key(|(_, number)| *number);
    let mut places = vec![0; texts_of.len()];
    order.iter().enumerate().for_each(|(place, (_, number))| places[*number] = place + 1);
    let skeletons: Vec<Box<[u8]>> = order.into_iter().map(|(skeleton, _)| skeleton).collect();
    let mut slots: Vec<Vec<Vec<u64>>> = skeletons.iter().map(|skeleton| vec![Vec::new(); slots_of(skeleton)]).collect();
    let (mut which, mut whole) = (Vec::with_capacity(count), Vec::new());
    for (text, found) in texts.zip(found) {
        let place = found.map_or(0, |(number, _)| places[number]);
        which.push(place as u64);
        match found.filter(|_| place > 0) {
            Some((_, from)) => {
                slots[place - 1].iter_mut().zip(&numbers[from..]).for_each(|(slot, number)| slot.push(*number));
            }
            None => whole.push(text),
        }
    }
    Some(Split { skeletons, which, whole, slots })
}

/// Slots of a skeleton.
fn slots_of(skeleton: &[u8]) -> usize {
    let (mut slots, mut at) = (0, 0);
    while at < skeleton.len() {
        slots += usize::from(skeleton[at] <= PADDED);
        at += if skeleton[at] == PADDED { 2 } else { 1 };
    }
    slots
}

impl Split<'_> {
    /// Appends it.
    pub(super) fn encode(&self, packer: &mut Packer, out: &mut Vec<u8>) {
        let lengths = |texts: &mut dyn Iterator<Item = usize>| texts.map(|length| length as u64).collect::<Vec<u64>>();
        put_varint(out, self.skeletons.len() as u64);
        packer.pack(&lengths(&mut self.skeletons.iter().map(|skeleton| skeleton.len())), out);
        packer.pack_bytes(&self.skeletons.concat(), out);
        packer.pack(&self.which, out);
        packer.pack(&lengths(&mut self.whole.iter().map(|text| text.len())), out);
        packer.pack_bytes(&self.whole.concat(), out);
        for slot in self.slots.iter().flatten() {
            packer.pack(slot, out);
        }
    }
}

/// Where a number stands in the texts of a skeleton.
struct Slot {
    /// After so many bytes of what is always there.
    at: usize,
    /// Digits at least.
    width: usize,
}

/// What is the same in some texts.
struct Skeleton {
    text: Vec<u8>,
    slots: Vec<Slot>,
}

impl Skeleton {
    /// Takes its bytes apart; `None` for what no writer writes.
    fn of(bytes: &[u8]) -> Option<Self> {
        let (mut text, mut slots) = (Vec::with_capacity(bytes.len()), Vec::new());
        let mut bytes = bytes.iter();
        while let Some(&byte) = bytes.next() {
            match byte {
                FREE => slots.push(Slot { at: text.len(), width: 1 }),
                PADDED => slots.push(Slot { at: text.len(), width: usize::from(*bytes.next()?).clamp(1, DIGITS_MAX) }),
                byte => text.push(byte),
            }
        }
        (slots.len() <= SLOTS_MAX).then_some(Self { text, slots })
    }

    /// Appends the text with these numbers.
    fn put(&self, numbers: impl Iterator<Item = u64>, data: &mut Vec<u8>) {
        let mut from = 0;
        for (slot, number) in self.slots.iter().zip(numbers) {
            data.extend_from_slice(&self.text[from..slot.at]);
            put_number(number, slot.width, data);
            from = slot.at;
        }
        data.extend_from_slice(&self.text[from..]);
    }
}

/// A split that was read but for its numbers.
struct Opened {
    skeletons: Vec<Skeleton>,
    /// Of each text: 0, or the number of its skeleton from 1.
    which: Vec<u64>,
    /// How many texts stand whole, and how many have each skeleton.
    texts_of: Vec<usize>,
    whole: Texts,
}

/// Texts one behind the other.
struct Texts {
    data: Vec<u8>,
    /// Where each begins, and the end.
    offsets: Vec<i32>,
}

impl Texts {
    /// The next `count` lengths and bytes, at most `bytes_max`.
    fn read(input: &mut Reader<'_>, count: usize, bytes_max: u64, unpacker: &mut Unpacker) -> Result<Self> {
        let at = input.clone();
        let (mut lengths, mut data, mut offsets) = (Vec::new(), Vec::new(), Vec::with_capacity(count + 1));
        unpacker.unpack(input, count, &mut lengths)?;
        let mut end = 0u64;
        offsets.push(0);
        for length in lengths {
            end = end.saturating_add(length);
            if end > bytes_max {
                return Err(at.corrupt(format!("texts of {bytes_max} bytes together"), end.to_string()));
            }
            offsets.push(end as i32);
        }
        unpacker.unpack_bytes(input, end as usize, &mut data)?;
        Ok(Self { data, offsets })
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.offsets.windows(2).map(|ends| &self.data[ends[0] as usize..ends[1] as usize])
    }

    fn into_array(self, at: &Reader<'_>) -> Result<StringArray> {
        let array = StringArray::try_new(OffsetBuffer::new(self.offsets.into()), self.data.into(), None);
        array.map_err(|e| at.corrupt("texts", e.to_string()))
    }
}

/// Reads what stands before the numbers.
fn open(input: &mut Reader<'_>, rows: usize, bytes_max: u64, unpacker: &mut Unpacker) -> Result<Opened> {
    let at = input.clone();
    let count = input.varint()?;
    if count == 0 || count > rows as u64 {
        return Err(at.corrupt(format!("1 to {rows} skeletons"), count.to_string()));
    }
    let skeletons = Texts::read(input, count as usize, bytes_max, unpacker)?;
    let skeletons: Option<Vec<Skeleton>> = skeletons.iter().map(Skeleton::of).collect();
    let skeletons = skeletons.ok_or_else(|| at.corrupt(format!("skeletons of {SLOTS_MAX} slots"), "others"))?;
    let (mut which, mut texts_of) = (Vec::new(), vec![0usize; skeletons.len() + 1]);
    unpacker.unpack(input, rows, &mut which)?;
    for &which in &which {
        match texts_of.get_mut(which as usize) {
            Some(texts) => *texts += 1,
            None => return Err(at.corrupt(format!("one of {count} skeletons"), which.to_string())),
        }
    }
    if texts_of[1..].contains(&0) {
        return Err(at.corrupt("skeletons with texts", "one without"));
    }
    let whole = Texts::read(input, texts_of[0], bytes_max, unpacker)?;
    Ok(Opened { skeletons, which, texts_of, whole })
}

/// The texts of a split of `rows` texts, or `some` of them, increasing, one behind the other in `data`; where each ends is added
/// to `offsets`. No more than `bytes_max` bytes are written or believed.
///
/// # Errors
/// `Corruption` with path and offset.
pub(super) fn decode(
    input: &mut Reader<'_>,
    rows: usize,
    some: Option<&[u32]>,
    bytes_max: u64,
    unpacker: &mut Unpacker,
    data: &mut Vec<u8>,
    offsets: &mut Vec<i32>,
) -> Result<()> {
    let at = input.clone();
    let Opened { skeletons, which, texts_of, whole } = open(input, rows, bytes_max, unpacker)?;
    let mut numbers: Vec<Vec<Vec<u64>>> = Vec::with_capacity(skeletons.len());
    for (skeleton, &texts) in skeletons.iter().zip(&texts_of[1..]) {
        let mut of = vec![Vec::new(); skeleton.slots.len()];
        for numbers in &mut of {
            unpacker.unpack(input, texts, numbers)?;
        }
        numbers.push(of);
    }
    let (mut next, mut whole) = (vec![0usize; skeletons.len()], whole.iter());
    let mut rest = some.map(<[u32]>::iter).into_iter().flatten().peekable();
    for (row, &which) in which.iter().enumerate() {
        let wanted = some.is_none() || rest.next_if(|next| **next as usize == row).is_some();
        match which.checked_sub(1) {
            None => data.extend_from_slice(whole.next().filter(|_| wanted).unwrap_or_default()),
            Some(skeleton) => {
                let skeleton = skeleton as usize;
                let row = next[skeleton];
                next[skeleton] += 1;
                if wanted {
                    skeletons[skeleton].put(numbers[skeleton].iter().map(|numbers| numbers[row]), data);
                }
            }
        }
        if !wanted {
            continue;
        }
        if data.len() as u64 > bytes_max {
            return Err(at.corrupt(format!("texts of {bytes_max} bytes together"), data.len().to_string()));
        }
        offsets.push(data.len() as i32);
    }
    Ok(())
}

/// Whether the skeleton of a text tells if it has all of `words`: a word without a digit is never one that a number is part of.
pub(super) fn tells_of(words: &Words) -> bool {
    !words.folded().iter().any(|word| word.bytes().any(|byte| byte.is_ascii_digit()))
}

/// Which of a split of `rows` texts have all of `words`, of which the skeletons tell (see [`tells_of`]). Reads no number.
///
/// # Errors
/// `Corruption` with path and offset.
pub(super) fn rows_with(
    words: &Words,
    input: &mut Reader<'_>,
    rows: usize,
    bytes_max: u64,
    unpacker: &mut Unpacker,
) -> Result<BooleanBuffer> {
    let at = input.clone();
    let Opened { skeletons, which, whole, .. } = open(input, rows, bytes_max, unpacker)?;
    let (mut seen, mut examples) = (Vec::new(), Vec::with_capacity(skeletons.len()));
    for skeleton in &skeletons {
        let mut example = Vec::new();
        skeleton.put(std::iter::repeat(0), &mut example);
        let example = String::from_utf8(example).map_err(|e| at.corrupt("texts", e.to_string()))?;
        examples.push(words.are_in(&example, &mut seen));
    }
    let whole = words.rows(&whole.into_array(&at)?);
    let mut next = 0;
    Ok(BooleanBuffer::collect_bool(rows, |row| match which[row].checked_sub(1) {
        Some(skeleton) => examples[skeleton as usize],
        None => {
            next += 1;
            whole.value(next - 1)
        }
    }))
}

/// Appends `number` with `width` digits at least.
fn put_number(mut number: u64, width: usize, data: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while number > 0 {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    at = at.min(digits.len() - width);
    data.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests;
