//! Each service's configuration, its JSON schema and its reference page say the same, and the program and an independent validator of
//! schemas refuse the same.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use boon::{Compiler, SchemaIndex, Schemas};
use harness::{path_of, run};
use serde_json::Value;
use toml::Table;

const SERVICES: [&str; 4] = ["arbiter", "balancer", "firewall", "web"];

/// `EX_CONFIG` of sysexits.h.
const EXIT_CONFIG: i32 = 78;

/// Runs a service's program to its end.
fn program(service: &str, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(path_of(service)?);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HOLDFAST_") {
            command.env_remove(name);
        }
    }
    Ok(command.args(arguments).output()?)
}

fn printed(service: &str, command: &str) -> Result<String> {
    let output = program(service, &[command])?;
    ensure!(output.status.success(), "{service} {command}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// What `check-config` says of a file: nothing where it is good.
fn refusal(service: &str, document: &Table) -> Result<Option<String>> {
    let directory = run::directory("configuration")?;
    let path = directory.path().join("given.toml");
    fs::write(&path, document.to_string())?;
    let path = path.to_string_lossy();
    let output = program(service, &["--config", &path, "check-config"])?;
    let said = String::from_utf8(output.stderr)?.replace(&*path, "given.toml");
    match output.status.code() {
        Some(0) => Ok(None),
        Some(EXIT_CONFIG) => Ok(Some(said)),
        code => anyhow::bail!("{service} check-config exits {code:?}: {said}"),
    }
}

/// Lists that have nothing in them as shipped, each with one whose elements are of the same kind.
const LIKE: &[(&str, &str)] = &[("sources", "servers")];

/// A service's schema, its keys, and its shipped configuration.
struct Checked {
    service: &'static str,
    schemas: Schemas,
    schema: SchemaIndex,
    keys: Vec<(String, Value)>,
    shipped: Table,
}

impl Checked {
    fn new(service: &'static str) -> Result<Self> {
        let schema: Value = serde_json::from_str(&printed(service, "print-config-schema")?)?;
        let shipped = printed(service, "print-default-config")?.parse()?;
        let mut keys = Vec::new();
        collect(&schema, "", &mut keys);
        let mut schemas = Schemas::new();
        let mut compiler = Compiler::new();
        let name = "holdfast.schema.json";
        let wrong = |error: boon::CompileError| anyhow::anyhow!("schema of {service}: {error}");
        compiler.add_resource(name, schema).map_err(wrong)?;
        let compiled = compiler.compile(name, &mut schemas).map_err(wrong)?;
        Ok(Self {
            service,
            schemas,
            schema: compiled,
            keys,
            shipped,
        })
    }

    fn follows_schema(&self, document: &Table) -> Result<bool> {
        let document = serde_json::to_value(document)?;
        Ok(self.schemas.validate(&document, self.schema).is_ok())
    }

    /// A document with one key, `backends[].weight`; what must be beside it in its element is as shipped.
    fn with(&self, key: &str, value: toml::Value) -> Result<Table> {
        document(&self.shipped, key, value).with_context(|| format!("set {key}"))
    }

    /// Both refuse the value, and the program names the line and the key.
    fn refuse(&self, key: &str, value: impl Into<toml::Value>) -> Result<String> {
        let (service, value) = (self.service, value.into());
        let document = self.with(key, value.clone())?;
        ensure!(
            !self.follows_schema(&document)?,
            "the schema of {service} takes {key} = {value}"
        );
        let said = refusal(service, &document)?
            .with_context(|| format!("{service} takes {key} = {value}"))?;
        let key = key.replace("[]", "[0]");
        ensure!(said.contains(&format!("key `{key}")), "{key}: {said}");
        let line = said
            .split_once("given.toml:")
            .and_then(|(_, rest)| rest.split_once(':'))
            .context(said.clone())?
            .0
            .parse::<usize>()?;
        let text = document.to_string();
        let text = text.lines().nth(line - 1).unwrap_or_default();
        let name = key.rsplit('.').next().unwrap_or(&key);
        ensure!(text.contains(name), "{key} is not in `{text}`: {said}");
        Ok(said)
    }
}

/// Every key that a schema has, tables included.
fn collect(schema: &Value, prefix: &str, keys: &mut Vec<(String, Value)>) {
    for (name, node) in schema["properties"].as_object().into_iter().flatten() {
        let key = format!("{prefix}{name}");
        collect(node, &format!("{key}."), keys);
        collect(&node["items"], &format!("{key}[]."), keys);
        keys.push((key, node.clone()));
    }
}

fn document(shipped: &Table, key: &str, value: toml::Value) -> Option<Table> {
    let Some((first, rest)) = key.split_once('.') else {
        return Some(Table::from_iter([(key.to_owned(), value)]));
    };
    let table = match first.strip_suffix("[]") {
        Some(array) => {
            let first = |array: &str| shipped.get(array)?.as_array()?.first()?.as_table();
            let like = LIKE.iter().find(|(empty, _)| *empty == array);
            let mut element = first(array).or_else(|| first(like?.1))?.clone();
            element.extend(document(&element, rest, value)?);
            (array, toml::Value::Array(vec![element.into()]))
        }
        None => {
            let below = shipped.get(first)?.as_table()?;
            (first, document(below, rest, value)?.into())
        }
    };
    Some(Table::from_iter([(table.0.to_owned(), table.1)]))
}

#[test]
fn schema_and_reference_are_those_that_the_program_prints() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for service in SERVICES {
        for (command, ending) in [
            ("print-config-schema", "schema.json"),
            ("print-config-reference", "md"),
        ] {
            let name = format!("docs/configuration/{service}.{ending}");
            let committed = fs::read_to_string(root.join(&name)).unwrap_or_default();
            ensure!(
                committed == printed(service, command)?,
                "{name} is not what the program prints. `cargo run --release -p {service} -- {command} >{name}` makes it anew"
            );
        }
    }
    Ok(())
}

#[test]
fn every_key_says_what_it_is() -> Result<()> {
    for service in SERVICES {
        for (key, node) in Checked::new(service)?.keys {
            let about = node["description"].as_str().unwrap_or_default();
            ensure!(
                node["type"] == "object" || !about.is_empty() && !about.starts_with("Environment"),
                "{service}.toml has no comment above or before `{key}`"
            );
        }
    }
    Ok(())
}

#[test]
fn what_is_shipped_follows_the_schema() -> Result<()> {
    for service in SERVICES {
        let checked = Checked::new(service)?;
        ensure!(checked.follows_schema(&checked.shipped)?, "{service}");
        ensure!(checked.follows_schema(&Table::new())?, "{service}: empty");
    }
    Ok(())
}

#[test]
fn what_is_of_another_type_is_refused_by_program_and_schema_alike() -> Result<()> {
    for service in SERVICES {
        let checked = Checked::new(service)?;
        for (key, node) in &checked.keys {
            if node["enum"].is_array() {
                checked.refuse(key, "none-of-them")?;
            }
            match node["type"].as_str().context("a type")? {
                "string" => checked.refuse(key, 1)?,
                "array" => {
                    checked.refuse(key, toml::Value::Array(vec![1.into()]))?;
                    checked.refuse(key, 1)?
                }
                "object" => {
                    checked.refuse(&format!("{key}.no_such_key"), 1)?;
                    checked.refuse(key, 1)?
                }
                _ => checked.refuse(key, "text")?,
            };
            if node["items"]["type"] == "object" {
                checked.refuse(&format!("{key}[].no_such_key"), 1)?;
            }
        }
        checked.refuse("no_such_key", 1)?;
    }
    Ok(())
}

#[test]
fn what_is_outside_of_its_range_is_refused_by_program_and_schema_alike() -> Result<()> {
    for service in SERVICES {
        let checked = Checked::new(service)?;
        let mut ranges = 0;
        for (key, node) in &checked.keys {
            let (Some(min), Some(max)) = (node["minimum"].as_i64(), node["maximum"].as_i64())
            else {
                continue;
            };
            ranges += 1;
            let expected = format!("expected {min} to {max}, found");
            for outside in [min - 1, max + 1] {
                let said = checked.refuse(key, outside)?;
                ensure!(said.contains(&expected), "{key} = {outside}: {said}");
            }
            for bound in [min, max] {
                let document = checked.with(key, bound.into())?;
                ensure!(checked.follows_schema(&document)?, "{key} = {bound}");
                // Another key may forbid it still: one that must be less, say.
                let said = refusal(service, &document)?.unwrap_or_default();
                ensure!(!said.contains(&expected), "{said}");
            }
        }
        ensure!(ranges > 5, "{service} has only {ranges} ranges");
    }
    Ok(())
}
