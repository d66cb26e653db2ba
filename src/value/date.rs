//! A day of the calendar, as a spec writes it: `2027-01-31`.

use serde::{Serialize, Serializer};
use std::fmt;

/// A day that exists, in the years 1 to 9999. Days are ordered as they pass.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

impl Date {
    /// No day is later.
    pub const LAST: Date = Date { year: 9999, month: 12, day: 31 };

    /// Reads `2027-01-31`; `None` for anything else, and for a day that no calendar has.
    pub fn parse(text: &str) -> Option<Date> {
        let number = |from: usize, to: usize| {
            let digits = text.get(from..to).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
            digits.parse::<u16>().ok()
        };
        let dashed = text.len() == 10 && text.get(4..5) == Some("-") && text.get(7..8) == Some("-");
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let exists = year > 0 && (1..=12).contains(&month) && day > 0 && day <= length(year, month);
        let [month, day] = [month, day].map(u8::try_from);
        (dashed && exists).then_some(Date { year, month: month.ok()?, day: day.ok()? })
    }

    /// The day of an RFC 3339 time in UTC.
    pub fn of_time(time: &str) -> Option<Date> {
        Date::parse(time.get(..10)?)
    }
}

/// How many days a month has.
fn length(year: u16, month: u16) -> u16 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
