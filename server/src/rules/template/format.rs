//! Numbers and `printf` as Go writes them.
use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

use super::value::Value;

/// Longest padding that a template may ask for.
const WIDTH_MAX: usize = 1024;

/// NaN and the infinities.
fn special(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value == f64::INFINITY {
        Some("+Inf")
    } else if value == f64::NEG_INFINITY {
        Some("-Inf")
    } else {
        None
    }
}

/// `%g` with so many digits, or the fewest that read back as the same bits.
pub(super) fn general(value: f64, digits: Option<usize>) -> String {
    if let Some(text) = special(value) {
        return text.to_owned();
    }
    let scientific = match digits {
        None => format!("{value:e}"),
        Some(digits) => format!("{value:.*e}", digits.max(1) - 1),
    };
    let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let sign = if mantissa.starts_with('-') { "-" } else { "" };
    let all: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let significant = all.trim_end_matches('0');
    let count = significant.len() as i32;
    // Digits before the point.
    let point = if count == 0 { 0 } else { power.parse::<i32>().unwrap_or(0) + 1 };
    let mut threshold = digits.map_or(6, |digits| digits.max(1) as i32);
    if digits.is_some() && threshold > count && count >= point {
        threshold = count;
    }
    if point - 1 < -4 || point > threshold {
        let (first, rest) = significant.split_at(1.min(significant.len()));
        let separator = if rest.is_empty() { "" } else { "." };
        return format!("{sign}{first}{separator}{rest}{}", exponent(point - 1));
    }
    if count == 0 {
        return format!("{sign}0");
    }
    if point <= 0 {
        return format!("{sign}0.{}{significant}", "0".repeat(point.unsigned_abs() as usize));
    }
    let whole = point as usize;
    if significant.len() <= whole {
        return format!("{sign}{significant}{}", "0".repeat(whole - significant.len()));
    }
    format!("{sign}{}.{}", &significant[..whole], &significant[whole..])
}

/// `e+06`
fn exponent(power: i32) -> String {
    let sign = if power < 0 { '-' } else { '+' };
    format!("e{sign}{:02}", power.unsigned_abs())
}

/// `%e`
fn scientific(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$e}");
    match text.split_once('e') {
        Some((mantissa, power)) => format!("{mantissa}{}", exponent(power.parse().unwrap_or(0))),
        None => text,
    }
}

/// A directive of `printf`.
#[derive(Default)]
struct Directive {
    left: bool,
    plus: bool,
    space: bool,
    zero: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
}

/// `printf`
pub(super) fn printf(pattern: &str, args: &[Value]) -> String {
    let (mut out, mut args) = (String::new(), args.iter());
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = Directive::default();
        while let Some(flag) = rest.next_if(|c| "-+ 0#".contains(*c)) {
            match flag {
                '-' => directive.left = true,
                '+' => directive.plus = true,
                ' ' => directive.space = true,
                '0' => directive.zero = true,
                _ => directive.alternate = true,
            }
        }
        directive.width = number(&mut rest).unwrap_or(0);
        if rest.next_if_eq(&'.').is_some() {
            directive.precision = Some(number(&mut rest).unwrap_or(0));
        }
        match rest.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match args.next() {
                None => {
                    let _ = write!(out, "%!{verb}(MISSING)");
                }
                Some(value) => directive.write(verb, value, &mut out),
            },
        }
    }
    let extra: Vec<String> = args.map(|value| format!("{}={}", value.kind(), value.print())).collect();
    if !extra.is_empty() {
        let _ = write!(out, "%!(EXTRA {})", extra.join(", "));
    }
    out
}

/// The digits that come next.
fn number(rest: &mut Peekable<Chars<'_>>) -> Option<usize> {
    let mut number = None;
    while let Some(digit) = rest.next_if(char::is_ascii_digit) {
        let digit = digit.to_digit(10).unwrap_or(0) as usize;
        number = Some((number.unwrap_or(0) * 10 + digit).min(WIDTH_MAX));
    }
    number
}

impl Directive {
    fn write(&self, verb: char, value: &Value, out: &mut String) {
        let text = match (verb, value) {
            ('v', Value::Float(number)) => self.signed(general(*number, self.precision)),
            ('v', Value::Int(number)) => self.signed(number.to_string()),
            ('v', other) => other.print(),
            ('s', Value::Text(text)) => self.cut(text),
            ('s', Value::Map(_) | Value::Sample(_) | Value::Samples(_)) => value.print(),
            ('q', Value::Text(text)) => format!("{:?}", self.cut(text)),
            ('x', Value::Text(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
            ('X', Value::Text(text)) => text.bytes().map(|byte| format!("{byte:02X}")).collect(),
            ('d', Value::Int(number)) => self.signed(number.to_string()),
            ('x', Value::Int(number)) => self.hexadecimal(*number, "0x", format!("{:x}", number.unsigned_abs())),
            ('X', Value::Int(number)) => self.hexadecimal(*number, "0X", format!("{:X}", number.unsigned_abs())),
            ('o', Value::Int(number)) => self.hexadecimal(*number, "0", format!("{:o}", number.unsigned_abs())),
            ('b', Value::Int(number)) => self.hexadecimal(*number, "0b", format!("{:b}", number.unsigned_abs())),
            ('c', Value::Int(number)) => {
                u32::try_from(*number).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER).to_string()
            }
            ('t', Value::Bool(truth)) => truth.to_string(),
            ('f' | 'F' | 'e' | 'E' | 'g' | 'G', Value::Float(number)) => self.signed(self.float(verb, *number)),
            _ => format!("%!{verb}({}={})", value.kind(), value.print()),
        };
        self.pad(&text, matches!(value, Value::Int(_) | Value::Float(_)), out);
    }

    fn float(&self, verb: char, number: f64) -> String {
        let digits = self.precision.unwrap_or(6);
        let text = match (verb, special(number)) {
            (_, Some(text)) => return text.to_owned(),
            ('f' | 'F', _) => format!("{number:.digits$}"),
            ('e' | 'E', _) => scientific(number, digits),
            _ => general(number, self.precision),
        };
        if verb.is_ascii_uppercase() { text.to_uppercase() } else { text }
    }

    fn hexadecimal(&self, number: i64, prefix: &str, digits: String) -> String {
        let prefix = if self.alternate { prefix } else { "" };
        let sign = if number < 0 { "-" } else { "" };
        self.signed(format!("{sign}{prefix}{digits}"))
    }

    fn signed(&self, text: String) -> String {
        match text.chars().next() {
            Some('-' | '+') | None => text,
            Some(_) if self.plus => format!("+{text}"),
            Some(_) if self.space => format!(" {text}"),
            Some(_) => text,
        }
    }

    fn cut(&self, text: &str) -> String {
        text.chars().take(self.precision.unwrap_or(usize::MAX)).collect()
    }

    fn pad(&self, text: &str, is_number: bool, out: &mut String) {
        let missing = self.width.saturating_sub(text.chars().count());
        if self.left {
            let _ = write!(out, "{text}{}", " ".repeat(missing));
        } else if self.zero && is_number && text.chars().next_back().is_some_and(|c| c.is_ascii_digit()) {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+', ' '])));
            let _ = write!(out, "{sign}{}{digits}", "0".repeat(missing));
        } else {
            let _ = write!(out, "{}{text}", " ".repeat(missing));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_go_prints_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.5, "0.5"),
            (123_456.0, "123456"),
            (1_000_000.0, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (-1.5e-7, "-1.5e-07"),
            (1e100, "1e+100"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(general(value, None), text, "{value:e}");
        }
    }

    #[test]
    fn four_digits_are_rounded_and_trimmed() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (100.0, "100"),
            (1000.0, "1000"),
            (1.5, "1.5"),
            (12.345_67, "12.35"),
            (999.96, "1000"),
            (12_345.0, "1.234e+04"),
            (-12.345_67, "-12.35"),
        ] {
            let got = general(value, Some(4));
            assert_eq!(got, text, "{value:e}");
        }
    }

    #[test]
    fn printf_follows_go() {
        use Value::{Float, Int, Text};
        let text = |text: &str| Text(text.to_owned());
        for (pattern, args, expected) in [
            ("%.2f", vec![Float(1.005)], "1.00"),
            ("%5.1f|", vec![Float(2.26)], "  2.3|"),
            ("%-5d|", vec![Int(3)], "3    |"),
            ("%05d", vec![Int(-3)], "-0003"),
            ("%+d", vec![Int(3)], "+3"),
            ("%s is %q", vec![text("a"), text("b\"c")], "a is \"b\\\"c\""),
            ("%v %v", vec![Float(1e6), text("x")], "1e+06 x"),
            ("%e", vec![Float(1234.5)], "1.234500e+03"),
            ("%g", vec![Float(1234.5)], "1234.5"),
            ("%x %X %#x", vec![Int(255), Int(255), Int(255)], "ff FF 0xff"),
            ("100%%", vec![], "100%"),
            ("%d", vec![Float(1.5)], "%!d(float64=1.5)"),
            ("%s", vec![Float(1.5)], "%!s(float64=1.5)"),
            ("%f", vec![Int(1)], "%!f(int=1)"),
            ("%d", vec![], "%!d(MISSING)"),
            ("x", vec![Int(1)], "x%!(EXTRA int=1)"),
            ("%", vec![], "%!(NOVERB)"),
            ("%3s|%.1s", vec![text("a"), text("bcd")], "  a|b"),
        ] {
            assert_eq!(printf(pattern, &args), expected, "{pattern}");
        }
    }
}
