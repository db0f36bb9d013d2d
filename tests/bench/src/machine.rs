//! What the figures were measured on.

use std::fs;

use anyhow::Result;

use crate::cores::Cores;

/// Cores, processor, kernel, as one sentence.
pub(crate) fn describe(cores: &Cores) -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel
        .split(|c: char| c != '.' && !c.is_ascii_digit())
        .next()
        .unwrap_or_default();
    let virtual_machine = if field(&cpus, "flags").is_some_and(|flags| flags.contains("hypervisor"))
    {
        ", a virtual machine"
    } else {
        ""
    };
    Ok(format!(
        "{} cores of {}{virtual_machine}, Linux {kernel}",
        cores.number,
        model(&cpus),
    ))
}

/// The processor's name, or where the machine hides it, maker, family and model.
fn model(cpus: &str) -> String {
    match field(cpus, "model name") {
        Some(name) if name != "unknown" && !name.is_empty() => name.to_owned(),
        _ => format!(
            "{} family {} model {}",
            field(cpus, "vendor_id").unwrap_or("an unknown maker,"),
            field(cpus, "cpu family").unwrap_or("?"),
            field(cpus, "model").unwrap_or("?"),
        ),
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_is_named_as_well_as_it_can_be() {
        assert_eq!("Fast One", model("model\t\t: 2\nmodel name\t: Fast One\n"));
        assert_eq!(
            "Maker family 1 model 2",
            model("vendor_id\t: Maker\ncpu family\t: 1\nmodel\t: 2\nmodel name\t: unknown\n")
        );
    }
}
