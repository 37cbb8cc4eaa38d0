//! `${VARIABLES}` in a function's environment. They are checked at a deployment and filled in when the function starts.

/// The names of the variables in a text.
///
/// # Errors
/// What is wrong in the text.
pub fn variables_of(text: &str) -> Result<Vec<&str>, String> {
    let mut names = Vec::new();
    pieces(text, &mut |piece| {
        if let Piece::Variable(name) = piece {
            names.push(name);
        }
    })?;
    Ok(names)
}

/// A text with its variables filled in. `$$` becomes a dollar sign, and a single one before other text stays.
///
/// # Errors
/// The variable that is not set, or what is wrong in the text.
pub fn fill_in(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    let mut missing = None;
    pieces(text, &mut |piece| match piece {
        Piece::Text(text) => filled.push_str(text),
        Piece::Variable(name) => match variable(name) {
            Some(value) => filled.push_str(&value),
            None => missing = missing.take().or_else(|| Some(name.to_owned())),
        },
    })?;
    missing.map_or(Ok(filled), |name| {
        Err(format!("the variable {name} is not set where functions run: in `wattlake serve` while it runs"))
    })
}

enum Piece<'a> {
    Text(&'a str),
    Variable(&'a str),
}

fn pieces<'a>(text: &'a str, each: &mut dyn FnMut(Piece<'a>)) -> Result<(), String> {
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        each(Piece::Text(&rest[..at]));
        let after = &rest[at + 1..];
        if let Some(escaped) = after.strip_prefix('$') {
            each(Piece::Text("$"));
            rest = escaped;
        } else if let Some(inside) = after.strip_prefix('{') {
            let (name, behind) = inside.split_once('}').ok_or("a variable without its closing }")?;
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(fits) {
                return Err(format!("${{{name}}} is not a variable: a name has letters, digits and _"));
            }
            each(Piece::Variable(name));
            rest = behind;
        } else {
            each(Piece::Text("$"));
            rest = after;
        }
    }
    each(Piece::Text(rest));
    Ok(())
}
