//! Is the stack whole, down, or something in between?

use super::Finding;
use crate::status::{self, Report, State};

const ABOUT: &str = "stack";

pub(super) async fn examine() -> Vec<Finding> {
    vec![judge(&status::look().await)]
}

fn judge(report: &Report) -> Finding {
    if report.is_well() {
        return Finding::ok(ABOUT, report.verdict.clone());
    }
    let down = |state| matches!(state, State::Away | State::Done);
    if !report.services.is_empty() && report.services.iter().all(|service| down(service.state)) {
        return Finding::ok(ABOUT, "it is down: ./stack up starts it");
    }
    Finding::fault(ABOUT, report.verdict.clone(), report.next.clone())
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;
    use crate::compose::Container;

    #[test]
    fn a_stack_that_is_down_is_no_fault_and_one_that_is_half_up_is() {
        let expected = ["web-1".to_owned(), "web-2".to_owned()];
        let report = |containers: &[Container]| {
            Report::of(&expected, containers, Err("no".to_owned()), Vec::new())
        };
        assert_eq!(judge(&report(&[])).severity, Severity::Ok);
        let half = report(&[Container {
            service: "web-1".to_owned(),
            state: "running".to_owned(),
            health: "healthy".to_owned(),
            exit_code: 0,
        }]);
        let finding = judge(&half);
        assert_eq!(finding.severity, Severity::Fault);
        assert!(finding.found.contains("web-2 is away"), "{finding:?}");
        assert!(finding.cure.contains("./stack up"), "{finding:?}");
    }
}
