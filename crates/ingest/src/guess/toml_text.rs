//! Writes a layout as TOML with its doubts as comments.

/// Quotes a text for TOML; as a literal where it has backslashes, such as a regular expression.
pub fn quoted(text: &str) -> String {
    if text.contains('\\') && !text.contains(['\'', '\n', '\r']) {
        return format!("'{text}'");
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A list of quoted texts.
pub fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    format!("[{}]", texts.into_iter().map(quoted).collect::<Vec<_>>().join(", "))
}

/// The text of a layout, and its doubts.
#[derive(Default)]
pub struct LayoutText {
    /// The lines so far.
    pub text: String,
    /// The doubts so far.
    pub doubts: Vec<String>,
}

impl LayoutText {
    /// Adds a line.
    pub fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Adds a line that a user should check.
    pub fn doubtful(&mut self, line: &str, doubt: &str) {
        self.line(&format!("{line}  # ? {doubt}"));
        self.doubts.push(doubt.to_owned());
    }

    /// Adds a doubt that belongs to no line.
    pub fn doubt(&mut self, doubt: String) {
        self.line(&format!("# ? {doubt}"));
        self.doubts.push(doubt);
    }
}

/// A name for a column of the lake: `Énergie injectée (kWh)` becomes `energie_injectee_kwh`.
pub fn column_name(header: &str) -> String {
    let mut name = String::new();
    for c in header.chars() {
        let plain = match c.to_lowercase().next().unwrap_or(c) {
            'à' | 'â' | 'ä' | 'á' | 'å' => 'a',
            'é' | 'è' | 'ê' | 'ë' => 'e',
            'î' | 'ï' | 'í' => 'i',
            'ô' | 'ö' | 'ó' => 'o',
            'ù' | 'û' | 'ü' | 'ú' => 'u',
            'ç' => 'c',
            'ñ' => 'n',
            c if c.is_ascii_alphanumeric() => c,
            _ => '_',
        };
        if plain != '_' || !(name.is_empty() || name.ends_with('_')) {
            name.push(plain);
        }
    }
    let name = name.trim_end_matches('_');
    match name.chars().next() {
        None => "column".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("column_{name}"),
        Some(_) => name.to_owned(),
    }
}
