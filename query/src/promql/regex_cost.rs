//! How large a regular expression gets when it is compiled, about: looked at before anything compiles it, because compiling
//! `(.{1000}){1000}` a thousand times takes longer than any query may.

/// What all strings of one query may cost together. A literal character costs 1.
pub(crate) const COST_MAX: u64 = 100_000;
/// A class of Unicode, such as `\w`.
const CLASS: u64 = 64;
/// `.` or a class in brackets.
const SET: u64 = 8;

/// The cost of `pattern`: its characters, each as often as counted repetitions around it say.
pub(crate) fn cost(pattern: &str) -> u64 {
    // Cost of each open group so far, the whole pattern first.
    let mut groups = vec![0u64];
    let mut chars = pattern.chars().peekable();
    let mut last = 0;
    while let Some(c) = chars.next() {
        last = match c {
            '\\' => match chars.next() {
                // In quotes the backslash itself is escaped.
                Some('\\') if chars.peek().is_some_and(|&c| is_class(c)) => {
                    chars.next();
                    CLASS
                }
                Some(c) if is_class(c) => CLASS,
                _ => 1,
            },
            '.' => SET,
            '[' => {
                let mut escaped = false;
                while let Some(c) = chars.next().filter(|&c| c != ']') {
                    escaped |= c == '\\';
                }
                if escaped { CLASS } else { SET }
            }
            '(' => {
                groups.push(0);
                continue;
            }
            ')' if groups.len() > 1 => groups.pop().unwrap_or_default(),
            '{' => {
                let times = repetitions(&mut chars);
                add(&mut groups, last.saturating_mul(times.saturating_sub(1)));
                last = last.saturating_mul(times.max(1));
                continue;
            }
            _ => 1,
        };
        add(&mut groups, last);
    }
    groups.into_iter().fold(0, u64::saturating_add)
}

fn is_class(c: char) -> bool {
    matches!(c, 'w' | 'W' | 'd' | 'D' | 's' | 'S' | 'p' | 'P' | 'b' | 'B')
}

fn add(groups: &mut [u64], cost: u64) {
    if let Some(group) = groups.last_mut() {
        *group = group.saturating_add(cost);
    }
}

/// The largest number up to the closing brace.
fn repetitions(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> u64 {
    let (mut largest, mut number) = (0u64, 0u64);
    while let Some(c) = chars.next_if(|c| c.is_ascii_digit() || matches!(c, ',' | '}' | ' ')) {
        match c.to_digit(10) {
            Some(digit) => number = number.saturating_mul(10).saturating_add(u64::from(digit)),
            None => number = 0,
        }
        largest = largest.max(number);
        if c == '}' {
            break;
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_cheap_and_bombs_are_not() {
        for pattern in [
            "api|web|db.*",
            "(\\d{1,3}\\.){3}\\d{1,3}",
            "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "ip-10-\\\\d+-\\\\d+",
            "(((((",
            ")))))",
            "{}{,}{5",
        ] {
            assert!(cost(pattern) < 2_000, "{pattern}: {}", cost(pattern));
        }
        for pattern in ["(.{1000}){1000}", "((a{100}){100}){100}", "\\w{5000}", "(a{99999999999999999999}){9999999999}"]
        {
            assert!(cost(pattern) > COST_MAX, "{pattern}: {}", cost(pattern));
        }
    }
}
