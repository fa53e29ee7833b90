//! Chunks: runs of bytes without white space, brackets, quotes and commas, which are names, numbers, addresses and paths.
use super::class::{self, BACKSLASH, BREAK, CLASS, COLON, DIGIT, DOT, SLASH};
use super::clock;
use super::line::{Kind, Line, SLOT_BYTES_MAX, VALUE};
use super::mask;

impl Line {
    /// A number, a date or an address, with the unit or the time that follows it. Returns where to go on.
    fn number(&mut self, s: &[u8], text: &[u8], end: usize) -> usize {
        if let Some(length) = clock::after(s, end) {
            // A date with its time is compared with a date alone.
            let start = self.compose();
            self.slot(VALUE);
            self.marks(b" ");
            self.clock();
            self.composed(Some(start));
            return end + length;
        }
        let letters = text.iter().rev().take_while(|b| b.is_ascii_alphabetic()).count();
        let (number, unit) = text.split_at(text.len() - letters);
        if letters > 0 {
            // `17ms`: shown with its unit as long as that is the same.
            if class::is_unit(unit) {
                self.number_with(number, unit);
            } else {
                self.slot(VALUE);
            }
            return end;
        }
        let rest = &s[end..];
        if rest.len() < 2 || rest[0] != b' ' || !rest[1].is_ascii_alphabetic() {
            self.number_with(number, b"");
            return end;
        }
        let length = 1 + rest[1..].iter().take(4).take_while(|b| b.is_ascii_alphabetic()).count();
        let ends = rest.get(length).is_none_or(|&b| CLASS[usize::from(b)] & BREAK != 0 || b == b'.');
        match &rest[1..length] {
            // Sizes as people read them go on to larger units, so the unit belongs to the value.
            unit if ends && class::SMALL_SIZES.contains(&unit) => self.slot(VALUE),
            unit if ends && class::SIZES.contains(&unit) => self.number_with(number, &rest[..length]),
            _ => {
                self.number_with(number, b"");
                return end;
            }
        }
        end + length
    }

    /// A slot whose text is a number and its unit.
    fn number_with(&mut self, number: &[u8], unit: &[u8]) {
        let decimal = class::decimal(number);
        if unit.is_empty() && !decimal {
            return self.slot(VALUE);
        }
        let start = self.compose();
        self.slot(VALUE);
        if decimal {
            self.marks(b".");
            self.slot(VALUE);
        }
        self.marks(unit);
        self.composed(Some(start));
    }

    /// Hours, minutes and seconds.
    fn clock(&mut self) {
        for last in [false, false, true] {
            self.slot(VALUE);
            if !last {
                self.marks(b":");
            }
        }
    }

    /// The run of bytes from `i` on that holds no white space and no delimiter. Returns where to go on.
    pub(super) fn chunk(&mut self, s: &[u8], i: usize) -> usize {
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
        while j > i && matches!(s[j - 1], b'.' | b':' | b'%') {
            j -= 1;
        }
        let mut from = i;
        while from < j && s[from] == b':' {
            from += 1;
        }
        if from > i || j < full && s[full - 1] == b':' {
            self.key();
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
            && let Some(end) = clock::date(s, i)
        {
            // The date belongs to the hour, the year to the second, as the clock's own colons stay.
            let start = self.compose();
            self.clock();
            self.composed(Some(start));
            return end;
        }
        if text.len() >= 8 && class::hexadecimal(text) {
            self.slot(VALUE);
        } else if !text.iter().any(|&b| b.is_ascii_alphabetic() || b >= 128) {
            self.marks(text);
        } else if self.is_value(s, text, j) {
            self.slot(text);
        } else {
            self.word(text);
        }
        j
    }

    /// Whether a word is a value because of what stands before and after it, or is one of a few that always are.
    fn is_value(&self, s: &[u8], text: &[u8], end: usize) -> bool {
        if self.tokens.is_empty() {
            return false;
        }
        let after = s.get(end);
        if after == Some(&b'@') || class::NOTHING.contains(&text) {
            return true;
        }
        match &self.text[self.mark..] {
            b" " => self.names_follow(),
            b"@" => true,
            b"=" | b": " | b":" => {
                !self.open.is_empty()
                    && matches!(after, Some(b',' | b')' | b']' | b'}' | b';' | b' '))
                    && !class::ANSWERS.contains(&text)
                    && self.is_key()
            }
            _ => false,
        }
    }

    /// Whether the last token can name a value.
    fn is_key(&self) -> bool {
        self.tokens.last().is_some_and(|token| token.kind == Kind::Word)
            && !class::MESSAGES.contains(&self.token_text(self.tokens.len() - 1))
    }

    /// Whether the word before, one blank away, says that a name comes.
    fn names_follow(&self) -> bool {
        self.text.get(self.mark..) == Some(b" ")
            && self.tokens.last().is_some_and(|token| token.kind == Kind::Word)
            && class::NAMED_AFTER.contains(&self.token_text(self.tokens.len() - 1))
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
            return self.number(s, text, j);
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
        } else if classes & DOT != 0 && class::class_name(text) {
            self.masked(text);
        } else if classes & DIGIT != 0 {
            self.identifier(text);
        } else if class::file_name(text) || self.is_value(s, text, j) {
            self.slot(text);
        } else {
            self.word(text);
        }
        j
    }

    /// A name with digits in it, which begins with none.
    fn identifier(&mut self, text: &[u8]) {
        let letters = text.iter().position(u8::is_ascii_digit).unwrap_or(text.len());
        let digits = text.len() - letters;
        let simple = class::all_digits(&text[letters..]) && text[..letters].iter().all(u8::is_ascii_alphabetic);
        if simple && class::INTERFACES.contains(&&text[..letters]) {
            self.slot(text);
        } else if simple && (digits <= 3 || self.tokens.is_empty()) && !self.names_follow() {
            // `tty2`, `sse2`: a word, of which the number may differ.
            self.word(text);
        } else if simple {
            self.slot(text);
        } else {
            self.masked(text);
        }
    }

    /// A slot with this text, its numbers masked.
    pub(super) fn masked(&mut self, text: &[u8]) {
        if class::of(text) & DIGIT == 0 || text.len() > SLOT_BYTES_MAX {
            return self.slot(text);
        }
        let mut buffer = [0u8; SLOT_BYTES_MAX * 3];
        let length = mask::mask(text, &mut buffer);
        self.slot(&buffer[..length]);
    }

    /// Parts with colons between them. From the first that is a value on they are one slot: `10.0.0.1:80`, `18:01:47`.
    fn coloned(&mut self, s: &[u8], i: usize, j: usize) -> usize {
        if class::colon_address(&s[i..j]) {
            self.slot(VALUE);
            return j;
        }
        self.compose();
        let (mut at, mut end) = (i, i);
        let mut first = None;
        while at < j && !self.is_full() {
            let here = self.start();
            end = s[at..j].iter().position(|&b| b == b':').map_or(j, |length| at + length);
            let part = &s[at..end];
            let port = end < j && class::all_digits(&s[end + 1..j]);
            if port && (class::short_host(part) || class::host(part)) {
                self.slot(VALUE);
            } else if part.ends_with(b".") {
                // What stands before a colon may end in dots.
                let dots = part.iter().rev().take_while(|&&b| b == b'.').count();
                self.atom(s, at, end - dots);
                self.marks(&s[end - dots..end]);
            } else {
                end = self.atom(s, at, end);
                if end > j {
                    break;
                }
            }
            if first.is_none() && self.tokens.len() > here.tokens {
                match self.tokens[self.tokens.len() - 1].kind {
                    Kind::Slot => first = Some(here),
                    _ if end < j => self.key(),
                    _ => {}
                }
            }
            if end < j {
                self.marks(b":");
            }
            at = end + 1;
        }
        self.composed(first.filter(|start| self.tokens.len() > start.tokens + 1));
        end.max(j)
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
            let start = self.compose();
            self.slot(VALUE);
            self.marks(b"/");
            let end = self.coloned(s, i + last + 1, j);
            self.composed(Some(start));
            return end;
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
}
