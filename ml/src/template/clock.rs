//! Times as clocks print them.
use super::class;

/// The end of a date as clocks print it that begins at `i`: `Fri Jun 17 07:07:00 2005`, the first and last word optional.
pub(super) fn date(s: &[u8], i: usize) -> Option<usize> {
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

/// Length of a blank and a clock's time (`18:01:47`) at `end`.
pub(super) fn after(s: &[u8], end: usize) -> Option<usize> {
    let rest = s.get(end..)?.strip_prefix(b" ")?;
    let mut at = 0;
    let mut parts = 0;
    while parts < 3 {
        let digits = rest[at..].iter().take(3).take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 || digits > 2 {
            return None;
        }
        parts += 1;
        at += digits;
        if parts < 3 {
            if rest.get(at) != Some(&b':') {
                return None;
            }
            at += 1;
        }
    }
    rest.get(at).is_none_or(|b| !b.is_ascii_alphanumeric() && *b != b':').then_some(at + 1)
}
