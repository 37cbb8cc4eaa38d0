//! `SIMILAR TO`: translates SQL's regular expressions to those of the engine.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{exec_datafusion_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;

/// `similar_to_escape(pattern [, escape])`, named as in PostgreSQL.
pub(super) fn function() -> ScalarUDF {
    ScalarUDF::from(SimilarToEscape { signature: Signature::variadic_any(Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SimilarToEscape {
    signature: Signature,
}

impl ScalarUDFImpl for SimilarToEscape {
    fn name(&self) -> &str {
        "similar_to_escape"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        match given {
            [_] | [_, _] => Ok(DataType::Utf8),
            _ => plan_err!("similar_to_escape needs a pattern and optionally an escape character"),
        }
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = call.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { call.number_rows };
        let texts = call.args.iter().map(|arg| {
            let array = cast(&arg.to_array(rows)?, &DataType::Utf8)?;
            Ok(array.as_string::<i32>().clone())
        });
        let texts = texts.collect::<Result<Vec<StringArray>>>()?;
        let regex = |row: usize| -> Result<Option<String>> {
            if texts.iter().any(|text| text.is_null(row)) {
                return Ok(None);
            }
            let escape = texts.get(1).map_or("\\", |escape| escape.value(row));
            let mut chars = escape.chars();
            match (chars.next(), chars.next()) {
                (escape, None) => Ok(Some(regex_of(texts[0].value(row), escape))),
                _ => Err(exec_datafusion_err!("invalid escape string: it must be empty or one character")),
            }
        };
        let answer: StringArray = (0..rows).map(regex).collect::<Result<_>>()?;
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&answer, 0)?)
        } else {
            ColumnarValue::Array(Arc::new(answer))
        })
    }
}

fn regex_of(pattern: &str, escape: Option<char>) -> String {
    let mut regex = String::from("^(?s:");
    let (mut in_brackets, mut at_start_of_brackets) = (false, false);
    let mut chars = pattern.chars();
    let literal = |regex: &mut String, char: char| {
        if !char.is_alphanumeric() {
            regex.push('\\');
        }
        regex.push(char);
    };
    while let Some(char) = chars.next() {
        let is_first = std::mem::take(&mut at_start_of_brackets);
        match char {
            // Escaped letters stay escaped, since they are classes: \d is a digit.
            _ if Some(char) == escape => {
                regex.push('\\');
                regex.push(chars.next().unwrap_or(char));
            }
            '[' if in_brackets && chars.as_str().starts_with(':') => match chars.as_str().find(":]") {
                Some(end) => {
                    regex.push('[');
                    regex.push_str(&chars.as_str()[..end + 2]);
                    chars = chars.as_str()[end + 2..].chars();
                }
                None => literal(&mut regex, char),
            },
            ']' if in_brackets && !is_first => {
                in_brackets = false;
                regex.push(']');
            }
            '^' if in_brackets && is_first => {
                at_start_of_brackets = true;
                regex.push('^');
            }
            '[' | '\\' | '&' | '~' if in_brackets => literal(&mut regex, char),
            _ if in_brackets => regex.push(char),
            '[' => {
                (in_brackets, at_start_of_brackets) = (true, true);
                regex.push('[');
            }
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            '(' => regex.push_str("(?:"),
            '|' | '*' | '+' | '?' | '{' | '}' | ')' => regex.push(char),
            _ => literal(&mut regex, char),
        }
    }
    regex + ")$"
}

#[cfg(test)]
mod tests {
    use super::regex_of;

    #[test]
    fn patterns() {
        for (pattern, regex) in [
            ("_[0-9]%", "^(?s:.[0-9].*)$"),
            ("(a|b)+", "^(?s:(?:a|b)+)$"),
            ("a.b^c$", "^(?s:a\\.b\\^c\\$)$"),
            ("100\\%", "^(?s:100\\%)$"),
            ("[]a]x", "^(?s:[]a]x)$"),
            ("[^0-9]{2}", "^(?s:[^0-9]{2})$"),
            ("[[:alpha:]_]+", "^(?s:[[:alpha:]_]+)$"),
            ("\\d{3}", "^(?s:\\d{3})$"),
        ] {
            assert_eq!(regex_of(pattern, Some('\\')), regex, "{pattern}");
        }
    }
}
