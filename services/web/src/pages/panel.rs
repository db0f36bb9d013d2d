//! The panel at the foot of every page: which web server and which database server made it, why those, how long each step took, and
//! the way to its trace.
//!
//! A handler draws its page as a [`Draft`]; the panel is put in when everything else is done, by the layer around all routes, so that it
//! tells of errors and of late steps too.

use std::time::{Duration, Instant};

use askama::Template;
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use router::{Decision, Reason, Target};

use crate::making::{Making, Step};

/// Where the panel comes in a page. Text of people is escaped, so it can never hold this.
const PLACE: &str = "<!--made-->";

/// The bars' width, in the units of their picture.
const WIDE: f64 = 100.0;

/// The narrowest bar that can be seen.
const BAR_MIN: f64 = 0.8;

/// A page without its panel: the body of a response, until [`finish`] writes it.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    html: String,
    begun: Instant,
    took: Duration,
}

impl Draft {
    /// Draws a page.
    pub(crate) fn of(page: &impl Template) -> Self {
        let begun = Instant::now();
        let html = page.render().expect("a page is written to memory");
        Self {
            html,
            begun,
            took: begun.elapsed(),
        }
    }

    /// Makes it what is answered; [`finish`] writes it.
    pub(crate) fn put(self, response: &mut Response) {
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, html);
        response.extensions_mut().insert(self);
    }

    /// The page as it was drawn.
    #[cfg(test)]
    pub(super) fn html(&self) -> &str {
        &self.html
    }
}

impl IntoResponse for Draft {
    /// The body is written where the whole request is known, from the extension that stays here.
    fn into_response(self) -> Response {
        let mut response = ().into_response();
        self.put(&mut response);
        response
    }
}

/// What the panel tells besides the steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    /// The name of this web server.
    pub(crate) instance: &'a str,
    /// The request's trace.
    pub(crate) trace_id: &'a str,
    /// Where traces are shown, with `{trace_id}` in it; empty for nowhere.
    pub(crate) traces: &'a str,
}

/// Writes the page that a handler has drawn, if the response is one, with its panel.
pub(crate) fn finish(response: &mut Response, making: &Making, about: About<'_>) {
    let Some(draft) = response.extensions_mut().remove::<Draft>() else {
        return;
    };
    let total = making.elapsed();
    let mut steps = making.steps();
    steps.push(Step {
        what: "draw the page".to_owned(),
        decision: None,
        at: total.saturating_sub(draft.begun.elapsed()),
        took: Some(draft.took),
    });
    steps.sort_by_key(|step| step.at);
    let panel = Panel::of(&steps, total, about);
    let panel = panel.render().expect("a panel is written to memory");
    // That of the empty body, where a layer has set it already.
    response.headers_mut().remove(CONTENT_LENGTH);
    *response.body_mut() = Body::from(draft.html.replacen(PLACE, &panel, 1));
}

#[derive(Template)]
#[template(path = "panel.html")]
struct Panel<'a> {
    instance: &'a str,
    total: String,
    asked: Vec<Asked<'a>>,
    rows: Vec<Row<'a>>,
    trace_id: &'a str,
    trace: Option<String>,
}

/// A database server that was asked, in the panel's sentence; several statements in a row for the same reason are one.
#[derive(Debug, PartialEq)]
struct Asked<'a> {
    server: &'a str,
    target: String,
    reason: Reason,
    why: &'static str,
    statements: usize,
}

struct Row<'a> {
    what: &'a str,
    decision: Option<&'a Decision>,
    reason: String,
    took: String,
    /// Where the bar begins and how wide it is, of [`WIDE`].
    from: String,
    wide: String,
}

impl<'a> Panel<'a> {
    fn of(steps: &'a [Step], total: Duration, about: About<'a>) -> Self {
        let mut asked: Vec<Asked<'_>> = Vec::new();
        for decision in steps.iter().filter_map(|step| step.decision.as_ref()) {
            let reason = shown_reason(decision.reason);
            match asked.last_mut() {
                Some(last) if last.server == &*decision.server && last.reason == reason => {
                    last.statements += 1;
                }
                _ => asked.push(Asked {
                    server: &decision.server,
                    target: decision.target.to_string(),
                    reason,
                    why: why(decision.target, reason),
                    statements: 1,
                }),
            }
        }
        let trace =
            (!about.traces.is_empty()).then(|| about.traces.replace("{trace_id}", about.trace_id));
        Self {
            instance: about.instance,
            total: milliseconds(total),
            asked,
            rows: steps.iter().map(|step| Row::of(step, total)).collect(),
            trace_id: about.trace_id,
            trace,
        }
    }
}

impl<'a> Row<'a> {
    fn of(step: &'a Step, total: Duration) -> Self {
        let whole = total.as_secs_f64().max(1e-9);
        let from = (step.at.as_secs_f64() / whole * WIDE).min(WIDE - BAR_MIN);
        let until = step
            .took
            .map_or(whole, |took| (step.at + took).as_secs_f64());
        let wide = (until / whole * WIDE - from).min(WIDE - from).max(BAR_MIN);
        Self {
            what: &step.what,
            decision: step.decision.as_ref(),
            reason: step.decision.as_ref().map_or_else(String::new, |decision| {
                shown_reason(decision.reason).to_string()
            }),
            took: step
                .took
                .map_or_else(|| "not finished".to_owned(), milliseconds),
            from: format!("{from:.2}"),
            wide: format!("{wide:.2}"),
        }
    }
}

/// As the header `x-db` tells it: only writes are transactions here.
fn shown_reason(reason: Reason) -> Reason {
    match reason {
        Reason::Transaction => Reason::Write,
        reason => reason,
    }
}

/// Why a statement went where it went, in a sentence's end.
pub(crate) fn why(target: Target, reason: Reason) -> &'static str {
    match (reason, target) {
        (Reason::Fresh, _) => "it has everything that you have written, and is recent enough",
        (Reason::Write | Reason::Transaction, _) => "only the primary takes writes",
        (Reason::Pinned, _) => "the work needs one connection of its own",
        (Reason::Locking, _) => "a read that takes locks belongs on the primary",
        (Reason::Unproven, _) => "the statement is not proven to only read",
        (Reason::Stale, _) => "the replica does not have everything that you have written yet",
        (Reason::Lag, _) => "the replica is further behind than is allowed",
        (Reason::ReplicaDown, _) => "no replica is to be had",
        (Reason::PrimaryDown, _) => {
            "the primary is away, and the replica has every acknowledged write"
        }
        (Reason::SpillOver, _) => "the primary has no room",
        (Reason::ReplicaFull, _) => "the replica has no room",
        (Reason::Corrected, _) => "the replica refused it as a write",
        (Reason::Strong, _) => "the read demands the primary",
        (Reason::Hint, _) => "a hint in the statement asks for it",
    }
}

/// Milliseconds with two places, or microseconds where that says more.
fn milliseconds(time: Duration) -> String {
    match time.as_micros() {
        micros @ 0..1000 => format!("{micros} µs"),
        micros => format!("{}.{:02} ms", micros / 1000, micros % 1000 / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(what: &str, at_ms: u64, took_ms: Option<u64>, to: Option<(Target, Reason)>) -> Step {
        Step {
            what: what.to_owned(),
            decision: to.map(|(target, reason)| Decision {
                target,
                server: match target {
                    Target::Primary => "mysql-1".into(),
                    Target::Replica => "mysql-2".into(),
                },
                reason,
                epoch: 1,
                lag: None,
            }),
            at: Duration::from_millis(at_ms),
            took: took_ms.map(Duration::from_millis),
        }
    }

    const ABOUT: About<'_> = About {
        instance: "web-1",
        trace_id: "0af7651916cd43dd8448eb211c80319c",
        traces: "http://localhost:16686/trace/{trace_id}",
    };

    #[test]
    fn the_panel_says_who_answered_why_and_how_long_it_took() {
        let read = Some((Target::Replica, Reason::Fresh));
        let steps = [
            step("SELECT owners", 1, Some(2), read),
            step("SELECT accounts", 3, Some(4), read),
            step(
                "transaction",
                8,
                None,
                Some((Target::Primary, Reason::Transaction)),
            ),
        ];
        let panel = Panel::of(&steps, Duration::from_millis(10), ABOUT);
        let told: Vec<_> = panel
            .asked
            .iter()
            .map(|asked| (asked.server, asked.reason, asked.statements))
            .collect();
        assert_eq!(
            told,
            [("mysql-2", Reason::Fresh, 2), ("mysql-1", Reason::Write, 1)]
        );
        let text = panel.render().unwrap();
        for said in [
            "web-1",
            "mysql-2",
            "SELECT accounts",
            "4.00 ms",
            "not finished",
            "10.00 ms",
            "href=\"http://localhost:16686/trace/0af7651916cd43dd8448eb211c80319c\"",
        ] {
            assert!(text.contains(said), "{said} is not in {text}");
        }
        assert!(!text.contains("style="), "{text}");
    }

    #[test]
    fn without_a_place_for_traces_there_is_no_link_and_without_a_statement_no_server() {
        let about = About {
            traces: "",
            ..ABOUT
        };
        let steps = [step("draw the page", 0, Some(1), None)];
        let text = Panel::of(&steps, Duration::from_millis(1), about)
            .render()
            .unwrap();
        assert!(!text.contains("<a "), "{text}");
        assert!(text.contains("No database was asked"), "{text}");
        assert!(text.contains(ABOUT.trace_id), "{text}");
    }

    #[test]
    fn bars_stay_in_their_picture() {
        for (at, took) in [
            (0, Some(0)),
            (9, Some(1)),
            (10, Some(5)),
            (50, None),
            (0, None),
        ] {
            let step = step("x", at, took, None);
            let row = Row::of(&step, Duration::from_millis(10));
            let (from, wide): (f64, f64) = (row.from.parse().unwrap(), row.wide.parse().unwrap());
            assert!(from >= 0.0 && wide >= BAR_MIN - 0.01, "{from} {wide}");
            assert!(from + wide <= WIDE + 0.01, "{from} {wide}");
        }
        let nothing = step("x", 0, Some(0), None);
        assert_eq!(Row::of(&nothing, Duration::ZERO).took, "0 µs");
    }

    #[test]
    fn times_are_told_so_that_they_can_be_compared() {
        assert_eq!(milliseconds(Duration::from_micros(999)), "999 µs");
        assert_eq!(milliseconds(Duration::from_micros(1_239)), "1.23 ms");
        assert_eq!(milliseconds(Duration::from_secs(2)), "2000.00 ms");
    }
}
