//! The text into objects: Lists and single ones, as appending kubectl's outputs gives them. How it begins tells whether all of it is
//! read as YAML or as JSON: the two are not mixed.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{ClusterError, yaml};

/// One object. JSON stays text until its kind is known: a cluster's blocks may be a hundred megabytes.
pub(super) enum Item<'t> {
    Json(&'t str),
    Parsed(Value),
}

/// All objects of the text, Lists taken apart, each told as soon as it has ended.
pub(super) fn objects<'t>(text: &'t str, found: &mut dyn FnMut(Item<'t>)) -> Result<(), ClusterError> {
    if text.trim_start().starts_with('{') {
        let mut json = serde_json::Deserializer::from_str(text);
        let mut number = 0;
        while json.end().is_err() {
            number += 1;
            let top = json.deserialize_map(Top { found: &mut *found });
            let rest =
                top.map_err(|error| ClusterError::Syntax { number, form: "JSON", why: error.to_string() })?;
            if let Some(object) = rest {
                found(Item::Parsed(Value::Object(object)));
            }
        }
    } else {
        for (index, document) in documents(text).iter().enumerate() {
            let value = yaml::value(document).map_err(|why| ClusterError::Syntax {
                number: index + 1,
                form: "YAML",
                why,
            })?;
            flatten(value, found);
        }
    }
    Ok(())
}

impl Item<'_> {
    /// `kind` and `apiVersion`, empty when they are not there.
    pub(super) fn kind(&self) -> (String, String) {
        match self {
            Self::Json(text) => {
                let mut head = Head::default();
                // Stops with an error once both are known.
                let _stopped = serde_json::Deserializer::from_str(text).deserialize_map(&mut head);
                (head.kind.unwrap_or_default(), head.version.unwrap_or_default())
            }
            Self::Parsed(value) => {
                let text = |key| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                (text("kind"), text("apiVersion"))
            }
        }
    }

    /// Namespace and name, for a warning.
    pub(super) fn name(&self) -> String {
        let parsed;
        let value = match self {
            Self::Json(text) => {
                parsed = serde_json::from_str(text).unwrap_or(Value::Null);
                &parsed
            }
            Self::Parsed(value) => value,
        };
        let named = |key: &str| value.pointer(&format!("/metadata/{key}")).and_then(Value::as_str);
        format!("{}/{}", named("namespace").unwrap_or("?"), named("name").unwrap_or("?"))
    }

    pub(super) fn read<'v, S: Deserialize<'v>>(&'v self) -> Result<S, String> {
        match self {
            Self::Json(text) => serde_json::from_str(text).map_err(|error| {
                let words = error.to_string();
                words.rsplit_once(" at line ").map_or(words.clone(), |(words, _)| words.to_owned())
            }),
            Self::Parsed(value) => S::deserialize(value).map_err(|error| error.to_string()),
        }
    }
}

/// Reads an object of the stream: a List's items are told of, another's fields given back.
struct Top<'f, 't> {
    found: &'f mut dyn FnMut(Item<'t>),
}

impl<'de> Visitor<'de> for Top<'_, 'de> {
    type Value = Option<Map<String, Value>>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut fields, mut list) = (Map::new(), false);
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" {
                list |= map.next_value_seed(Items { found: &mut *self.found })?;
            } else {
                fields.insert(key, map.next_value()?);
            }
        }
        Ok((!list).then_some(fields))
    }
}

/// A list, whose items are told of, or anything else. Gives whether it was one.
struct Items<'f, 't> {
    found: &'f mut dyn FnMut(Item<'t>),
}

impl<'de> DeserializeSeed<'de> for Items<'_, 'de> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_any(self)
    }
}

macro_rules! no_list {
    ($($name:ident: $kind:ty),*) => {
        $(fn $name<E>(self, _: $kind) -> Result<bool, E> { Ok(false) })*
    };
}

impl<'de> Visitor<'de> for Items<'_, 'de> {
    type Value = bool;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("anything")
    }

    no_list!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
        while let Some(item) = list.next_element::<&RawValue>()? {
            (self.found)(Item::Json(item.get()));
        }
        Ok(true)
    }
}

/// What stands at an object's beginning.
#[derive(Default)]
struct Head {
    kind: Option<String>,
    version: Option<String>,
}

impl<'de> Visitor<'de> for &mut Head {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Kind => self.kind = map.next_value()?,
                Key::Version => self.version = map.next_value()?,
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            if self.kind.is_some() && self.version.is_some() {
                return Err(serde::de::Error::custom("both are known"));
            }
        }
        Ok(())
    }
}

/// Keys that matter here.
#[derive(serde::Deserialize)]
enum Key {
    #[serde(rename = "kind")]
    Kind,
    #[serde(rename = "apiVersion")]
    Version,
    #[serde(other)]
    Other,
}

/// Cuts at `---` and where a new top-level object begins without one: the output of a second kubectl.
fn documents(text: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut begun = false;
    for line in text.lines() {
        let separator = line == "---" || line.starts_with("--- ");
        let again = line.starts_with("apiVersion:") && begun;
        if separator || again {
            all.push(String::new());
            begun = false;
        }
        begun |= line.starts_with("apiVersion:");
        if !separator && let Some(last) = all.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    all.retain(|document| !document.trim().is_empty());
    all
}

fn flatten<'t>(value: Value, found: &mut dyn FnMut(Item<'t>)) {
    match value {
        Value::Object(mut object) if object.get("items").is_some_and(Value::is_array) => {
            if let Some(Value::Array(items)) = object.remove("items") {
                items.into_iter().map(Item::Parsed).for_each(found);
            }
        }
        Value::Null => {}
        other => found(Item::Parsed(other)),
    }
}
