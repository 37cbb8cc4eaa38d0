//! Patterns of `to_char` for numbers: `9,999.99`, `FM000`, `S990D00`.

/// A parsed pattern.
#[derive(Debug, Default)]
struct Pattern {
    elements: Vec<Element>,
    /// The number of digits before the decimal point, and after it.
    whole: usize,
    fraction: usize,
    has_point: bool,
    /// Without FM: blanks for missing digits, and trailing zeros for each 9.
    is_padded: bool,
    sign: Sign,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Element {
    Digit { is_zero: bool },
    Comma,
    Point,
    Text(String),
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// A minus or a blank before the first digit.
    #[default]
    Floating,
    /// S at the beginning: a plus or minus before the first digit.
    First,
    /// S at the end.
    Last,
    /// MI: a minus or a blank at the end.
    MinusLast,
}

impl Pattern {
    fn parse(pattern: &str) -> Result<Pattern, String> {
        let unsupported =
            |what: &str| Err(format!("the pattern {pattern:?} of a number has {what:?}, which is not supported"));
        let mut read = Pattern { is_padded: true, ..Pattern::default() };
        let mut rest = pattern;
        while let Some(first) = rest.chars().next() {
            let upper: String = rest.chars().take(2).collect::<String>().to_uppercase();
            let mut length = first.len_utf8();
            if ["SG", "PL", "PR", "TH", "RN", "EE"].contains(&upper.as_str()) {
                return unsupported(&upper);
            }
            match first {
                '9' | '0' => {
                    read.elements.push(Element::Digit { is_zero: first == '0' });
                    if read.has_point { read.fraction += 1 } else { read.whole += 1 }
                }
                ',' | 'G' | 'g' => read.elements.push(Element::Comma),
                '.' | 'D' | 'd' if !read.has_point => {
                    read.elements.push(Element::Point);
                    read.has_point = true;
                }
                'S' | 's' if read.sign == Sign::Floating => {
                    let has_digits = read.elements.iter().any(|element| matches!(element, Element::Digit { .. }));
                    read.sign = if has_digits { Sign::Last } else { Sign::First };
                }
                '"' => {
                    let end = rest[1..].find('"').map_or(rest.len(), |at| at + 2);
                    read.elements.push(Element::Text(rest[1..end].trim_end_matches('"').to_owned()));
                    length = end;
                }
                _ if upper == "FM" => {
                    read.is_padded = false;
                    length = 2;
                }
                _ if upper == "MI" && read.whole + read.fraction > 0 => {
                    read.sign = Sign::MinusLast;
                    length = 2;
                }
                letter if letter.is_alphabetic() || letter == '.' => return unsupported(&letter.to_string()),
                other => read.elements.push(Element::Text(other.to_string())),
            }
            rest = &rest[length..];
        }
        Ok(read)
    }
}

/// Formats a decimal number, given as digits with an optional sign and decimal point.
///
/// # Errors
/// If the pattern is not supported.
pub(super) fn format_decimal(number: &str, pattern: &str) -> Result<String, String> {
    let pattern = Pattern::parse(pattern)?;
    let (is_negative, digits) = match number.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, number),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (whole, fraction) = rounded(whole, fraction, pattern.fraction);
    // A numeric has no negative zero.
    let is_zero = whole.bytes().chain(fraction.bytes()).all(|digit| digit == b'0');
    Ok(write_digits(&pattern, is_negative && !is_zero, whole.trim_start_matches('0'), &fraction))
}

/// Formats a double.
///
/// # Errors
/// If the pattern is not supported, or the number is infinite or NaN.
pub(super) fn format_double(number: f64, pattern: &str) -> Result<String, String> {
    let read = Pattern::parse(pattern)?;
    if !number.is_finite() {
        return Err(format!("to_char of {number} is not supported"));
    }
    let text = format!("{:.*}", read.fraction, number.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    Ok(write_digits(&read, number.is_sign_negative() && number != 0.0, whole.trim_start_matches('0'), fraction))
}

/// Rounds to `digits` decimals, halves away from zero.
fn rounded(whole: &str, fraction: &str, digits: usize) -> (String, String) {
    if fraction.len() <= digits {
        return (whole.to_owned(), format!("{fraction:0<digits$}"));
    }
    let mut all: Vec<u8> = whole.bytes().chain(fraction.bytes().take(digits)).collect();
    if fraction.as_bytes()[digits] >= b'5' {
        let mut at = all.len();
        loop {
            if at == 0 {
                all.insert(0, b'1');
                break;
            }
            at -= 1;
            if all[at] != b'9' {
                all[at] += 1;
                break;
            }
            all[at] = b'0';
        }
    }
    let text: String = all.into_iter().map(char::from).collect();
    let at = text.len() - digits;
    (text[..at].to_owned(), text[at..].to_owned())
}

/// Writes a number by a pattern. `whole` has no leading zeros, and `fraction` as many digits as the pattern.
fn write_digits(pattern: &Pattern, is_negative: bool, whole: &str, fraction: &str) -> String {
    let overflows = whole.len() > pattern.whole;
    let last_zero = pattern.elements.iter().rposition(|element| *element == Element::Digit { is_zero: true });
    let significant = fraction.trim_end_matches('0').len();
    // Zero is written as a digit if nothing else of the number would be visible.
    let is_bare = !pattern.has_point || (!pattern.is_padded && significant == 0 && last_zero.is_none());
    let whole = if whole.is_empty() && is_bare && pattern.whole > 0 { "0" } else { whole };
    let blanks = pattern.whole.saturating_sub(whole.len());
    let first_zero = pattern.elements.iter().position(|element| *element == Element::Digit { is_zero: true });
    let (mut body, mut seen, mut after, mut begun) = (String::new(), 0, 0, false);
    let (mut in_fraction, mut first_at) = (false, None);
    for (at, element) in pattern.elements.iter().enumerate() {
        if !matches!(element, Element::Text(_)) {
            first_at.get_or_insert(body.len());
        }
        match element {
            Element::Text(text) => body.push_str(text),
            Element::Comma if begun => body.push(','),
            Element::Comma if pattern.is_padded => body.push(' '),
            Element::Comma => {}
            Element::Point => {
                (in_fraction, begun) = (true, true);
                body.push('.');
            }
            Element::Digit { .. } if overflows => {
                begun = true;
                body.push('#');
            }
            Element::Digit { .. } if in_fraction => {
                let digit = fraction.as_bytes().get(after).copied().unwrap_or(b'0');
                after += 1;
                if pattern.is_padded || after <= significant || last_zero.is_some_and(|last| last >= at) {
                    body.push(char::from(digit));
                }
            }
            Element::Digit { .. } => {
                let is_blank = seen < blanks;
                if !is_blank {
                    begun = true;
                    body.push(char::from(whole.as_bytes()[seen - blanks]));
                } else if first_zero.is_some_and(|first| first <= at) {
                    begun = true;
                    body.push('0');
                } else if pattern.is_padded {
                    body.push(' ');
                }
                seen += 1;
            }
        }
    }
    // The sign belongs to the number: literal text before the number comes before the sign.
    let (before, number) = body.split_at(first_at.unwrap_or_default());
    format!("{before}{}", with_sign(pattern, is_negative, number))
}

fn with_sign(pattern: &Pattern, is_negative: bool, body: &str) -> String {
    let sign = if is_negative { "-" } else { "+" };
    match pattern.sign {
        Sign::First => with_sign_before_digits(body, sign),
        Sign::Last => format!("{body}{sign}"),
        Sign::MinusLast if is_negative => format!("{body}-"),
        Sign::MinusLast if pattern.is_padded => format!("{body} "),
        Sign::Floating if is_negative => with_sign_before_digits(body, "-"),
        Sign::Floating if pattern.is_padded => with_sign_before_digits(body, " "),
        Sign::MinusLast | Sign::Floating => body.to_owned(),
    }
}

/// Puts the sign before the first digit, after the blanks.
fn with_sign_before_digits(body: &str, sign: &str) -> String {
    let at = body.len() - body.trim_start_matches(' ').len();
    format!("{}{sign}{}", &body[..at], &body[at..])
}
