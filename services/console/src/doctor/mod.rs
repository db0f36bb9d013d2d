//! `./stack doctor`: finds the commonest faults of a machine and of a stack on it, and says what to do.
//!
//! Each file here is one check: it asks for what it needs, and a function without I/O makes findings of that. All run at the same time.

mod certificates;
mod dotenv;
mod engine;
mod ports;
mod room;
mod subnets;
mod whole;

use std::fmt::Write;

use serde::Serialize;

use crate::settings::Settings;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// It works, and will not for ever.
    Warning,
    /// It does not work.
    Fault,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub about: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub found: String,
    /// What to do about it; empty where there is nothing to do.
    pub cure: String,
}

impl Finding {
    fn ok(about: &'static str, found: impl Into<String>) -> Self {
        Self {
            about,
            severity: Severity::Ok,
            found: found.into(),
            cure: String::new(),
        }
    }

    fn warning(about: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            about,
            severity: Severity::Warning,
            found: found.into(),
            cure: cure.into(),
        }
    }

    fn fault(about: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            severity: Severity::Fault,
            ..Self::warning(about, found, cure)
        }
    }
}

/// Everything that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One for each thing that was looked at, at least.
    pub findings: Vec<Finding>,
}

/// Looks at everything.
pub async fn examine() -> Report {
    let settings = Settings::of_the_environment();
    let engine = engine::examine().await;
    let mut findings = engine;
    // Without an engine the rest would only repeat that it is missing.
    if findings
        .iter()
        .all(|finding| finding.severity < Severity::Fault)
    {
        let (ports, subnets, whole, certificates, room) = tokio::join!(
            ports::examine(&settings),
            subnets::examine(&settings),
            whole::examine(),
            certificates::examine(),
            room::examine(),
        );
        for found in [ports, subnets, whole, certificates, room] {
            findings.extend(found);
        }
    }
    findings.extend(dotenv::examine());
    Report { findings }
}

impl Report {
    /// There is no fault.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| finding.severity < Severity::Fault)
    }

    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("a report has text keys");
        format!("{json}\n")
    }

    /// For a terminal.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let mark = match finding.severity {
                Severity::Ok => "ok",
                Severity::Warning => "warning",
                Severity::Fault => "FAULT",
            };
            let _ = writeln!(text, "{mark:<9}{:<14}{}", finding.about, finding.found);
            if !finding.cure.is_empty() {
                let _ = writeln!(text, "{:<23}-> {}", "", finding.cure);
            }
        }
        let count = |severity| {
            let of = |finding: &&Finding| finding.severity == severity;
            self.findings.iter().filter(of).count()
        };
        let (faults, warnings) = (count(Severity::Fault), count(Severity::Warning));
        let _ = match (faults, warnings) {
            (0, 0) => writeln!(text, "\nno fault was found"),
            (0, _) => writeln!(text, "\nno fault was found, but {warnings} to look at"),
            _ => writeln!(text, "\nfaults: {faults}; to look at besides: {warnings}"),
        };
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_no_fault_and_a_fault_is() {
        let mut report = Report {
            findings: vec![
                Finding::ok("ports", "free"),
                Finding::warning("disk", "4 GB left", "make room"),
            ],
        };
        assert!(report.is_well());
        assert!(report.to_text().contains("-> make room\n"));
        assert!(
            report
                .to_text()
                .ends_with("no fault was found, but 1 to look at\n")
        );
        report
            .findings
            .push(Finding::fault("engine", "away", "start it"));
        assert!(!report.is_well());
        assert!(
            report
                .to_text()
                .ends_with("faults: 1; to look at besides: 1\n")
        );
    }
}
