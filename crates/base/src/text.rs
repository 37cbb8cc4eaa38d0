//! Numbers and tables as text for people: counts, sizes, durations, aligned columns.

/// A number in groups of three digits: `1234567` as `1 234 567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A number with its noun, in the plural with `s` unless it is one: "1 row", "2 rows".
pub fn quantity(number: u64, one: &str) -> String {
    let many = if number == 1 { "" } else { "s" };
    format!("{} {one}{many}", count(number))
}

/// A line with its control characters but tabs as escapes, so that printing it can't control a terminal: `\x1b[2J`.
pub fn without_controls(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            '\t' => text.push(c),
            c if c.is_control() => text.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text
}

/// A size with a decimal unit: `1.5 MB` for 1,500,000 bytes.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{number} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A measured time: `1.50 s`, `2 min 05 s`, `3 h 20 min`.
pub fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 60.0 => format!("{s:.2} s"),
        s if s < 3600.0 => format!("{} min {:02} s", s as u64 / 60, s as u64 % 60),
        s => format!("{} h {:02} min", s as u64 / 3600, s as u64 / 60 % 60),
    }
}

/// A duration as the configuration writes it: whole seconds as a number and `s`, `min`, `h` or `d`.
pub fn duration(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    let unit = [(86_400, "d"), (3_600, "h"), (60, "min")]
        .into_iter()
        .find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    let (unit, name) = unit.unwrap_or((1, "s"));
    format!("{}{name}", seconds / unit)
}

/// A table with a header and aligned columns; a header name that starts with `>` aligns its column to the right.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |at: usize| {
        let cells = rows.iter().map(|row| row.get(at).map_or(0, |cell| cell.chars().count()));
        cells.chain([header[at].trim_start_matches('>').chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    let names: Vec<String> = header.iter().map(|name| name.trim_start_matches('>').to_owned()).collect();
    for row in std::iter::once(&names).chain(rows) {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[at].saturating_sub(cell.chars().count()));
            let gap = if at > 0 { "  " } else { "" };
            if header[at].starts_with('>') {
                line.push_str(&format!("{gap}{pad}{cell}"));
            } else {
                line.push_str(&format!("{gap}{cell}{pad}"));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::without_controls;

    #[test]
    fn control_characters_are_shown_and_not_printed() {
        assert_eq!(without_controls("\u{1b}]0;owned\u{7}\u{1b}[2Jgone\té €"), "\\x1b]0;owned\\x07\\x1b[2Jgone\té €");
        assert_eq!(without_controls("\u{9b}2J\r\u{7f}"), "\\x9b2J\\x0d\\x7f");
    }
}
