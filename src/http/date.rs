//! The `Date` field of RFC 9110 §5.6.7.

use std::time::{SystemTime, UNIX_EPOCH};

/// Remembers the text of the current second, because a busy connection answers many requests in it.
#[derive(Debug, Default)]
pub(crate) struct DateCache {
    second: u64,
    text: Vec<u8>,
}

impl DateCache {
    /// The current time as IMF-fixdate.
    pub(crate) fn now(&mut self) -> &[u8] {
        let second = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        if self.text.is_empty() || self.second != second {
            self.second = second;
            self.text = imf_fixdate(second).into_bytes();
        }
        &self.text
    }
}

const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

fn imf_fixdate(second: u64) -> String {
    let days = second / 86_400;
    let (hour, minute, rest) = (second / 3600 % 24, second / 60 % 60, second % 60);
    let weekday = WEEKDAYS.iter().cycle().nth((days % 7) as usize);
    let (year, month, day) = civil(days);
    let month = MONTHS.get(month);
    format!(
        "{}, {day:02} {} {year:04} {hour:02}:{minute:02}:{rest:02} GMT",
        weekday.unwrap_or(&""),
        month.unwrap_or(&""),
    )
}

/// Year, month (0 to 11) and day of month of a day since 1970-01-01.
fn civil(mut days: u64) -> (u64, usize, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_example_of_rfc_9110_and_the_edges_of_leap_years() {
        assert_eq!(imf_fixdate(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(imf_fixdate(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(imf_fixdate(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(imf_fixdate(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT");
        assert_eq!(imf_fixdate(1_735_689_599), "Tue, 31 Dec 2024 23:59:59 GMT");
    }
}
