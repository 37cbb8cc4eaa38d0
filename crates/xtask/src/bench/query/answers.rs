//! Compares the results of two programs cell by cell: instants as instants, numbers with a tolerance for the order of
//! sums of doubles, all else as text.

use anyhow::{Result, bail, ensure};

/// Relative: sums of millions of doubles depend on the order of addition in their last digits.
const TOLERANCE: f64 = 1e-9;
/// Absolute: a mean of decimals is a double in one program and a decimal with few digits in the other.
const LAST_PLACE: f64 = 1e-6;

/// Fails with the first row that differs. Queries end in ORDER BY or return one row, so the order is the same.
pub fn compare(ours: &[String], theirs: &[String]) -> Result<()> {
    ensure!(
        ours.len() == theirs.len(),
        "{} rows, not {}",
        ours.len().saturating_sub(1),
        theirs.len().saturating_sub(1)
    );
    ensure!(ours.len() > 1, "no rows: the query must return some");
    for (number, (one, other)) in ours.iter().zip(theirs).enumerate().skip(1) {
        let (cells, others): (Vec<&str>, Vec<&str>) = (one.split(',').collect(), other.split(',').collect());
        let same = cells.len() == others.len() && cells.iter().zip(&others).all(|(a, b)| is_same(a, b));
        if !same {
            bail!("row {number} differs: {one}\n                not {other}");
        }
    }
    Ok(())
}

fn is_same(one: &str, other: &str) -> bool {
    if one == other {
        return true;
    }
    if let (Ok(a), Ok(b)) = (one.parse::<f64>(), other.parse::<f64>()) {
        return (a - b).abs() <= (TOLERANCE * a.abs().max(b.abs())).max(LAST_PLACE);
    }
    matches!((instant(one), instant(other)), (Some(a), Some(b)) if a == b)
}

/// The instant of a text in one form, where it is one. Both programs write UTC: "2025-01-01 00:00:00+00",
/// "2025-01-01 00:00:00.5+00:00", "2025-01-01T00:00:00".
fn instant(text: &str) -> Option<String> {
    let text = text.replace('T', " ");
    let plain = ["+00:00", "+00", "Z"].iter().find_map(|zone| text.strip_suffix(zone)).unwrap_or(&text);
    let is_instant = plain.len() >= 19 && plain.starts_with(|c: char| c.is_ascii_digit()) && plain.contains(' ');
    let (seconds, fraction) = plain.split_once('.').unwrap_or((plain, ""));
    is_instant.then(|| format!("{seconds}.{}", fraction.trim_end_matches('0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn other_forms_of_a_value_are_equal() {
        let ours = rows("a,b,c\nx,2025-01-01 00:00:00+00,0.30000000000000004\n,2025-01-01T00:00:00.500Z,1.500");
        let theirs = rows("a,b,c\nx,2025-01-01 00:00:00+00:00,0.3\n,2025-01-01 00:00:00.5+00:00,1.5");
        compare(&ours, &theirs).unwrap();
    }

    #[test]
    fn differences_are_found() {
        for (ours, theirs) in [
            ("a\n1", "a\n1.00001"),
            ("a\n1\n2", "a\n1"),
            ("a\n2025-01-01 00:00:00+00", "a\n2025-01-01 01:00:00+00"),
            ("a\n", "a\n0"),
            ("a,b\n1,2", "a\n1"),
            ("a", "a"),
        ] {
            assert!(compare(&rows(ours), &rows(theirs)).is_err(), "{ours} {theirs}");
        }
    }
}
