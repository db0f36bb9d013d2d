//! Prometheus's own tool on what Prometheus is given: its configuration and its rules, in the image that it runs in.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use harness::{Identities, base_image, compose, run};
use tokio::process::Command;

/// Runs `promtool check WHAT` on this directory as `/etc/prometheus`; gives whether it found nothing wrong, and what it said.
async fn check(what: &[&str], directory: &Path, pki: &Path) -> Result<(bool, String)> {
    let image = base_image("prometheus", "HOLDFAST_PROMETHEUS_IMAGE");
    let checked = Command::new("docker")
        .args(["run", "--rm", "--network=none", "--user=0:0"])
        .arg(format!("--label={}={}", run::LABEL, run::id()))
        .arg(format!(
            "--volume={}:/etc/prometheus:ro",
            directory.display()
        ))
        .arg(format!("--volume={}:/run/holdfast/pki:ro", pki.display()))
        .args(["--workdir=/etc/prometheus", "--entrypoint=/bin/promtool"])
        .arg(image.await?)
        .arg("check")
        .args(what)
        .kill_on_drop(true)
        .output()
        .await?;
    let [out, err] = [checked.stdout, checked.stderr].map(String::from_utf8);
    Ok((checked.status.success(), format!("{}{}", out?, err?)))
}

#[tokio::test]
async fn promtool_finds_nothing_wrong_with_the_configuration_and_the_rules_and_would_find_it()
-> Result<()> {
    let identities = Identities::make()?;
    let pki = identities.of("prometheus");
    let ours = compose::root().join("docker/prometheus");
    let (good, said) = check(&["config", "prometheus.yml"], &ours, &pki).await?;
    ensure!(good, "{said}");

    let mut rules = Vec::new();
    for entry in fs::read_dir(&ours)? {
        let name = entry?.file_name().into_string().ok().context("no text")?;
        rules.extend((name != "prometheus.yml").then_some(name));
    }
    ensure!(rules.len() > 1, "{rules:?}");
    let mut what = vec!["rules", "--lint=all", "--lint-fatal"];
    what.extend(rules.iter().map(String::as_str));
    let (good, said) = check(&what, &ours, &pki).await?;
    ensure!(good, "{said}");
    let written: usize = rules
        .iter()
        .map(|name| {
            Ok(fs::read_to_string(ours.join(name))?
                .matches("- alert:")
                .count())
        })
        .sum::<Result<usize>>()?;
    let found = said.lines().filter_map(|line| {
        line.trim()
            .strip_prefix("SUCCESS: ")?
            .split(' ')
            .next()?
            .parse::<usize>()
            .ok()
    });
    ensure!(
        found.sum::<usize>() == written,
        "{written} are written: {said}"
    );

    // What is wrong is found: a misspelt function, and a file that is not there.
    let broken = run::directory("prometheus")?;
    for name in rules.iter().map(String::as_str).chain(["prometheus.yml"]) {
        let text = fs::read_to_string(ours.join(name))?;
        fs::write(
            broken.path().join(name),
            text.replace("increase(", "incraese("),
        )?;
    }
    let (good, said) = check(&["config", "prometheus.yml"], broken.path(), &pki).await?;
    ensure!(!good && said.contains("incraese"), "{said}");
    let nowhere = broken.path().join("nothing");
    fs::create_dir(&nowhere)?;
    let (good, said) = check(&["config", "prometheus.yml"], &ours, &nowhere).await?;
    ensure!(!good && said.contains("tls.crt"), "{said}");
    Ok(())
}
