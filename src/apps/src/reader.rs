//! Reads JSON objects field by field, remembering where it is and which names are known.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::AppError;

/// Longest excerpt of a value in an error message, in characters.
const EXCERPT: usize = 60;
/// How similar a known name has to be to be suggested (Jaro-Winkler, 0 to 1).
const SIMILAR: f64 = 0.75;

type Result<T> = std::result::Result<T, AppError>;

/// The fields of one object that were not taken yet.
///
/// Taking a field makes its name known; [`Fields::end`] then refuses what is left. A field that
/// is `null` counts as absent, as in Marathon.
#[derive(Debug)]
pub(crate) struct Fields {
    path: String,
    left: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Fields {
    /// `path` is empty for the outermost object.
    pub(crate) fn of(path: &str, value: Value) -> Result<Self> {
        match value {
            Value::Object(left) => Ok(Self {
                path: path.to_owned(),
                left,
                known: Vec::new(),
            }),
            other => Err(invalid(path, "an object", &other)),
        }
    }

    /// JSON path of a field of this object.
    pub(crate) fn path(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// Takes a field as it is.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.left.remove(name).filter(|value| !value.is_null())
    }

    pub(crate) fn string(&mut self, name: &'static str) -> Result<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => string(&self.path(name), value).map(Some),
        }
    }

    pub(crate) fn boolean(&mut self, name: &'static str) -> Result<Option<bool>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(invalid(&self.path(name), "true or false", &other)),
        }
    }

    pub(crate) fn integer(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match value.as_u64() {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            _ => Err(invalid(
                &self.path(name),
                &format!("an integer from {} to {}", range.start(), range.end()),
                &value,
            )),
        }
    }

    pub(crate) fn port(&mut self, name: &'static str) -> Result<Option<u16>> {
        let number = self.integer(name, 0..=u64::from(u16::MAX))?;
        Ok(number.and_then(|number| u16::try_from(number).ok()))
    }

    pub(crate) fn number(
        &mut self,
        name: &'static str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => number(&self.path(name), &value, &range).map(Some),
        }
    }

    pub(crate) fn object(&mut self, name: &'static str) -> Result<Option<Fields>> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => Fields::of(&self.path(name), value).map(Some),
        }
    }

    /// Items with their paths; at most `limit` of them.
    pub(crate) fn array(
        &mut self,
        name: &'static str,
        limit: usize,
    ) -> Result<Option<Vec<(String, Value)>>> {
        let path = self.path(name);
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) if items.len() <= limit => Ok(Some(
                items
                    .into_iter()
                    .enumerate()
                    .map(|(index, item)| (format!("{path}[{index}]"), item))
                    .collect(),
            )),
            Some(other) => Err(invalid(
                &path,
                &format!("an array of at most {limit} items"),
                &other,
            )),
        }
    }

    pub(crate) fn objects(
        &mut self,
        name: &'static str,
        limit: usize,
    ) -> Result<Option<Vec<Fields>>> {
        let Some(items) = self.array(name, limit)? else {
            return Ok(None);
        };
        items
            .into_iter()
            .map(|(path, item)| Fields::of(&path, item))
            .collect::<Result<_>>()
            .map(Some)
    }

    pub(crate) fn strings(
        &mut self,
        name: &'static str,
        limit: usize,
    ) -> Result<Option<Vec<String>>> {
        let Some(items) = self.array(name, limit)? else {
            return Ok(None);
        };
        items
            .into_iter()
            .map(|(path, item)| string(&path, item))
            .collect::<Result<_>>()
            .map(Some)
    }

    /// An object of free names and string values.
    pub(crate) fn string_map(&mut self, name: &'static str) -> Result<BTreeMap<String, String>> {
        let Some(fields) = self.object(name)? else {
            return Ok(BTreeMap::new());
        };
        let path = fields.path;
        fields
            .left
            .into_iter()
            .map(|(key, value)| {
                let value = string(&format!("{path}.{key}"), value)?;
                Ok((key, value))
            })
            .collect()
    }

    /// What is left of an object of free names.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = (String, String, Value)> {
        let path = self.path;
        self.left
            .into_iter()
            .map(move |(key, value)| (format!("{path}.{key}"), key, value))
    }

    /// Refuses a field that was never taken.
    pub(crate) fn end(self) -> Result<()> {
        let Some(name) = self.left.keys().next() else {
            return Ok(());
        };
        let nearest = self
            .known
            .iter()
            .map(|known| {
                (
                    strsim::jaro_winkler(&name.to_lowercase(), &known.to_lowercase()),
                    known,
                )
            })
            .filter(|(similarity, _)| *similarity >= SIMILAR)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, known)| (*known).to_owned());
        Err(AppError::UnknownField {
            path: self.path(
                &name
                    .chars()
                    .take(EXCERPT)
                    .collect::<String>()
                    .escape_debug()
                    .to_string(),
            ),
            nearest,
        })
    }
}

/// A string without NUL, which neither a path, an argument nor a variable can hold.
pub(crate) fn string(path: &str, value: Value) -> Result<String> {
    match value {
        Value::String(text) if !text.contains('\0') => Ok(text),
        other => Err(invalid(path, "a string without NUL characters", &other)),
    }
}

/// A finite number within a range.
pub(crate) fn number(path: &str, value: &Value, range: &RangeInclusive<f64>) -> Result<f64> {
    match value.as_f64() {
        Some(number) if range.contains(&number) => Ok(number),
        _ => Err(invalid(
            path,
            &format!("a number from {} to {}", range.start(), range.end()),
            value,
        )),
    }
}

/// An [`AppError::Invalid`] with a short excerpt of the value.
pub(crate) fn invalid(path: &str, want: &str, have: &Value) -> AppError {
    let mut shown: String = have.to_string().chars().take(EXCERPT + 1).collect();
    if shown.chars().count() > EXCERPT {
        shown = shown.chars().take(EXCERPT).chain("...".chars()).collect();
    }
    AppError::Invalid {
        path: if path.is_empty() {
            "the definition"
        } else {
            path
        }
        .to_owned(),
        want: want.to_owned(),
        have: shown,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn unknown(name: &str) -> String {
        let mut fields = Fields::of("container", json!({ name: 1 })).expect("an object");
        let _ = fields.take("portMappings");
        let _ = fields.take("volumes");
        fields.end().expect_err("unknown").to_string()
    }

    #[test]
    fn unknown_fields_name_the_nearest() {
        for (name, want) in [
            (
                "portMapping",
                "container.portMapping: unknown field; did you mean \"portMappings\"?",
            ),
            (
                "portmappings",
                "container.portmappings: unknown field; did you mean \"portMappings\"?",
            ),
            (
                "volume",
                "container.volume: unknown field; did you mean \"volumes\"?",
            ),
            ("xyz", "container.xyz: unknown field"),
            ("a\nb", "container.a\\nb: unknown field"),
        ] {
            assert_eq!(unknown(name), want);
        }
    }

    #[test]
    fn values_are_checked() {
        let mut fields = Fields::of(
            "",
            json!({"n": 1.5, "i": -1, "s": "a\u{0}b", "p": 70000, "z": null}),
        )
        .expect("an object");
        assert!(fields.number("n", 0.0..=2.0).is_ok_and(|n| n == Some(1.5)));
        assert_eq!(
            fields
                .integer("i", 0..=9)
                .expect_err("negative")
                .to_string(),
            "i: want an integer from 0 to 9, have -1"
        );
        assert!(fields.string("s").is_err());
        assert!(fields.port("p").is_err());
        assert!(fields.string("z").is_ok_and(|z| z.is_none()));
        assert!(fields.end().is_ok());
        assert_eq!(
            Fields::of("", json!([])).expect_err("array").to_string(),
            "the definition: want an object, have []"
        );
    }
}
