//! Brackets, quotes and angle brackets: what stands in them may be one value.
use super::class::{ANSWERS, MESSAGES, METHODS, SORTS, TIMES};
use super::line::{Kind, Line, Start, VALUE};

/// Bytes that may stand between quotes.
const QUOTED_BYTES_MAX: usize = 256;
/// Brackets within brackets that are looked at.
const BRACKETS_MAX: usize = 16;
/// Words in angle brackets that say there is no value.
const NO_VALUE: [&[u8]; 5] = [b"none", b"null", b"unknown", b"empty", b"private"];

/// An open bracket, and what was seen in it but not in brackets within it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bracket {
    start: Start,
    closes: u8,
    /// What stands before it lets it hold a list of one or none.
    any_length: bool,
    commas: u32,
    /// Blanks that follow no comma.
    blanks: bool,
    keys: bool,
}

impl Line {
    /// At a bracket that opens.
    pub(super) fn opens(&mut self, s: &[u8], i: usize) -> usize {
        self.text.push(s[i]);
        if self.open.len() == BRACKETS_MAX {
            return i + 1;
        }
        let before = i.checked_sub(1).map(|at| s[at]);
        let closes = closing(s[i]);
        let after_key = matches!(before, Some(b'=' | b':')) || s[..i].ends_with(b": ");
        let empty = s.get(i + 1) == Some(&closes) && matches!(before, Some(b' ' | b'='));
        let any_length = match s[i] {
            _ if empty => true,
            b'[' => after_key || before == Some(b' '),
            b'{' => after_key,
            // The user of a line that cron writes.
            _ => before.is_none(),
        };
        self.open.push(Bracket { start: self.start(), closes, any_length, commas: 0, blanks: false, keys: false });
        i + 1
    }

    /// Keeps in mind what the mark at `i` says about the bracket that it is in.
    pub(super) fn inside(&mut self, s: &[u8], i: usize) {
        let Some(open) = self.open.last_mut() else { return };
        match s[i] {
            b',' => open.commas += 1,
            b'=' => open.keys = true,
            b' ' => {
                let at_edge = self.text.len() == open.start.text || s.get(i + 1) == Some(&open.closes);
                open.blanks |= !at_edge && self.text.last() != Some(&b',');
            }
            _ => {}
        }
    }

    /// Keeps in mind that the bracket that is open has keys, so it is a record and no list.
    pub(super) fn key(&mut self) {
        if let Some(open) = self.open.last_mut() {
            open.keys = true;
        }
    }

    /// At a bracket that closes. A list is one slot, and so is the command of a line that cron writes.
    pub(super) fn closes(&mut self, s: &[u8], i: usize) -> usize {
        while let Some(open) = self.open.pop() {
            if open.closes == s[i] {
                if self.is_list(&open) || self.text[..open.start.text].ends_with(b" CMD (") {
                    self.one_value(open.start);
                }
                break;
            }
        }
        self.text.push(s[i]);
        i + 1
    }

    /// Makes one slot of what was read since `start`, but for blanks at its edges.
    fn one_value(&mut self, mut start: Start) {
        let inside = &self.text[start.text..];
        let last = inside.iter().rposition(|&b| b != b' ').map_or(0, |at| at + 1);
        let blanks = inside.len() - last;
        if last > 0 {
            let first = inside.iter().take_while(|&&b| b == b' ').count();
            self.text.truncate(start.text + last);
            start.text += first;
        }
        self.collapse(start);
        if last > 0 {
            self.text.extend(std::iter::repeat_n(b' ', blanks));
        }
    }

    /// Whether what was read since a bracket opened is a list: names and values with commas between them, or values with
    /// blanks between them.
    fn is_list(&self, open: &Bracket) -> bool {
        if open.keys || open.blanks {
            return !open.keys && self.all_values(open.start);
        }
        open.commas > 0 || open.any_length && !self.says_how(open.start)
    }

    /// Whether a single word in capitals was read since `start`, or one that says yes or no: `[OK]`.
    fn says_how(&self, start: Start) -> bool {
        let [.., last] = self.tokens.as_slice() else { return false };
        let word = &self.text[start.text..];
        last.kind == Kind::Word
            && !word.is_empty()
            && (word.iter().all(u8::is_ascii_uppercase) || ANSWERS.contains(&word))
    }

    /// Whether only values by their looks, with blanks and commas between them, were read since `start`.
    fn all_values(&self, start: Start) -> bool {
        let blank = |text: &[u8]| text.iter().all(|b| matches!(b, b' ' | b','));
        (start.tokens..self.tokens.len()).skip(usize::from(start.text > start.mark)).all(|at| {
            match self.tokens[at].kind {
                Kind::Slot => !self.token_text(at).iter().any(u8::is_ascii_alphabetic),
                Kind::Mark => blank(self.token_text(at)),
                _ => false,
            }
        }) && blank(&self.text[self.mark.max(start.text)..])
    }

    /// At `<`: `<1 sec` and `<none>` are values.
    pub(super) fn less(&mut self, s: &[u8], i: usize) -> usize {
        let rest = &s[i + 1..];
        let digits = rest.iter().take(20).take_while(|b| b.is_ascii_digit()).count();
        let blank = digits + usize::from(digits > 0 && rest.get(digits) == Some(&b' '));
        let word = rest[blank..].iter().take(8).take_while(|b| b.is_ascii_alphabetic()).count();
        let end = blank + word;
        if blank > digits && TIMES.contains(&&rest[blank..end]) {
            let start = self.compose();
            self.marks(b"<");
            self.slot(VALUE);
            self.marks(&rest[digits..end]);
            self.composed(Some(start));
            return i + 1 + end;
        }
        if blank == 0 && rest.get(end) == Some(&b'>') && NO_VALUE.contains(&&rest[..end]) {
            self.slot(&s[i..i + 2 + end]);
            return i + 2 + end;
        }
        self.text.push(b'<');
        i + 1
    }

    /// At a quote: what stands in quotes is a slot, unless it is a key of a JSON object, a message or a sort of event.
    pub(super) fn quoted(&mut self, s: &[u8], i: usize) -> usize {
        let quote = s[i];
        let key = self.tokens.last().filter(|token| token.kind == Kind::Word);
        let key = key.map_or(&[][..], |_| self.token_text(self.tokens.len() - 1));
        let opens = match i.checked_sub(1).map(|before| s[before]) {
            // The value of a JSON object.
            _ if matches!(&self.text[self.mark..], b"\":" | b"\": ") => {
                !MESSAGES.contains(&key) && !SORTS.contains(&key)
            }
            None | Some(b' ' | b'(' | b'[' | b',' | b'\t') => true,
            Some(b'=') => !MESSAGES.contains(&key),
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

fn closing(bracket: u8) -> u8 {
    match bracket {
        b'(' => b')',
        b'[' => b']',
        _ => b'}',
    }
}
