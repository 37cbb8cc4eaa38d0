//! Two answers to one question are the same where every cell is: instants by the instant, numbers
//! within what the order of a sum of doubles may change, all else to the letter.

use anyhow::{Result, bail, ensure};

/// Sums of millions of doubles differ in their last digits by the order in which they are added.
const TOLERANCE: f64 = 1e-9;
/// A mean of decimals is a double for one and a decimal of few places for the other.
const LAST_PLACE: f64 = 1e-6;

/// An error names the first row that differs. Rows come in order: a question ends in ORDER BY or has one row.
pub fn compare(ours: &[String], theirs: &[String]) -> Result<()> {
    ensure!(
        ours.len() == theirs.len(),
        "{} rows, not {}",
        ours.len().saturating_sub(1),
        theirs.len().saturating_sub(1)
    );
    ensure!(ours.len() > 1, "no rows: a query that finds nothing proves nothing");
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

/// Both speak UTC: "2025-01-01 00:00:00+00", "2025-01-01 00:00:00.5+00:00", "2025-01-01T00:00:00".
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
    fn what_is_written_differently_is_the_same() {
        let ours = rows("a,b,c\nx,2025-01-01 00:00:00+00,0.30000000000000004\n,2025-01-01T00:00:00.500Z,1.500");
        let theirs = rows("a,b,c\nx,2025-01-01 00:00:00+00:00,0.3\n,2025-01-01 00:00:00.5+00:00,1.5");
        compare(&ours, &theirs).unwrap();
    }

    #[test]
    fn what_differs_is_found() {
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
