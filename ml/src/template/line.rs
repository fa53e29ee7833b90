//! One line, read from left to right, as tokens: words, marks between them, and slots where a value stands.
//!
//! ```text
//!   Received block blk_3587 of size 67108864 from /10.251.42.84
//!   └─word──┘└┘     └slot─┘            └slot─┘    ││└──slot───┘
//!             mark   "blk_<*>"          "<*>"      mark "<*>"
//! ```
//! The line's **skeleton** is its words and marks with the places of its slots. A slot keeps a text: `<*>` for what is a
//! value by its looks (numbers, hexadecimal, addresses, hosts, paths, URLs, dates, sizes), else what stood there with its
//! numbers masked (`blk_<*>`, `com.example.Main`, what was in quotes): a value only if another line has another. Values that
//! belong together are one slot (`<*>:<*>`, `<*> MB`, `[<*>, <*>]`), so they are compared with whatever stands there else.
//!
//! Chunks of names, numbers and addresses are read in `chunk.rs`, brackets and quotes in `group.rs`.
//!
//! A hand-written scanner: each byte is classified once by a table, and only chunks that hold a digit, a dot, a colon or
//! a slash are looked at again. Every rule looks at a bounded neighbourhood, so the cost is linear.
use super::class::{BREAK, CLASS};
use super::group::Bracket;
use super::hash;
use super::mask;

/// Bytes of a line that are read; what follows is one value.
pub const LINE_BYTES_MAX: usize = 4096;
/// Tokens of a line; what follows is one value.
pub const TOKENS_MAX: usize = 256;
/// Bytes of a slot's text that are kept; a longer one is a value.
pub(super) const SLOT_BYTES_MAX: usize = 128;
/// Values in a row, with blanks or commas between them, that are told apart; more are a list, as one value.
const ROW_MAX: u32 = 6;

/// What stands for a value.
pub(super) const VALUE: &[u8] = b"<*>";
/// Hash of a slot in a skeleton.
pub(super) const SLOT_HASH: u64 = 0x2a2a_2a2a_2a2a_2a2a;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Letters, and what belongs to them.
    Word,
    /// White space and punctuation.
    Mark,
    /// A value stands here, or the same text in every line so far.
    Slot,
    /// A place where so many words have stood that it is a slot.
    Hole,
}

/// A token; its text begins where the one before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) end: u32,
    pub(super) kind: Kind,
    /// Of its text; [`SLOT_HASH`] for slots and holes.
    pub(super) hash: u64,
}

/// The tokens of one line. Reused from line to line.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    pub(super) text: Vec<u8>,
    pub(super) tokens: Vec<Token>,
    /// Begin of the mark that is being put together.
    pub(super) mark: usize,
    /// A row of slots with the same mark between them: its first token, that mark, how many slots follow the first.
    row: (usize, u64, u32),
    /// Brackets that are open.
    pub(super) open: Vec<Bracket>,
    /// Values being put together to one: no rows are looked for among their parts.
    composing: u32,
    scratch: Vec<u8>,
}

/// Where something began that may become one slot: the tokens before it, the begin of the mark that was being put
/// together, and the end of the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub(super) tokens: usize,
    pub(super) mark: usize,
    pub(super) text: usize,
}

impl Line {
    /// Reads a line. Of several, only the first that is not blank counts.
    pub(super) fn read(&mut self, line: &str) {
        self.text.clear();
        self.tokens.clear();
        (self.mark, self.row, self.composing) = (0, (0, 0, 0), 0);
        self.open.clear();
        let mut line = line.trim_ascii_start();
        let mut cut = line.len() > LINE_BYTES_MAX;
        if cut {
            line = &line[..line.floor_char_boundary(LINE_BYTES_MAX)];
        }
        let mut s = line.as_bytes();
        if let Some(end) = s.iter().position(|&b| matches!(b, b'\n' | b'\r')) {
            (s, cut) = (&s[..end], false);
        }
        s = s.trim_ascii_end();
        let mut i = 0;
        while i < s.len() {
            if self.is_full() {
                cut = true;
                break;
            }
            i = match s[i] {
                b if CLASS[usize::from(b)] & BREAK == 0 => self.chunk(s, i),
                b'"' | b'\'' => self.quoted(s, i),
                b'[' | b'(' | b'{' => self.opens(s, i),
                b']' | b')' | b'}' => self.closes(s, i),
                b'<' => self.less(s, i),
                b => {
                    if !self.open.is_empty() {
                        self.inside(s, i);
                    }
                    self.text.push(b);
                    i + 1
                }
            };
        }
        if cut {
            self.slot(VALUE);
        }
        self.end_mark();
    }

    /// Whether what follows is to be one value. The few tokens left are room for what a rule adds before it asks again.
    pub(super) fn is_full(&self) -> bool {
        self.tokens.len() >= TOKENS_MAX - 8
    }

    /// Text of token `at`.
    pub(super) fn token_text(&self, at: usize) -> &[u8] {
        token_text(&self.text, &self.tokens, at)
    }

    pub(super) fn end_mark(&mut self) {
        if self.text.len() > self.mark {
            let hash = mark_hash(&self.text[self.mark..]);
            self.push(Kind::Mark, hash);
        }
    }

    pub(super) fn push(&mut self, kind: Kind, hash: u64) {
        self.mark = self.text.len();
        self.tokens.push(Token { end: self.mark as u32, kind, hash });
    }

    /// A word, which is the same whatever its numbers are.
    pub(super) fn word(&mut self, text: &[u8]) {
        self.end_mark();
        self.text.extend_from_slice(text);
        self.push(Kind::Word, mask::word_hash(text));
    }

    pub(super) fn marks(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
    }

    pub(super) fn slot(&mut self, text: &[u8]) {
        self.end_mark();
        let text = if text.len() > SLOT_BYTES_MAX { VALUE } else { text };
        self.text.extend_from_slice(text);
        self.push(Kind::Slot, SLOT_HASH);
        self.fold_row();
    }

    pub(super) fn start(&self) -> Start {
        Start { tokens: self.tokens.len(), mark: self.mark, text: self.text.len() }
    }

    /// What follows may become one slot, see [`Line::composed`].
    pub(super) fn compose(&mut self) -> Start {
        self.composing += 1;
        self.start()
    }

    /// Ends what [`Line::compose`] began: with `from`, all since then is one slot, whose text stays, to be compared with that
    /// of other lines.
    pub(super) fn composed(&mut self, from: Option<Start>) {
        self.composing -= 1;
        match from {
            Some(start) => self.collapse(start),
            None => self.fold_row(),
        }
    }

    /// Makes one slot of all that was read since `start`.
    pub(super) fn collapse(&mut self, start: Start) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.extend_from_slice(&self.text[start.text..]);
        self.text.truncate(start.text);
        self.tokens.truncate(start.tokens);
        self.mark = start.mark;
        self.row = (0, 0, 0);
        self.slot(&scratch);
        self.scratch = scratch;
    }

    /// Makes one slot of a row that has grown too long.
    fn fold_row(&mut self) {
        let n = self.tokens.len();
        let [.., before, mark, last] = self.tokens.as_slice() else { return };
        if self.composing > 0
            || last.kind != Kind::Slot
            || before.kind != Kind::Slot
            || mark.kind != Kind::Mark
            || !matches!(self.token_text(n - 2), b" " | b"," | b", ")
        {
            return;
        }
        let (first, seen, length) = self.row;
        let goes_on = seen == mark.hash && length > 0 && first + 2 * length as usize == n - 3;
        let folded = length > ROW_MAX && seen == mark.hash && first == n - 3;
        self.row = match () {
            () if folded => self.row,
            () if goes_on => (first, seen, length + 1),
            () => (n - 3, mark.hash, 1),
        };
        let (first, _, length) = self.row;
        if length < ROW_MAX && !folded {
            return;
        }
        let alike = (first..n).step_by(2).all(|at| self.token_text(at) == self.token_text(first));
        let start = first.checked_sub(1).map_or(0, |at| self.tokens[at].end as usize);
        if alike {
            self.text.truncate(self.tokens[first].end as usize);
        } else {
            self.text.truncate(start);
            self.text.extend_from_slice(VALUE);
        }
        self.tokens.truncate(first);
        self.push(Kind::Slot, SLOT_HASH);
        self.row.2 = ROW_MAX + 1;
    }
}

/// Whether blanks follow each other in a mark. One would say the same: skeletons do not tell them apart.
pub(super) fn is_wide(mark: &[u8]) -> bool {
    mark.windows(2).any(|two| two == b"  ")
}

/// Hash of a mark, of blanks in a row only one.
pub(super) fn mark_hash(mark: &[u8]) -> u64 {
    if mark.len() == 1 || !is_wide(mark) {
        return hash::bytes(mark);
    }
    let mut narrow = mark.to_vec();
    narrow.dedup_by(|b, a| *a == b' ' && *b == b' ');
    hash::bytes(&narrow)
}

/// Sum of the terms of `tokens`.
pub(super) fn sum(tokens: &[Token]) -> u64 {
    tokens.iter().enumerate().fold(0, |sum, (place, token)| sum.wrapping_add(hash::term(place, token.hash)))
}

/// Text of token `at` in `text`.
pub(super) fn token_text<'a>(text: &'a [u8], tokens: &[Token], at: usize) -> &'a [u8] {
    let begin = at.checked_sub(1).map_or(0, |before| tokens[before].end as usize);
    &text[begin..tokens[at].end as usize]
}
