//! Builds messages in the binary COPY format, as PostgreSQL sends them.

pub fn header() -> Vec<u8> {
    [&b"PGCOPY\n\xff\r\n\0"[..], &[0; 8]].concat()
}

pub fn trailer() -> Vec<u8> {
    (-1i16).to_be_bytes().to_vec()
}

/// A value with its length before it.
pub fn field(value: Option<&[u8]>) -> Vec<u8> {
    match value {
        None => (-1i32).to_be_bytes().to_vec(),
        Some(value) => [&(value.len() as i32).to_be_bytes()[..], value].concat(),
    }
}

pub fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut row = (values.len() as i16).to_be_bytes().to_vec();
    row.extend(values.iter().flat_map(|value| field(*value)));
    row
}

/// A composite's field: its type and its value.
pub fn lengths(oid: i32, value: &[u8]) -> Vec<u8> {
    [&oid.to_be_bytes()[..], &field(Some(value))].concat()
}

/// Dimensions as (length, lower bound), elements with their lengths.
pub fn array(dimensions: &[(i32, i32)], elements: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = (dimensions.len() as i32).to_be_bytes().to_vec();
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 23]);
    for (length, lower) in dimensions {
        bytes.extend(length.to_be_bytes());
        bytes.extend(lower.to_be_bytes());
    }
    bytes.extend(elements.concat());
    bytes
}

/// A numeric in its binary format: groups of four digits, without zeros at either end.
pub fn numeric(text: &str) -> Vec<u8> {
    let (sign, text) = text.strip_prefix('-').map_or((0u16, text), |rest| (0x4000, rest));
    let text = text.trim_end_matches("e0");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let scale = fraction.len() as i16;
    let whole = format!("{}{whole}", "0".repeat(whole.len().next_multiple_of(4) - whole.len()));
    let fraction = format!("{fraction}{}", "0".repeat(fraction.len().next_multiple_of(4) - fraction.len()));
    let all = format!("{whole}{fraction}");
    let mut groups: Vec<u16> = (0..all.len() / 4).map(|at| all[at * 4..at * 4 + 4].parse().unwrap()).collect();
    let mut weight = (whole.len() / 4) as i16 - 1;
    while groups.last() == Some(&0) {
        groups.pop();
    }
    while groups.first() == Some(&0) {
        groups.remove(0);
        weight -= 1;
    }
    if groups.is_empty() {
        weight = 0;
    }
    let mut bytes = (groups.len() as i16).to_be_bytes().to_vec();
    bytes.extend(weight.to_be_bytes());
    bytes.extend(sign.to_be_bytes());
    bytes.extend(scale.to_be_bytes());
    bytes.extend(groups.iter().flat_map(|group| group.to_be_bytes()));
    bytes
}
