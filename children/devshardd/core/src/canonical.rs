//! JSON in the one way that both sides hash it: keys in order, no space, numbers as 64-bit floats.
//!
//! It is the way of Go's `encoding/json` for values without types, with its escapes of HTML left out, since that is
//! what the upstream's owners sign. `canonical_vectors.tsv` was written by Go.
//!
//! Must not live here: what the JSON says.

use serde_json::Value;

/// The canonical text of a JSON text; an error tells where it is none.
pub fn canonical(json: &[u8]) -> Result<String, serde_json::Error> {
    let mut text = String::with_capacity(json.len());
    write(&mut text, &serde_json::from_slice(json)?);
    Ok(text)
}

fn write(text: &mut String, value: &Value) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => write_number(text, number.as_f64().unwrap_or_default()),
        Value::String(value) => write_string(text, value),
        Value::Array(values) => {
            text.push('[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write(text, value);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            // By their bytes, whatever order the map keeps.
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
            text.push('{');
            for (at, (name, value)) in fields.into_iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write_string(text, name);
                text.push(':');
                write(text, value);
            }
            text.push('}');
        }
    }
}

/// The shortest digits that are this number; with an exponent where it is very small or large.
fn write_number(text: &mut String, number: f64) {
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let written = format!("{number:e}");
        let (digits, exponent) = written.split_once('e').unwrap_or((&written, "0"));
        text.push_str(digits);
        text.push('e');
        if !exponent.starts_with('-') {
            text.push('+');
        }
        text.push_str(exponent);
    } else {
        text.push_str(&number.to_string());
    }
}

fn write_string(text: &mut String, value: &str) {
    use std::fmt::Write as _;
    text.push('"');
    for letter in value.chars() {
        match letter {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            // Those that a script would take for the end of a line, too.
            '\0'..'\u{20}' | '\u{2028}' | '\u{2029}' => {
                // Writing into a text does not fail.
                let _ = write!(text, "\\u{:04x}", u32::from(letter));
            }
            letter => text.push(letter),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_what_go_writes() {
        for line in include_str!("canonical_vectors.tsv").lines() {
            let (given, expected) = line.split_once('\t').unwrap();
            assert_eq!(canonical(given.as_bytes()).unwrap(), expected, "{given}");
        }
        assert!(canonical(b"one two three").is_err());
    }

    proptest! {
        #[test]
        fn what_is_canonical_stays_so(number in any::<f64>().prop_filter("finite", |number| number.is_finite()), text: String) {
            let once = canonical(serde_json::json!({"b": number, "a": [text, null]}).to_string().as_bytes()).unwrap();
            prop_assert_eq!(canonical(once.as_bytes()).unwrap(), once);
        }
    }
}
