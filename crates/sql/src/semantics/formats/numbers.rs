//! Patterns of numbers: `9,999.99`, `FM000`, `S990D00`.

/// What a pattern of digits asks for.
#[derive(Debug, Default)]
struct Pattern {
    places: Vec<Place>,
    /// Digits before the point, and after it.
    whole: usize,
    fraction: usize,
    has_point: bool,
    /// No blanks, no zeros that a 9 stands for at the end.
    fill: bool,
    sign: Sign,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Digit { is_zero: bool },
    Comma,
    Point,
    Text(String),
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// A minus beside the first digit, or a blank.
    #[default]
    Floating,
    /// S at the beginning, or at the end.
    First,
    Last,
    /// MI: a minus or a blank, where it stands.
    MinusLast,
}

impl Pattern {
    fn read(pattern: &str) -> Result<Pattern, String> {
        let unsupported =
            |what: &str| Err(format!("the pattern {pattern:?} of a number has {what:?}, which is not supported"));
        let mut read = Pattern { fill: true, ..Pattern::default() };
        let mut rest = pattern;
        while let Some(first) = rest.chars().next() {
            let upper: String = rest.chars().take(2).collect::<String>().to_uppercase();
            let mut length = first.len_utf8();
            if ["SG", "PL", "PR", "TH", "RN", "EE"].contains(&upper.as_str()) {
                return unsupported(&upper);
            }
            match first {
                '9' | '0' => {
                    read.places.push(Place::Digit { is_zero: first == '0' });
                    if read.has_point { read.fraction += 1 } else { read.whole += 1 }
                }
                ',' | 'G' | 'g' => read.places.push(Place::Comma),
                '.' | 'D' | 'd' if !read.has_point => {
                    read.places.push(Place::Point);
                    read.has_point = true;
                }
                'S' | 's' if read.sign == Sign::Floating => {
                    let has_digits = read.places.iter().any(|place| matches!(place, Place::Digit { .. }));
                    read.sign = if has_digits { Sign::Last } else { Sign::First };
                }
                '"' => {
                    let end = rest[1..].find('"').map_or(rest.len(), |at| at + 2);
                    read.places.push(Place::Text(rest[1..end].trim_end_matches('"').to_owned()));
                    length = end;
                }
                _ if upper == "FM" => {
                    read.fill = false;
                    length = 2;
                }
                _ if upper == "MI" && read.whole + read.fraction > 0 => {
                    read.sign = Sign::MinusLast;
                    length = 2;
                }
                letter if letter.is_alphabetic() || letter == '.' => return unsupported(&letter.to_string()),
                other => read.places.push(Place::Text(other.to_string())),
            }
            rest = &rest[length..];
        }
        Ok(read)
    }
}

/// `number` as PostgreSQL writes numerics: digits, and a point.
pub(super) fn of_decimal(number: &str, pattern: &str) -> Result<String, String> {
    let pattern = Pattern::read(pattern)?;
    let (is_negative, digits) = match number.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, number),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (whole, fraction) = rounded(whole, fraction, pattern.fraction);
    // A numeric has no zero below zero.
    let is_zero = whole.bytes().chain(fraction.bytes()).all(|digit| digit == b'0');
    Ok(written(&pattern, is_negative && !is_zero, whole.trim_start_matches('0'), &fraction))
}

pub(super) fn of_double(number: f64, pattern: &str) -> Result<String, String> {
    let read = Pattern::read(pattern)?;
    if !number.is_finite() {
        return Err(format!("to_char of {number} is not supported"));
    }
    let text = format!("{:.*}", read.fraction, number.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    Ok(written(&read, number.is_sign_negative() && number != 0.0, whole.trim_start_matches('0'), fraction))
}

/// Half away from zero, to so many digits after the point.
fn rounded(whole: &str, fraction: &str, digits: usize) -> (String, String) {
    if fraction.len() <= digits {
        return (whole.to_owned(), format!("{fraction:0<digits$}"));
    }
    let mut kept: Vec<u8> = whole.bytes().chain(fraction.bytes().take(digits)).collect();
    if fraction.as_bytes()[digits] >= b'5' {
        let mut at = kept.len();
        loop {
            if at == 0 {
                kept.insert(0, b'1');
                break;
            }
            at -= 1;
            if kept[at] != b'9' {
                kept[at] += 1;
                break;
            }
            kept[at] = b'0';
        }
    }
    let text: String = kept.into_iter().map(char::from).collect();
    let at = text.len() - digits;
    (text[..at].to_owned(), text[at..].to_owned())
}

/// `whole` is without zeros at its beginning, `fraction` as long as the pattern has it.
fn written(pattern: &Pattern, is_negative: bool, whole: &str, fraction: &str) -> String {
    let overflows = whole.len() > pattern.whole;
    let last_zero = pattern.places.iter().rposition(|place| *place == Place::Digit { is_zero: true });
    let significant = fraction.trim_end_matches('0').len();
    // Zero has a digit of its own where nothing else would be seen of it.
    let is_bare = !pattern.has_point || (!pattern.fill && significant == 0 && last_zero.is_none());
    let whole = if whole.is_empty() && is_bare && pattern.whole > 0 { "0" } else { whole };
    let blanks = pattern.whole.saturating_sub(whole.len());
    let first_zero = pattern.places.iter().position(|place| *place == Place::Digit { is_zero: true });
    let (mut body, mut seen, mut after, mut begun) = (String::new(), 0, 0, false);
    let (mut in_fraction, mut first_at) = (false, None);
    for (at, place) in pattern.places.iter().enumerate() {
        if !matches!(place, Place::Text(_)) {
            first_at.get_or_insert(body.len());
        }
        match place {
            Place::Text(text) => body.push_str(text),
            Place::Comma if begun => body.push(','),
            Place::Comma if pattern.fill => body.push(' '),
            Place::Comma => {}
            Place::Point => {
                (in_fraction, begun) = (true, true);
                body.push('.');
            }
            Place::Digit { .. } if overflows => {
                begun = true;
                body.push('#');
            }
            Place::Digit { .. } if in_fraction => {
                let digit = fraction.as_bytes().get(after).copied().unwrap_or(b'0');
                after += 1;
                if pattern.fill || after <= significant || last_zero.is_some_and(|last| last >= at) {
                    body.push(char::from(digit));
                }
            }
            Place::Digit { .. } => {
                let is_blank = seen < blanks;
                if !is_blank {
                    begun = true;
                    body.push(char::from(whole.as_bytes()[seen - blanks]));
                } else if first_zero.is_some_and(|first| first <= at) {
                    begun = true;
                    body.push('0');
                } else if pattern.fill {
                    body.push(' ');
                }
                seen += 1;
            }
        }
    }
    // The sign is the number's: what stands before the number stands before it.
    let (before, number) = body.split_at(first_at.unwrap_or_default());
    format!("{before}{}", signed(pattern, is_negative, number))
}

fn signed(pattern: &Pattern, is_negative: bool, body: &str) -> String {
    let sign = if is_negative { "-" } else { "+" };
    match pattern.sign {
        Sign::First => beside(body, sign),
        Sign::Last => format!("{body}{sign}"),
        Sign::MinusLast if is_negative => format!("{body}-"),
        Sign::MinusLast if pattern.fill => format!("{body} "),
        Sign::Floating if is_negative => beside(body, "-"),
        Sign::Floating if pattern.fill => beside(body, " "),
        Sign::MinusLast | Sign::Floating => body.to_owned(),
    }
}

/// Before the first digit, behind the blanks.
fn beside(body: &str, sign: &str) -> String {
    let at = body.len() - body.trim_start_matches(' ').len();
    format!("{}{sign}{}", &body[..at], &body[at..])
}
