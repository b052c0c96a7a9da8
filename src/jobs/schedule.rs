//! Schedules: cron expressions read as local times of a time zone.

use chrono::{DateTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use cron::TimeUnitSpec;

/// The names of the fields with what they allow, as a crontab has them.
const FIELDS: [(&str, &str); 6] = [
    ("second", "0-59"),
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of month", "1-31"),
    ("month", "1-12 or jan-dec"),
    ("day of week", "0-7 or sun-sat, where 0 and 7 are Sunday"),
];
const SHORTHANDS: [(&str, &str); 5] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const DAY_MS: i64 = 86_400_000;
/// The `cron` crate knows years up to 2100; this is their end.
const LAST_MS: i64 = 4_133_980_800_000;

/// When a job runs, as local times of a time zone.
///
/// Five fields as in a crontab, or six with the second first. Where both day fields are restricted, either of them is
/// enough. Where the hour is restricted, a local time that daylight saving time skips runs when the clocks have moved on, and one
/// that comes twice runs the first time. With `*` as hour it runs by elapsed time: through the repeated hour as well.
#[derive(Debug, Clone)]
pub struct Schedule {
    expression: String,
    time_zone: Tz,
    /// Any of them is enough: two where both day fields are restricted.
    any_of: Vec<cron::Schedule>,
    every_hour: bool,
}

impl Schedule {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong with it, and what is allowed.
    pub fn parse(expression: &str, time_zone: Tz) -> Result<Self, String> {
        let short = SHORTHANDS.iter().find(|(name, _)| *name == expression.trim());
        let mut fields: Vec<&str> =
            short.map_or(expression, |(_, fields)| *fields).split_ascii_whitespace().collect();
        if fields.len() == 5 {
            fields.insert(0, "0");
        }
        let fields: [&str; 6] = fields.try_into().map_err(|fields: Vec<&str>| {
            format!(
                "{} fields: five are allowed (minute, hour, day of month, month, day of week), six with the second first, \
                 or {}",
                fields.len(),
                SHORTHANDS.map(|(name, _)| name).join(", ")
            )
        })?;
        let weekdays = weekdays(fields[5])?;
        for ((index, field), (name, allowed)) in fields.iter().enumerate().take(5).zip(FIELDS) {
            let mut alone = ["*"; 6];
            alone[index] = field;
            read(alone).ok_or_else(|| refused(name, field, allowed))?;
        }
        let [second, minute, hour, day, month, _] = fields;
        let from = |day: &str, weekdays: &str| {
            read([second, minute, hour, day, month, weekdays])
                .ok_or_else(|| refused(FIELDS[5].0, fields[5], FIELDS[5].1))
        };
        let any_of = if day.starts_with(['*', '?']) || fields[5].starts_with(['*', '?']) {
            vec![from(day, &weekdays)?]
        } else {
            vec![from(day, "*")?, from("*", &weekdays)?]
        };
        let every_hour = any_of.iter().all(|schedule| schedule.hours().is_all());
        let schedule = Self { expression: expression.trim().to_owned(), time_zone, any_of, every_hour };
        match schedule.next_after(0) {
            Some(_) => Ok(schedule),
            None => Err("no day matches it: the day of month does not occur in the month".to_owned()),
        }
    }

    /// Returns the expression as it was written.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// Returns the time zone.
    #[must_use]
    pub fn time_zone(&self) -> Tz {
        self.time_zone
    }

    /// Returns the first slot after a time, or `None` after the year 2100.
    #[must_use]
    pub fn next_after(&self, after_ms: i64) -> Option<i64> {
        if after_ms > LAST_MS {
            return None;
        }
        let after_ms = after_ms.max(0);
        if self.every_hour { self.next_elapsed(after_ms) } else { self.next_local(after_ms) }
    }

    fn next_in_local_time(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        let after = Utc.from_utc_datetime(&after);
        let next = self.any_of.iter().filter_map(|schedule| schedule.after(&after).next());
        next.min().map(|time| time.naive_utc())
    }

    /// Each local time that matches once.
    fn next_local(&self, after_ms: i64) -> Option<i64> {
        let mut local = self.local(after_ms)?;
        loop {
            local = self.next_in_local_time(local)?;
            let slot_ms = self.first_instant_ms(local)?;
            // In the second pass of a repeated hour, times of the first one are over.
            if slot_ms > after_ms {
                return Some(slot_ms);
            }
        }
    }

    /// Every instant whose local time matches.
    fn next_elapsed(&self, after_ms: i64) -> Option<i64> {
        let offset_ms = self.offset_ms(after_ms)?;
        let slot_ms = instant_ms(self.next_in_local_time(self.local(after_ms)?)?).checked_sub(offset_ms)?;
        if self.offset_ms(slot_ms)? == offset_ms {
            return Some(slot_ms);
        }
        // The clocks change before that: look on from there with the new offset.
        let changed_ms = first_that(after_ms, slot_ms, |ms| self.offset_ms(ms) != Some(offset_ms));
        let slot = self.next_in_local_time(self.local(changed_ms)? - TimeDelta::seconds(1))?;
        instant_ms(slot).checked_sub(self.offset_ms(changed_ms)?)
    }

    /// Returns the first instant that has a local time, or where it is skipped, the one at which the clocks moved on.
    fn first_instant_ms(&self, local: NaiveDateTime) -> Option<i64> {
        if let Some(time) = self.time_zone.from_local_datetime(&local).earliest() {
            return Some(time.timestamp_millis());
        }
        let middle_ms = instant_ms(local);
        Some(first_that(middle_ms - DAY_MS, middle_ms + DAY_MS, |ms| {
            self.local(ms).is_some_and(|l| l > local)
        }))
    }

    fn local(&self, at_ms: i64) -> Option<NaiveDateTime> {
        Some(DateTime::from_timestamp_millis(at_ms)?.with_timezone(&self.time_zone).naive_local())
    }

    fn offset_ms(&self, at_ms: i64) -> Option<i64> {
        let utc = DateTime::from_timestamp_millis(at_ms)?.naive_utc();
        let offset = self.time_zone.offset_from_utc_datetime(&utc).fix();
        Some(i64::from(offset.local_minus_utc()) * 1_000)
    }
}

fn instant_ms(time: NaiveDateTime) -> i64 {
    time.and_utc().timestamp_millis()
}

/// Returns the first of `(low, high]` that holds, where all after it do.
fn first_that(mut low: i64, mut high: i64, holds: impl Fn(i64) -> bool) -> i64 {
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

fn read(fields: [&str; 6]) -> Option<cron::Schedule> {
    fields.join(" ").parse().ok()
}

fn refused(name: &str, field: &str, allowed: &str) -> String {
    format!("field {field:?} ({name}): allowed are *, {allowed}, ranges a-b, steps */n and lists a,b")
}

/// Writes the days of the week as the `cron` crate counts them: from 1 for Sunday.
fn weekdays(field: &str) -> Result<String, String> {
    if matches!(field, "*" | "?") {
        return Ok("*".to_owned());
    }
    let refused = || refused(FIELDS[5].0, field, FIELDS[5].1);
    let number = |text: &str| {
        let named = DAYS.iter().position(|day| text.eq_ignore_ascii_case(day));
        named.or_else(|| text.parse().ok().filter(|day| *day <= 7)).ok_or_else(refused)
    };
    let mut days = [false; 7];
    for part in field.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let (first, last) = match range.split_once('-') {
            None if range == "*" => (0, 6),
            None => (number(range)?, if step.is_some() { 6 } else { number(range)? }),
            // A week may be said to end with its Sunday.
            Some((first, last)) => match (number(first)?, number(last)?) {
                (first, 0) if first > 0 => (first, 7),
                (first, last) => (first, last),
            },
        };
        let step = step.map_or(Ok(1), |step| step.parse().map_err(|_| refused()))?;
        if first > last || !(1..=7).contains(&step) {
            return Err(refused());
        }
        (first..=last).step_by(step).for_each(|day| days[day % 7] = true);
    }
    let numbers = days.iter().enumerate().filter(|(_, on)| **on).map(|(day, _)| (day + 1).to_string());
    Ok(numbers.collect::<Vec<_>>().join(","))
}
