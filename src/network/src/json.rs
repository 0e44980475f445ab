//! JSON objects that keep what they were given.
//!
//! A plugin's configuration and result may hold keys that we do not know and numbers that no Rust
//! type holds exactly. Values are therefore kept as the text they were written as.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// A JSON object: its keys in their order, its values as written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object(Vec<(String, Box<RawValue>)>);

impl Object {
    /// The value of `key` as written.
    pub(crate) fn get(&self, key: &str) -> Option<&RawValue> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| &**value)
    }

    /// The value of `key` as a typed value; `None` where it is absent or `null`.
    pub(crate) fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, String> {
        match self.get(key) {
            None => Ok(None),
            Some(raw) => serde_json::from_str::<Option<T>>(raw.get())
                .map_err(|error| format!("key {key:?}: {error}")),
        }
    }

    /// Replaces the value of `key` in place, or appends the key.
    pub(crate) fn set(&mut self, key: &str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Removes `key` if it is there.
    pub(crate) fn remove(&mut self, key: &str) {
        self.0.retain(|(name, _)| name != key);
    }

    /// Like [`Object::set`], from a value to be serialized.
    pub(crate) fn set_value<T: Serialize>(
        &mut self,
        key: &str,
        value: &T,
    ) -> serde_json::Result<()> {
        self.set(key, to_raw_value(value)?);
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Object;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut seen = HashSet::new();
                let mut entries = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    // Readers disagree about which of two equal keys counts; we let none guess.
                    if !seen.insert(key.clone()) {
                        return Err(A::Error::custom(format!("key {key:?} is given twice")));
                    }
                    entries.push((key, value));
                }
                Ok(Object(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::Object;

    #[test]
    fn values_pass_through_as_written() {
        let text = r#"{"b":1.50,"a":123456789012345678901234567890,"c":{"z":1,  "y":"\u00e9"}}"#;
        let object: Object = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&object).unwrap(), text);
    }

    #[test]
    fn a_key_given_twice_is_refused() {
        let error = serde_json::from_str::<Object>(r#"{"type":"a","type":"b"}"#).unwrap_err();
        assert!(error.to_string().contains("\"type\" is given twice"));
    }

    #[test]
    fn set_replaces_in_place_and_appends() {
        let mut object: Object = serde_json::from_str(r#"{"name":"x","k":1}"#).unwrap();
        object.set_value("name", &"y").unwrap();
        object.set_value("new", &2).unwrap();
        object.remove("k");
        assert_eq!(
            serde_json::to_string(&object).unwrap(),
            r#"{"name":"y","new":2}"#
        );
    }
}
