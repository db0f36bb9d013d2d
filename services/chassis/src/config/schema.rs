//! A configuration's JSON schema, draft 2020-12: shape and types from Rust, bounds from `ranges`, words and defaults from the shipped file.
//!
//! It is for editors, and for whoever checks a file without the program; what no schema can say is in `problems`. No key is required
//! outside of an array, because a file may hold only some of them.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{Config, comments, shipped};

/// The schema of a service's configuration.
///
/// # Panics
/// Where type, shipped file and ranges do not name the same keys.
#[must_use]
pub fn schema<C: Config>() -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let generator = settings.into_generator();
    let mut schema = generator.into_root_schema_for::<C>().to_value();
    tidy(&mut schema, false);

    let shipped = shipped::<C>().expect("the shipped configuration fits its type");
    let defaults = toml::from_str(C::DEFAULT).expect("the shipped configuration is TOML");
    let commented = comments::read(C::DEFAULT);
    schema["title"] = format!("Configuration of Holdfast's {}", C::SERVICE).into();
    schema["description"] = commented.preamble.into();
    for entry in commented.entries {
        let node = node(&mut schema, &entry.key);
        let mut about = entry.about;
        if let Some(aside) = entry.aside {
            about = format!("{about} ({aside})");
        }
        if entry.table {
            if !about.is_empty() {
                node["description"] = about.into();
            }
            continue;
        }
        let variable = variable::<C>(&entry.key);
        node["description"] = format!("{about}\n\nEnvironment variable: {variable}")
            .trim_start()
            .into();
        node["default"] = value(&defaults, &entry.key);
        for (part, about) in entry.parts {
            self::node(&mut schema, &format!("{}[].{part}", entry.key))["description"] =
                about.into();
        }
    }
    for range in shipped.ranges() {
        let node = node(&mut schema, range.key);
        node["minimum"] = range.min.into();
        node["maximum"] = range.max.into();
    }
    schema.sort_all_objects();
    schema
}

/// The environment variable that overrides a key.
pub(super) fn variable<C: Config>(key: &str) -> String {
    let path = key.replace('.', "__").to_uppercase();
    format!("HOLDFAST_{}__{path}", C::SERVICE.to_uppercase())
}

/// Where a schema speaks of a key, `backends[].weight`: a JSON pointer.
pub(super) fn pointer(key: &str) -> String {
    let parts = key.split('.').map(|part| match part.strip_suffix("[]") {
        Some(array) => format!("/properties/{array}/items"),
        None => format!("/properties/{part}"),
    });
    parts.collect()
}

fn node<'a>(schema: &'a mut Value, key: &str) -> &'a mut Value {
    schema
        .pointer_mut(&pointer(key))
        .unwrap_or_else(|| panic!("the type has no key `{key}`"))
}

/// The shipped value of a key.
fn value(defaults: &toml::Table, key: &str) -> Value {
    let value = match key.split_once('.') {
        Some((table, rest)) => match &defaults[table] {
            toml::Value::Table(table) => return value(table, rest),
            other => other,
        },
        None => &defaults[key],
    };
    serde_json::to_value(value).expect("what TOML can say, JSON can")
}

/// Takes out what is about Rust: names and widths of types, `null` for a key that is not there.
fn tidy(schema: &mut Value, in_array: bool) {
    let Some(node) = schema.as_object_mut() else {
        return;
    };
    node.remove("title");
    if node.get("default") == Some(&Value::Null) {
        node.remove("default");
    }
    if let Some(Value::Array(types)) = node.get("type") {
        let kind = types.iter().find(|kind| **kind != "null").cloned();
        node.insert("type".to_owned(), kind.unwrap_or_default());
    }
    match node.get("type").and_then(Value::as_str) {
        Some("integer" | "number") => {
            node.remove("format");
        }
        Some("object") => {
            node.remove("description");
            if !in_array {
                node.remove("required");
            }
        }
        _ => {}
    }
    name_choices(node);
    if let Some(Value::Object(properties)) = node.get_mut("properties") {
        properties
            .values_mut()
            .for_each(|property| tidy(property, in_array));
    }
    if let Some(items) = node.get_mut("items") {
        tidy(items, true);
    }
}

/// An enum whose variants are documented is a list of constants. As one `enum`, an error lists them all; editors that know TOML show
/// what each of them is by `x-taplo`.
fn name_choices(node: &mut Map<String, Value>) {
    let Some(Value::Array(variants)) = node.get("oneOf") else {
        return;
    };
    let mut choices = Vec::new();
    for variant in variants {
        let about = &variant["description"];
        let names = match (&variant["const"], &variant["enum"]) {
            (name @ Value::String(_), _) => std::slice::from_ref(name),
            (_, Value::Array(names)) => names,
            _ => return,
        };
        choices.extend(names.iter().map(|name| (name.clone(), about.clone())));
    }
    let (names, about): (Vec<_>, Vec<_>) = choices.into_iter().unzip();
    node.remove("oneOf");
    node.insert("type".to_owned(), "string".into());
    node.insert("enum".to_owned(), names.into());
    node.insert("x-taplo".to_owned(), json!({"docs": {"enumValues": about}}));
}
