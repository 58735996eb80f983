//! One YAML document into a value that is no larger than its text: aliases may repeat a part of it, and so a few lines
//! stand for gigabytes. Kubernetes' own programs print none.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Reads `text`.
///
/// # Errors
///
/// When it is no YAML, or its aliases make much of little.
pub(super) fn value(text: &str) -> Result<Value, String> {
    // A value takes a byte of the text or more, but for a null, which has a key or a dash before it.
    let left = Cell::new(text.len().saturating_mul(2).saturating_add(64));
    Bounded { left: &left }
        .deserialize(serde_yaml_ng::Deserializer::from_str(text))
        .map_err(|error| error.to_string())
}

/// A value of which so much may come.
#[derive(Clone, Copy)]
struct Bounded<'l> {
    left: &'l Cell<usize>,
}

impl Bounded<'_> {
    fn take<E: Error>(self, some: usize) -> Result<(), E> {
        let left = self.left.get().checked_sub(some.max(1));
        self.left.set(left.ok_or_else(|| E::custom("aliases make it larger than its text"))?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

macro_rules! plain {
    ($($name:ident: $kind:ty),*) => {
        $(fn $name<E: Error>(self, value: $kind) -> Result<Value, E> {
            self.take(1)?;
            Ok(Value::from(value))
        })*
    };
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value of JSON")
    }

    plain!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64);

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.take(1)?;
        Ok(Value::Null)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.take(text.len())?;
        Ok(Value::from(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        self.take(1)?;
        let mut list = Vec::new();
        while let Some(value) = from.next_element_seed(self)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        self.take(1)?;
        let mut object = Map::new();
        while let Some(key) = from.next_key::<String>()? {
            self.take(key.len())?;
            let value = from.next_value_seed(self)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_aliases_are_read() {
        let read = value("labels: &l {app: x}\nselector: *l\n").unwrap();
        assert_eq!(read, serde_json::json!({ "labels": { "app": "x" }, "selector": { "app": "x" } }));
        let plain = "a: [1, -2, 0.5, true, null, ~, '', \"\\n\"]\nb:\nc: |\n  text\n? d\n: e\n";
        assert_eq!(value(plain), serde_yaml_ng::from_str(plain).map_err(|error| error.to_string()));
    }

    #[test]
    fn aliases_that_make_gigabytes_of_little_are_refused() {
        let line = |depth: usize| {
            let inner = vec![depth.checked_sub(1).map_or("x".to_owned(), |below| format!("*a{below}")); 9];
            format!("a{depth}: &a{depth} [{}]\n", inner.join(", "))
        };
        let nodes: String = (0..9).map(line).collect();
        let bytes = format!("a: &a {}\nb: [{}]\n", "x".repeat(10_000), vec!["*a"; 1_000].join(", "));
        let empty = format!("a: &a\nb: [{}]\n", vec!["[*a, *a, *a, *a]"; 100].join(", "));
        for text in [nodes, bytes] {
            let why = value(&text).unwrap_err();
            assert!(why.contains("larger than its text") || why.contains("repetition"), "{why}");
        }
        assert!(value(&empty).is_ok());
    }
}
