//! Instants as RFC 3339 text.

/// `ns` since 1970 as `2026-11-22T18:13:49.123456789Z`.
pub(crate) fn rfc3339(ns: i64) -> String {
    let mut out = Vec::with_capacity(30);
    write_rfc3339(ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000) as u32, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;

/// Appends `seconds` and `nanos` since 1970 as `2026-11-22T18:13:49.123456789Z`.
pub(crate) fn write_rfc3339(seconds: i64, nanos: u32, out: &mut Vec<u8>) {
    write_date(seconds.div_euclid(86_400), out);
    let second_of_day = seconds.rem_euclid(86_400) as u64;
    out.push(b'T');
    digits(second_of_day / 3600, 2, out);
    out.push(b':');
    digits(second_of_day / 60 % 60, 2, out);
    out.push(b':');
    digits(second_of_day % 60, 2, out);
    out.push(b'.');
    digits(u64::from(nanos), 9, out);
    out.push(b'Z');
}

/// Appends a day counted from 1970-01-01 as `2026-11-22` (proleptic Gregorian calendar).
pub(crate) fn write_date(days: i64, out: &mut Vec<u8>) {
    // Howard Hinnant, "chrono-compatible low-level date algorithms": eras of 400 years from 1 March.
    let z = days + EPOCH_DAYS;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    if year < 0 {
        out.push(b'-');
    } else if year > 9_999 {
        out.push(b'+');
    }
    digits(year.unsigned_abs(), 4, out);
    out.push(b'-');
    digits(month as u64, 2, out);
    out.push(b'-');
    digits(day as u64, 2, out);
}

/// `value` with at least `width` digits.
fn digits(mut value: u64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    let mut count = 0;
    while value > 0 || count < width {
        out.push(b'0' + (value % 10) as u8);
        value /= 10;
        count += 1;
    }
    out[start..].reverse();
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn instants_print_as_rfc3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(rfc3339(951_827_696_123_456_789), "2000-02-29T12:34:56.123456789Z");
        assert_eq!(rfc3339(i64::MAX), "2262-04-11T23:47:16.854775807Z");
        assert_eq!(rfc3339(i64::MIN), "1677-09-21T00:12:43.145224192Z");
    }

    #[test]
    fn every_day_of_four_centuries_follows_its_predecessor() {
        let mut previous = String::new();
        for day in -146_097..146_097 {
            let mut out = Vec::new();
            write_date(day, &mut out);
            let date = String::from_utf8(out).unwrap();
            assert!(date > previous, "{previous} {date}");
            previous = date;
        }
    }
}
