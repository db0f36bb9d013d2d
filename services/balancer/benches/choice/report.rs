//! What the simulation has come to: a part of a document, and its picture.

use crate::comparison::{
    Comparison, OURS, RANDOM, ROUND_ROBIN, TWO_CHOICES, all, equal_lognormal, one_is_slow,
    one_is_slow_at_night,
};
use crate::plot::{Curve, Panel, svg};
use crate::simulation::chooser::Way;
use crate::simulation::filling::skew_max;
use crate::table::table;

/// How many requests come when none ends.
const FILLING: usize = 1000;

/// Tables in Markdown.
pub(crate) fn markdown() -> String {
    let parts = all().iter().map(of_scene).collect::<String>();
    format!("{parts}{}", of_filling())
}

/// The picture: who is how late.
pub(crate) fn picture() -> String {
    let scenes = [equal_lognormal(), one_is_slow_at_night(), one_is_slow()];
    let panels = scenes.map(|comparison| Panel {
        title: comparison.title,
        curves: comparison
            .results
            .into_iter()
            .map(|(name, measures)| Curve {
                name,
                quantile_ms: Box::new(move |part| measures.quantile_ms(part)),
            })
            .collect(),
    });
    svg(&panels, 1.0, 100_000.0)
}

fn of_scene(comparison: &Comparison) -> String {
    let head = [
        "",
        "p50, ms",
        "p99, ms",
        "mean, ms",
        "share of each, %",
        "errors, %",
        "skew: mean, most",
        "most waiting at each",
    ];
    let rows: Vec<Vec<String>> = comparison
        .results
        .iter()
        .map(|(name, measures)| {
            let shares = measures.shares();
            let shares = shares.iter().map(|share| format!("{:.0}", share * 100.0));
            let waiting = measures.waiting_max().iter().map(usize::to_string);
            vec![
                (*name).to_owned(),
                format!("{:.1}", measures.quantile_ms(0.5)),
                format!("{:.1}", measures.quantile_ms(0.99)),
                format!("{:.1}", measures.mean_ms()),
                shares.collect::<Vec<_>>().join(" "),
                format!("{:.1}", measures.errors() * 100.0),
                format!("{:.2}, {}", measures.skew_mean(), measures.skew_max()),
                waiting.collect::<Vec<_>>().join(" "),
            ]
        })
        .collect();
    format!(
        "### {}\n\n{} {:.0} requests/s, which is {:.0} % of what the servers can do.\n\n{}\n",
        comparison.title,
        comparison.about,
        comparison.scene.requests_per_s(),
        comparison.scene.load * 100.0,
        table(&head, &rows)
    )
}

fn of_filling() -> String {
    let ways = [
        (OURS, Way::OURS),
        (TWO_CHOICES, Way::TwoChoices),
        (ROUND_ROBIN, Way::RoundRobin),
        (RANDOM, Way::Random),
    ];
    let rows: Vec<Vec<String>> = (1..=4)
        .map(|balancers| {
            let skews = ways.map(|(_, way)| skew_max(way, balancers, 4, FILLING, 1).to_string());
            [balancers.to_string()].into_iter().chain(skews).collect()
        })
        .collect();
    let head = ["balancers", OURS, TWO_CHOICES, ROUND_ROBIN, RANDOM];
    format!(
        "### Requests that only come\n\n{FILLING} requests of which none ends: how far apart four backends ever were, of all balancers together. \
         For least connections that is at most the number of balancers, because each alone is never more than one apart.\n\n{}",
        table(&head, &rows)
    )
}
