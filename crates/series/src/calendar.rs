//! Months and days as integers, in the proleptic Gregorian calendar. Without a date type, a bucket costs a few
//! multiplications. The computation is by eras of 400 years, with years that begin in March.

const DAYS_PER_ERA: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH: i64 = 719_468;

/// Months since January of the year 0, from days since 1970-01-01.
pub(crate) fn month_of_day(day: i64) -> i64 {
    let day = day + EPOCH;
    let (era, of_era) = (day.div_euclid(DAYS_PER_ERA), day.rem_euclid(DAYS_PER_ERA));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    (era * 400 + year) * 12 + from_march + 2
}

/// The first day of a month, in days since 1970-01-01.
pub(crate) fn first_day(month: i64) -> i64 {
    let march = month - 2;
    let (year, from_march) = (march.div_euclid(12), march.rem_euclid(12));
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * from_march + 2) / 5;
    era * DAYS_PER_ERA + of_era * 365 + of_era / 4 - of_era / 100 + of_year - EPOCH
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike, NaiveDate};

    use super::{first_day, month_of_day};

    #[test]
    fn every_day_of_eight_centuries_is_in_chronos_month() {
        for day in -150_000..150_000_i32 {
            let date = NaiveDate::from_epoch_days(day).unwrap();
            let month = month_of_day(day.into());
            assert_eq!(month, i64::from(date.year()) * 12 + i64::from(date.month0()), "{date}");
            assert_eq!(first_day(month), i64::from(day) - i64::from(date.day0()), "{date}");
        }
    }
}
