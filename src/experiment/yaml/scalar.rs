//! Plain scalars, by the core schema of YAML 1.2.

use super::Value;

/// What an unquoted text means.
///
/// # Errors
/// A number that is not finite or that nothing holds.
pub fn resolve(text: &str) -> Result<Value, String> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => match number(text)? {
            Some(value) => value,
            None => Value::Str(text.to_string()),
        },
    })
}

fn number(text: &str) -> Result<Option<Value>, String> {
    let (sign, digits) = match text.as_bytes()[0] {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    if matches!(text, ".nan" | ".NaN" | ".NAN") || matches!(digits, ".inf" | ".Inf" | ".INF") {
        return Err(format!("`{text}` is no number that an experiment can use: numbers must be finite"));
    }
    let radix = |digits: &str, radix: u32| {
        let ok = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
        ok.then(|| i128::from_str_radix(digits, radix).map(Value::Int).map_err(|_| format!("the number {text} is too large")))
            .transpose()
    };
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return match format!("{sign}{digits}").parse() {
            Ok(value) => Ok(Some(Value::Int(value))),
            Err(_) => Err(format!("the number {} is too large", shorten(text))),
        };
    }
    if !is_float(digits) {
        return Ok(None);
    }
    match format!("{sign}{digits}").parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(Some(Value::Float(value))),
        _ => Err(format!("the number {} is too large", shorten(text))),
    }
}

/// `[0-9]* (. [0-9]*)? ([eE] [-+]? [0-9]+)?` with at least one digit before the exponent.
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_fits = exponent.is_none_or(|text| {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        !digits.is_empty() && is_digits(digits)
    });
    is_digits(whole) && is_digits(fraction) && !(whole.is_empty() && fraction.is_empty()) && exponent_fits
}

fn shorten(text: &str) -> String {
    if text.len() > 40 { format!("{}…", &text[..40]) } else { text.to_string() }
}
