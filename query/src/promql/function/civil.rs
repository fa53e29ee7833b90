//! Dates of the proleptic Gregorian calendar, UTC.

const SECONDS_A_DAY: i128 = 86_400;
/// 2^63
const TOO_LATE: f64 = 9_223_372_036_854_775_808.0;

/// Date and time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Civil {
    pub(super) year: i128,
    pub(super) month: i128,
    pub(super) day: i128,
    /// From 1.
    pub(super) year_day: i128,
    /// Sunday is 0.
    pub(super) weekday: i128,
    pub(super) hour: i128,
    pub(super) minute: i128,
}

impl Civil {
    /// At `seconds` since 1970; what is no instant in 64 bits (NaN, infinities) counts as 2^63, as Prometheus has it. The arithmetic of eras of 400 years is H. Hinnant's ("chrono-compatible low-level date
    /// algorithms").
    pub(super) fn of(seconds: f64) -> Self {
        let is_instant = (-TOO_LATE..TOO_LATE).contains(&seconds);
        let seconds = if is_instant { seconds as i128 } else { TOO_LATE as i128 };
        let (days, second) = (seconds.div_euclid(SECONDS_A_DAY), seconds.rem_euclid(SECONDS_A_DAY));
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        // Days since 1 March.
        let march_day = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * march_day + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = era * 400 + year_of_era + i128::from(month <= 2);
        let january_first = march_day + 60 + i128::from(is_leap(year));
        let year_day = if month <= 2 { march_day - 305 } else { january_first };
        Self {
            year,
            month,
            day: march_day - (153 * march_month + 2) / 5 + 1,
            year_day,
            weekday: (days + 4).rem_euclid(7),
            hour: second / 3600,
            minute: second / 60 % 60,
        }
    }

    /// Days of its month.
    pub(super) fn days_in_month(self) -> i128 {
        match self.month {
            2 => 28 + i128::from(is_leap(self.year)),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }
}

fn is_leap(year: i128) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seconds: f64, date: (i128, i128, i128), year_day: i128, weekday: i128, time: (i128, i128)) {
        let civil = Civil::of(seconds);
        assert_eq!((civil.year, civil.month, civil.day), date, "{seconds}");
        assert_eq!((civil.year_day, civil.weekday, (civil.hour, civil.minute)), (year_day, weekday, time), "{seconds}");
    }

    #[test]
    fn what_is_no_instant_has_the_year_that_prometheus_gives_it() {
        assert_eq!((Civil::of(f64::NAN).year, Civil::of(f64::NEG_INFINITY).month), (292_277_026_596, 12));
    }

    #[test]
    fn known_instants() {
        check(0.0, (1970, 1, 1), 1, 4, (0, 0));
        check(-1.0, (1969, 12, 31), 365, 3, (23, 59));
        check(951_782_400.0, (2000, 2, 29), 60, 2, (0, 0));
        check(1_709_294_400.0, (2024, 3, 1), 61, 5, (12, 0));
        check(1_735_689_599.0, (2024, 12, 31), 366, 2, (23, 59));
        assert_eq!(Civil::of(951_782_400.0).days_in_month(), 29);
        assert_eq!(Civil::of(1_677_628_800.0).days_in_month(), 31);
    }
}
