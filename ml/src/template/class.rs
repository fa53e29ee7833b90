//! Classes of bytes, and what a run of bytes looks like.

/// No letter, digit or sign of names: it ends a chunk.
pub(super) const BREAK: u8 = 1;
pub(super) const DIGIT: u8 = 2;
pub(super) const DOT: u8 = 4;
pub(super) const COLON: u8 = 8;
pub(super) const SLASH: u8 = 16;
pub(super) const BACKSLASH: u8 = 32;
/// A byte that no hexadecimal number has.
pub(super) const NOT_HEX: u8 = 64;

/// Class of every byte.
pub(super) static CLASS: [u8; 256] = {
    let mut table = [NOT_HEX; 256];
    let mut byte = 0;
    while byte < 128 {
        let b = byte as u8;
        table[byte] = match b {
            b'0'..=b'9' => DIGIT,
            b'a'..=b'f' | b'A'..=b'F' => 0,
            b'.' => DOT | NOT_HEX,
            b':' => COLON | NOT_HEX,
            b'/' => SLASH | NOT_HEX,
            b'\\' => BACKSLASH | NOT_HEX,
            b'g'..=b'z' | b'G'..=b'Z' | b'-' | b'_' | b'$' | b'*' | b'+' => NOT_HEX,
            _ => BREAK,
        };
        byte += 1;
    }
    table
};

/// The classes that occur in `text`.
pub(super) fn of(text: &[u8]) -> u8 {
    text.iter().fold(0, |all, &byte| all | CLASS[usize::from(byte)])
}

pub(super) fn all_digits(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// A number, or what begins like one: `-17`, `+1s0ms`, `.5`, `0x1f`, `126MB`, `2015-10-18`, `10.0.0.1`.
pub(super) fn numeric(text: &[u8]) -> bool {
    let rest = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    rest.strip_prefix(b".").unwrap_or(rest).first().is_some_and(u8::is_ascii_digit)
}

/// Hexadecimal digits, too many of them or too mixed for a word: `9f4ef63`, `ffffffff`, a UUID.
pub(super) fn hexadecimal(text: &[u8]) -> bool {
    if text.len() == 36 {
        return text.iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_hexdigit(),
        });
    }
    let classes = of(text);
    classes & (NOT_HEX | BREAK) == 0 && (text.len() >= 8 || text.len() >= 6 && classes & DIGIT != 0)
}

/// `a.b.c.d` in decimal, with nothing after it but a port.
pub(super) fn ipv4(text: &[u8]) -> bool {
    let address = match text.iter().position(|&b| b == b':') {
        Some(at) if all_digits(&text[at + 1..]) => &text[..at],
        Some(_) => return false,
        None => text,
    };
    let mut parts = 0;
    address.split(|&b| b == b'.').all(|part| {
        parts += 1;
        part.len() <= 3 && all_digits(part)
    }) && parts == 4
}

/// Hexadecimal groups with colons between them: a MAC or IPv6 address.
pub(super) fn colon_address(text: &[u8]) -> bool {
    let colons = text.iter().filter(|&&b| b == b':').count();
    (colons >= 5 || colons >= 2 && text.windows(2).any(|pair| pair == b"::"))
        && text.split(|&b| b == b':').all(|group| group.len() <= 4 && group.iter().all(u8::is_ascii_hexdigit))
        && text.iter().any(u8::is_ascii_hexdigit)
}

/// Ends of host names that are no country's.
const TOP_LEVEL: [&[u8]; 15] = [
    b"com",
    b"net",
    b"org",
    b"edu",
    b"gov",
    b"mil",
    b"int",
    b"info",
    b"biz",
    b"arpa",
    b"local",
    b"localdomain",
    b"internal",
    b"lan",
    b"corp",
];

/// A host's name in full: it ends as names of the Internet do, and does not begin so (as names of classes and packages do).
pub(super) fn host(text: &[u8]) -> bool {
    if !text.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-')) {
        return false;
    }
    let mut parts = text.split(|&b| b == b'.');
    let Some(first) = parts.next() else { return false };
    let (mut before_last, mut last, mut dots) = (first, first, 0);
    for part in parts {
        (before_last, last, dots) = (last, part, dots + 1);
        if part.is_empty() {
            return false;
        }
    }
    if dots == 0 || first.is_empty() || TOP_LEVEL[..7].contains(&first) {
        return false;
    }
    if TOP_LEVEL.contains(&last) {
        return true;
    }
    // A country's: only with something else that speaks for a host.
    last.len() == 2
        && last.iter().all(u8::is_ascii_lowercase)
        && dots >= 2
        && (TOP_LEVEL[..7].contains(&before_last)
            || matches!(before_last, b"co" | b"ac" | b"or" | b"ne" | b"go")
            || text.iter().any(|&b| b.is_ascii_digit() || b == b'-'))
}

/// A host's short name, as far as one can tell: `msra-sa-41`.
pub(super) fn short_host(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_alphanumeric)
        && text.contains(&b'-')
        && text.iter().any(u8::is_ascii_digit)
        && text.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
}
