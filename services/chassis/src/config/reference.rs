//! The reference page of a configuration, in Markdown: its schema, in the order of the shipped file.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    Config,
    comments::{self, Entry},
    schema::{pointer, schema, variable},
};

/// The reference page of a service's configuration.
#[must_use]
pub fn reference<C: Config>() -> String {
    let schema = schema::<C>();
    let commented = comments::read(C::DEFAULT);
    let service = C::SERVICE;
    let mut page = format!(
        "# The {service}'s configuration\n\
         \n\
         <!-- Made by `{service} print-config-reference` out of {service}.toml and its types: change those. -->\n\
         \n\
         {}\n\
         \n\
         `{service} check-config` checks it as a whole and names file and line of what is wrong. An editor that knows TOML's schemas \
         (taplo, Even Better TOML) does so while you write, if the file begins with `#:schema` and the path of \
         [{service}.schema.json]({service}.schema.json), which `{service} print-config-schema` prints too.\n",
        text(&commented.preamble),
    );
    let mut entries = commented.entries.as_slice();
    page.push('\n');
    if entries.first().is_some_and(|entry| !entry.table) {
        page.push_str("## Above all tables\n\n");
    }
    while let Some((entry, rest)) = entries.split_first() {
        if entry.table {
            let _ = write!(page, "## `[{}]`\n\n", entry.key);
            if !entry.about.is_empty() {
                let _ = write!(page, "{}\n\n", text(&entry.about));
            }
            entries = rest;
            continue;
        }
        let together = rest.iter().take_while(|entry| entry.with_previous).count();
        let (group, rest) = entries.split_at(together + 1);
        keys::<C>(&mut page, &schema, group);
        entries = rest;
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

/// Keys that one comment is about.
fn keys<C: Config>(page: &mut String, schema: &Value, group: &[Entry]) {
    for entry in group {
        let node = &schema.pointer(&pointer(&entry.key)).unwrap_or(&Value::Null);
        let name = entry.key.rsplit('.').next().unwrap_or(&entry.key);
        let default = match entry.source.contains('\n') {
            true => "below".to_owned(),
            false => format!("`{}`", entry.source),
        };
        let (takes, variable) = (takes(node), variable::<C>(&entry.key));
        let _ = write!(
            page,
            "- **`{name}`** · {takes} · default {default} · `{variable}`"
        );
        if let Some(aside) = &entry.aside {
            let _ = write!(page, " · {}", text(aside));
        }
        page.push('\n');
    }
    let Some(first) = group.first() else { return };
    if !first.about.is_empty() {
        let _ = write!(page, "\n  {}\n", text(&first.about));
    }
    for entry in group {
        let elements = format!("{}/items/properties", pointer(&entry.key));
        if schema.pointer(&elements).is_some() {
            elements_of(page, schema, entry);
        }
        if entry.source.contains('\n') {
            let name = entry.key.rsplit('.').next().unwrap_or(&entry.key);
            let shipped = format!("{name} = {}", entry.source).replace('\n', "\n  ");
            let _ = write!(page, "\n  ```toml\n  {shipped}\n  ```\n");
        }
    }
    page.push('\n');
}

/// The keys of an array's elements: those that must be there first, then as the comment names them.
fn elements_of(page: &mut String, schema: &Value, entry: &Entry) {
    let items = format!("{}/items", pointer(&entry.key));
    let Some(items) = schema.pointer(&items) else {
        return;
    };
    let Some(properties) = items["properties"].as_object() else {
        return;
    };
    let required = |name: &str| {
        let names = items["required"].as_array().into_iter().flatten();
        names.into_iter().any(|one| one == name)
    };
    let place = |name: &str| entry.parts.iter().position(|(part, _)| part == name);
    let mut names: Vec<_> = properties.keys().map(String::as_str).collect();
    names.sort_by_key(|name| (!required(name), place(name)));
    page.push('\n');
    for name in names {
        let node = &properties[name];
        let default = match &node["default"] {
            _ if required(name) => "must be there".to_owned(),
            Value::Null => "may be left out".to_owned(),
            default => format!("default `{default}`"),
        };
        let about = text(node["description"].as_str().unwrap_or_default());
        let takes = takes(node);
        let _ = writeln!(page, "  - **`{name}`** · {takes} · {default}: {about}");
    }
}

/// What a key takes, in words.
fn takes(node: &Value) -> String {
    let quoted = |choice: &Value| format!("`{choice}`");
    if let Some(choices) = node["enum"].as_array() {
        let choices: Vec<_> = choices.iter().map(quoted).collect();
        return choices.join(" or ");
    }
    match (
        node["type"].as_str().unwrap_or_default(),
        &node["minimum"],
        &node["maximum"],
    ) {
        ("integer", min, Value::Null) => format!("a whole number from {min}"),
        ("integer", min, max) => format!("{min} to {max}"),
        ("boolean", ..) => "`true` or `false`".to_owned(),
        ("string", ..) => "a text".to_owned(),
        ("array", ..) if node["items"]["type"] == "object" => "an array of tables".to_owned(),
        ("array", ..) => "an array of texts".to_owned(),
        (other, ..) => format!("a {other}"),
    }
}

/// A comment as Markdown: what stands in backticks stays, elsewhere nothing is markup.
fn text(comment: &str) -> String {
    let mut escaped = String::new();
    let mut code = false;
    for character in comment.chars() {
        code ^= character == '`';
        if !code && "<*[]|".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}
