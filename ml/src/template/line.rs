//! One line, read from left to right, as tokens: words, marks between them, and slots where a value stands.
//!
//! ```text
//!   Received block blk_3587 of size 67108864 from /10.251.42.84
//!   └─word──┘└┘     └slot─┘            └slot─┘    ││└──slot───┘
//!             mark   "blk_<*>"          "<*>"      mark "<*>"
//! ```
//! The line's **skeleton** is its words and marks with the places of its slots. A slot keeps a text: `<*>` for what is a
//! value by its looks (numbers, hexadecimal, addresses, hosts, paths, URLs, dates, sizes), else what stood there with its
//! numbers masked (`blk_<*>`, `com.example.Main`, what was in quotes): a value only if another line has another.
//!
//! A hand-written scanner: each byte is classified once by a table, and only chunks that hold a digit, a dot, a colon or
//! a slash are looked at again. Every rule looks at a bounded neighbourhood, so the cost is linear.
use super::class::{self, BACKSLASH, BREAK, CLASS, COLON, DIGIT, DOT, SLASH};
use super::hash;

/// Bytes of a line that are read; what follows is one value.
pub const LINE_BYTES_MAX: usize = 4096;
/// Tokens of a line; what follows is one value.
pub const TOKENS_MAX: usize = 256;
/// Bytes of a slot's text that are kept; a longer one is a value.
pub(super) const SLOT_BYTES_MAX: usize = 128;
/// Bytes that may stand between quotes.
const QUOTED_BYTES_MAX: usize = 256;
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
    mark: usize,
    /// A row of slots with the same mark between them: its first token, that mark, how many slots follow the first.
    row: (usize, u64, u32),
}

/// Words before the name of somebody or something.
const NAMED_AFTER: [&[u8]; 7] = [b"user", b"User", b"username", b"host", b"hostname", b"account", b"class"];
/// Keys whose quoted value is a message and no name.
const MESSAGES: [&[u8]; 6] = [b"msg", b"message", b"event", b"error", b"err", b"reason"];
const METHODS: [&[u8]; 7] = [b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"PATCH", b"OPTIONS"];
const UNITS: [&[u8]; 12] = [b"B", b"KB", b"kB", b"MB", b"GB", b"TB", b"PB", b"KiB", b"MiB", b"GiB", b"TiB", b"PiB"];

impl Line {
    /// Reads a line. Of several, only the first that is not blank counts.
    pub(super) fn read(&mut self, line: &str) {
        self.text.clear();
        self.tokens.clear();
        (self.mark, self.row) = (0, (0, 0, 0));
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
                b'(' if s.get(i + 1) == Some(&b')') && i > 0 && s[i - 1] == b' ' => {
                    self.text.push(b'(');
                    self.slot(b"");
                    i + 1
                }
                b => {
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
    fn is_full(&self) -> bool {
        self.tokens.len() >= TOKENS_MAX - 8
    }

    /// Text of token `at`.
    pub(super) fn token_text(&self, at: usize) -> &[u8] {
        token_text(&self.text, &self.tokens, at)
    }

    fn end_mark(&mut self) {
        if self.text.len() > self.mark {
            let hash = mark_hash(&self.text[self.mark..]);
            self.push(Kind::Mark, hash);
        }
    }

    fn push(&mut self, kind: Kind, hash: u64) {
        self.mark = self.text.len();
        self.tokens.push(Token { end: self.mark as u32, kind, hash });
    }

    fn word(&mut self, text: &[u8]) {
        self.end_mark();
        self.text.extend_from_slice(text);
        self.push(Kind::Word, hash::bytes(text));
    }

    fn marks(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
    }

    fn slot(&mut self, text: &[u8]) {
        self.end_mark();
        let text = if text.len() > SLOT_BYTES_MAX { VALUE } else { text };
        self.text.extend_from_slice(text);
        self.push(Kind::Slot, SLOT_HASH);
        self.fold_row();
    }

    /// Makes one slot of a row that has grown too long.
    fn fold_row(&mut self) {
        let n = self.tokens.len();
        let [.., before, mark, _] = self.tokens.as_slice() else { return };
        if before.kind != Kind::Slot
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

    /// A value after which a unit of size may stand, which belongs to it.
    fn number(&mut self, s: &[u8], end: usize) -> usize {
        self.slot(VALUE);
        if s.get(end) != Some(&b' ') || !s.get(end + 1).is_some_and(u8::is_ascii_alphabetic) {
            return end;
        }
        let rest = &s[end + 1..];
        let length = rest.iter().take(4).take_while(|b| b.is_ascii_alphabetic()).count();
        let ends = rest.get(length).is_none_or(|&b| CLASS[usize::from(b)] & BREAK != 0 || b == b'.');
        if ends && UNITS.contains(&&rest[..length]) { end + 1 + length } else { end }
    }

    /// The run of bytes from `i` on that holds no white space and no delimiter. Returns where to go on.
    fn chunk(&mut self, s: &[u8], i: usize) -> usize {
        let (mut j, mut classes) = (i, 0);
        while let Some(&byte) = s.get(j) {
            let class = CLASS[usize::from(byte)];
            if class & BREAK != 0 {
                break;
            }
            classes |= class;
            j += 1;
        }
        if classes & (DIGIT | DOT | COLON | SLASH | BACKSLASH) == 0 {
            return self.plain(s, i, j);
        }
        let full = j;
        while j > i && matches!(s[j - 1], b'.' | b':') {
            j -= 1;
        }
        let mut from = i;
        while from < j && s[from] == b':' {
            from += 1;
        }
        self.marks(&s[i..from]);
        let end = match () {
            () if from == j => j,
            () if classes & SLASH != 0 => self.slashed(s, from, j),
            () if classes & BACKSLASH != 0 => self.backslashed(&s[from..j], j),
            () if classes & COLON != 0 => self.coloned(s, from, j),
            () => self.atom(s, from, j),
        };
        if end > j {
            return end;
        }
        self.marks(&s[j..full]);
        full
    }

    /// Neither digit nor dot, colon or slash.
    fn plain(&mut self, s: &[u8], i: usize, j: usize) -> usize {
        let text = &s[i..j];
        if text.len() == 3
            && text[0].is_ascii_uppercase()
            && let Some(end) = clock_date(s, i)
        {
            // The date belongs to the hour, the year to the second, as the clock's own colons stay.
            for last in [false, false, true] {
                self.slot(VALUE);
                if !last {
                    self.marks(b":");
                }
            }
            return end;
        }
        if text.len() >= 8 && class::hexadecimal(text) {
            self.slot(VALUE);
        } else if !text.iter().any(|&b| b.is_ascii_alphabetic() || b >= 128) {
            self.marks(text);
        } else if self.names_follow() {
            self.slot(text);
        } else {
            self.word(text);
        }
        j
    }

    /// Whether the word before, one blank away, says that a name comes.
    fn names_follow(&self) -> bool {
        self.text.get(self.mark..) == Some(b" ")
            && self.tokens.last().is_some_and(|token| token.kind == Kind::Word)
            && NAMED_AFTER.contains(&self.token_text(self.tokens.len() - 1))
    }

    /// A name, number, address or host, without colons and slashes.
    fn atom(&mut self, s: &[u8], i: usize, j: usize) -> usize {
        let text = &s[i..j];
        if self.is_full() {
            self.slot(VALUE);
            return j;
        }
        let classes = class::of(text);
        if classes & (DIGIT | DOT) == 0 {
            return if text.is_empty() { j } else { self.plain(s, i, j) };
        }
        if class::numeric(text) {
            return self.number(s, j);
        }
        if let Some(dots) = text.windows(2).position(|two| two == b"..") {
            // Dots that lead to a value: `enable......0`.
            let length = text[dots..].iter().take_while(|&&b| b == b'.').count();
            self.atom(s, i, i + dots);
            self.marks(&text[dots..dots + length]);
            return self.atom(s, i + dots + length, j);
        }
        if class::hexadecimal(text) || classes & DOT != 0 && class::host(text) {
            self.slot(VALUE);
        } else if classes & DOT != 0 && class_name(text) {
            self.masked(text);
        } else if classes & DIGIT != 0 {
            self.identifier(text);
        } else if self.names_follow() {
            self.slot(text);
        } else {
            self.word(text);
        }
        j
    }

    /// A name with digits in it, which begins with none.
    fn identifier(&mut self, text: &[u8]) {
        let letters = text.iter().position(u8::is_ascii_digit).unwrap_or(text.len());
        if self.names_follow() {
            self.masked(text);
        } else if class::all_digits(&text[letters..]) && text[..letters].iter().all(u8::is_ascii_alphabetic) {
            // `U11`, `tty2`: the letters are a word.
            self.word(&text[..letters]);
            self.slot(&text[letters..]);
        } else {
            self.masked(text);
        }
    }

    /// A slot with this text, its numbers masked.
    fn masked(&mut self, text: &[u8]) {
        if class::of(text) & DIGIT == 0 || text.len() > SLOT_BYTES_MAX {
            return self.slot(text);
        }
        let mut buffer = [0u8; SLOT_BYTES_MAX * 3];
        let length = mask(text, &mut buffer);
        self.slot(&buffer[..length]);
    }

    fn coloned(&mut self, s: &[u8], i: usize, j: usize) -> usize {
        if class::colon_address(&s[i..j]) {
            self.slot(VALUE);
            return j;
        }
        let mut at = i;
        while at < j && !self.is_full() {
            let end = s[at..j].iter().position(|&b| b == b':').map_or(j, |length| at + length);
            let part = &s[at..end];
            let port = end < j && class::all_digits(&s[end + 1..j]);
            if port && (class::short_host(part) || class::host(part)) {
                self.slot(VALUE);
            } else if s.get(end.wrapping_sub(1)) == Some(&b'.') {
                // What stands before a colon may end in dots.
                let dots = part.iter().rev().take_while(|&&b| b == b'.').count();
                self.atom(s, at, end - dots);
                self.marks(&s[end - dots..end]);
            } else {
                let after = self.atom(s, at, end);
                if after > end {
                    return after;
                }
            }
            if end < j {
                self.marks(b":");
            }
            at = end + 1;
        }
        j
    }

    fn backslashed(&mut self, text: &[u8], j: usize) -> usize {
        let count = text.iter().filter(|&&b| b == b'\\').count();
        if count >= 2 || text.get(1) == Some(&b':') {
            self.slot(VALUE);
        } else {
            self.masked(text);
        }
        j
    }

    fn slashed(&mut self, s: &[u8], i: usize, j: usize) -> usize {
        let text = &s[i..j];
        if let Some(at) = text.windows(3).position(|three| three == b"://") {
            return self.url(s, i, i + at);
        }
        let slashes = text.iter().filter(|&&b| b == b'/').count();
        if text[0] == b'/' {
            if slashes == 1 {
                self.marks(b"/");
                return self.coloned(s, i + 1, j);
            }
            self.slot(VALUE);
            return j;
        }
        let drive = text.len() > 2 && text[1] == b':' && text[0].is_ascii_alphabetic();
        if class::numeric(text) || drive || text.starts_with(b"./") || text.starts_with(b"../") {
            self.slot(VALUE);
            return j;
        }
        let last = text.iter().rposition(|&b| b == b'/').unwrap_or(0);
        if slashes == 1 && class::ipv4(&text[last + 1..]) {
            // Java's way to write an address: host/address:port.
            self.slot(VALUE);
            self.marks(b"/");
            return self.coloned(s, i + last + 1, j);
        }
        if slashes >= 2 || text.iter().filter(|&&b| b == b'.').count() >= 2 {
            self.masked(text);
            return j;
        }
        let end = self.coloned(s, i, i + last);
        if end > i + last {
            return end;
        }
        self.marks(b"/");
        self.coloned(s, i + last + 1, j)
    }

    /// `scheme://` and one value up to white space or what closes it.
    fn url(&mut self, s: &[u8], i: usize, colon: usize) -> usize {
        self.word(&s[i..colon]);
        self.marks(b"://");
        let begin = colon + 3;
        let closes = |b: u8| {
            b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b'<' | b'>' | b')' | b']' | b'}' | b',' | b';')
        };
        let mut end = s[begin..].iter().position(|&b| closes(b)).map_or(s.len(), |length| begin + length);
        while end > begin && matches!(s[end - 1], b'.' | b':') {
            end -= 1;
        }
        if end > begin {
            self.slot(VALUE);
        }
        end
    }

    /// At a quote: what stands in quotes is a slot, unless it is the key or the value of a JSON object, or a message.
    fn quoted(&mut self, s: &[u8], i: usize) -> usize {
        let quote = s[i];
        let opens = match i.checked_sub(1).map(|before| s[before]) {
            None | Some(b' ' | b'(' | b'[' | b',' | b'\t') => true,
            Some(b'=') => {
                !self.tokens.last().is_some_and(|t| t.kind == Kind::Word)
                    || !MESSAGES.contains(&self.token_text(self.tokens.len() - 1))
            }
            Some(_) => false,
        };
        let inside = &s[i + 1..s.len().min(i + 2 + QUOTED_BYTES_MAX)];
        let length = inside.iter().position(|&b| b == quote);
        let (true, Some(length)) = (opens, length) else {
            self.text.push(quote);
            return i + 1;
        };
        let inside = &inside[..length];
        let after = i + 2 + length;
        if matches!(s.get(after), Some(b':')) || s.get(after).is_some_and(u8::is_ascii_alphanumeric) {
            self.text.push(quote);
            return i + 1;
        }
        self.text.push(quote);
        let method = inside.iter().position(|&b| b == b' ').map_or(&[][..], |end| &inside[..end]);
        if METHODS.contains(&method) {
            self.word(method);
            self.marks(b" ");
            self.slot(VALUE);
        } else if inside.starts_with(b"/") && inside.iter().filter(|&&b| b == b'/').count() >= 2 {
            self.slot(VALUE);
        } else {
            self.masked(inside);
        }
        self.text.push(quote);
        after
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

/// Three or more names with dots between them: `org.example.Main`.
fn class_name(text: &[u8]) -> bool {
    let mut parts = 0;
    text.split(|&b| b == b'.').all(|part| {
        parts += 1;
        !part.is_empty()
    }) && parts >= 3
        && text[0].is_ascii_alphabetic()
}

/// `text` with every number in it as `<*>`; numbers in a row (`1445_0020_m_000000`) are one. Returns the length.
fn mask(text: &[u8], out: &mut [u8; SLOT_BYTES_MAX * 3]) -> usize {
    let part_of_name = |b: u8| b.is_ascii_alphanumeric() || b >= 128;
    let (mut length, mut at) = (0, 0);
    // Where the last value ends, if only marks and single letters have followed.
    let mut value_end = None;
    while at < text.len() {
        let begin = at;
        while at < text.len() && part_of_name(text[at]) {
            at += 1;
        }
        let part = &text[begin..at];
        let value = part.first().is_some_and(u8::is_ascii_digit) || class::hexadecimal(part);
        if value {
            match value_end {
                Some(end) => length = end,
                None => {
                    // A sign after a mark belongs to the number: `blk_-17`.
                    if length >= 2 && out[length - 1] == b'-' && !part_of_name(out[length - 2]) {
                        length -= 1;
                    }
                    out[length..length + VALUE.len()].copy_from_slice(VALUE);
                    length += VALUE.len();
                }
            }
            value_end = Some(length);
        } else {
            if part.len() > 1 {
                value_end = None;
            }
            out[length..length + part.len()].copy_from_slice(part);
            length += part.len();
        }
        if let Some(&mark) = text.get(at) {
            if !matches!(mark, b'_' | b'-' | b'.') {
                value_end = None;
            }
            out[length] = mark;
            length += 1;
            at += 1;
        }
    }
    length
}

/// The end of a date as clocks print it that begins at `i`: `Fri Jun 17 07:07:00 2005`, the first and last word optional.
fn clock_date(s: &[u8], i: usize) -> Option<usize> {
    const DAYS: &[u8] = b"MonTueWedThuFriSatSun";
    const MONTHS: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let one_of = |names: &[u8], at: usize| {
        s.get(at..at + 3).is_some_and(|name| names.as_chunks::<3>().0.iter().any(|n| n == name))
    };
    let blanks = |at: usize| s[at..].iter().take(2).take_while(|&&b| b == b' ').count();
    let mut at = i;
    if one_of(DAYS, at) {
        at += 3 + blanks(at + 3);
    }
    if !one_of(MONTHS, at) || s.get(at + 3) != Some(&b' ') {
        return None;
    }
    at += 3 + blanks(at + 3);
    let digits = s[at..].iter().take(2).take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 || s.get(at + digits) != Some(&b' ') {
        return None;
    }
    at += digits + 1;
    let clock = s.get(at..at + 8)?;
    if !clock.iter().enumerate().all(|(k, b)| if k == 2 || k == 5 { *b == b':' } else { b.is_ascii_digit() }) {
        return None;
    }
    at += 8;
    // A zone and a year.
    let word = |at: usize| {
        let rest = s.get(at..)?.strip_prefix(b" ")?;
        let length = rest.iter().take(5).take_while(|b| b.is_ascii_alphanumeric()).count();
        Some(&rest[..length])
    };
    if let Some(zone) = word(at)
        && (3..=4).contains(&zone.len())
        && zone.iter().all(u8::is_ascii_uppercase)
        && word(at + 1 + zone.len()).is_some_and(|year| year.len() == 4 && class::all_digits(year))
    {
        at += 1 + zone.len();
    }
    if let Some(year) = word(at)
        && year.len() == 4
        && class::all_digits(year)
    {
        at += 5;
    }
    Some(at)
}
