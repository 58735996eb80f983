//! The text into objects: YAML documents, Lists, or JSON, in any mix that appending kubectl's outputs gives.

use serde_json::Value;

use super::ClusterError;

/// All objects of the text, Lists taken apart.
pub(super) fn objects(text: &str) -> Result<Vec<Value>, ClusterError> {
    let mut found = Vec::new();
    if text.trim_start().starts_with('{') {
        let stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        for (index, value) in stream.enumerate() {
            let value = value.map_err(|error| ClusterError::Syntax {
                number: index + 1,
                form: "JSON",
                why: error.to_string(),
            })?;
            flatten(value, &mut found);
        }
    } else {
        for (index, document) in documents(text).iter().enumerate() {
            let value = serde_yaml_ng::from_str(document).map_err(|error| ClusterError::Syntax {
                number: index + 1,
                form: "YAML",
                why: error.to_string(),
            })?;
            flatten(value, &mut found);
        }
    }
    Ok(found)
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

fn flatten(value: Value, found: &mut Vec<Value>) {
    match value {
        Value::Object(mut object) if object.get("items").is_some_and(Value::is_array) => {
            if let Some(Value::Array(items)) = object.remove("items") {
                found.extend(items);
            }
        }
        Value::Null => {}
        other => found.push(other),
    }
}
