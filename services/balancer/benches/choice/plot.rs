//! A picture of latencies: for each way to choose, how long the slowest of so many take. An SVG without scripts and fonts, in colours that can
//! be read on white and on black.

use std::fmt::Write;

/// Decades of "one in so many": as far as one in a thousand.
const DECADES: f64 = 3.0;
/// Room for a panel's curves.
const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 60.0;
const GAP: f64 = 62.0;
const TEXT: &str = "#7d8590";

/// One of the curves.
pub(crate) struct Curve {
    /// Who it is.
    pub(crate) name: &'static str,
    /// The time in milliseconds within which such a part of the requests is answered.
    pub(crate) quantile_ms: Box<dyn Fn(f64) -> f64>,
}

/// Curves that are compared.
pub(crate) struct Panel {
    /// What it shows.
    pub(crate) title: &'static str,
    /// The same names in the same order as in every other panel.
    pub(crate) curves: Vec<Curve>,
}

/// For each curve: its colour, and how it is dashed.
const STYLES: [(&str, &str); 4] = [
    ("#2f81f7", ""),
    ("#a371f7", "7 3"),
    ("#db6d28", "2 3"),
    ("#57ab5a", "9 3 2 3"),
];

/// The panels beside each other, on the same scale from `least_ms` to `most_ms`, both of which are powers of ten.
pub(crate) fn svg(panels: &[Panel], least_ms: f64, most_ms: f64) -> String {
    let width = LEFT + panels.len() as f64 * (WIDTH + GAP);
    let height = TOP + HEIGHT + 50.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"{TEXT}\">\n"
    );
    let names = panels.iter().take(1).flat_map(|panel| &panel.curves);
    for (at, (curve, style)) in names.zip(STYLES).enumerate() {
        let x = LEFT + at as f64 * 170.0;
        line(&mut svg, &[(x, 16.0), (x + 28.0, 16.0)], style);
        text(&mut svg, (x + 34.0, 20.0), "start", curve.name);
    }
    for (at, panel) in panels.iter().enumerate() {
        let left = LEFT + at as f64 * (WIDTH + GAP);
        draw(&mut svg, panel, left, (least_ms, most_ms));
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, panel: &Panel, left: f64, (least_ms, most_ms): (f64, f64)) {
    let x = |decades: f64| left + decades / DECADES * WIDTH;
    let y = |ms: f64| {
        let part = (ms / least_ms).log10() / (most_ms / least_ms).log10();
        TOP + HEIGHT * (1.0 - part.clamp(0.0, 1.0))
    };
    text(svg, (left + WIDTH / 2.0, TOP - 12.0), "middle", panel.title);
    let mut ms = least_ms;
    while ms <= most_ms {
        grid(svg, &[(left, y(ms)), (left + WIDTH, y(ms))]);
        let label = match ms >= 1000.0 {
            true => format!("{} s", ms / 1000.0),
            false => format!("{ms} ms"),
        };
        text(svg, (left - 6.0, y(ms) + 4.0), "end", &label);
        ms *= 10.0;
    }
    for (part, label) in [
        (0.5, "50 %"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
    ] {
        let at = x(-(1.0_f64 - part).log10());
        grid(svg, &[(at, TOP), (at, TOP + HEIGHT)]);
        text(svg, (at, TOP + HEIGHT + 18.0), "middle", label);
    }
    let below = (left + WIDTH / 2.0, TOP + HEIGHT + 38.0);
    text(svg, below, "middle", "of the answers come within");
    for (curve, style) in panel.curves.iter().zip(STYLES) {
        let points: Vec<(f64, f64)> = (0..=60)
            .map(|step| {
                let decades = f64::from(step) * DECADES / 60.0;
                let ms = (curve.quantile_ms)(1.0 - 10_f64.powf(-decades));
                (x(decades), y(ms))
            })
            .collect();
        line(svg, &points, style);
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
    );
}

fn grid(svg: &mut String, points: &[(f64, f64)]) {
    let points = joined(points);
    let _ = writeln!(
        svg,
        "<polyline points=\"{points}\" stroke=\"{TEXT}\" stroke-width=\"0.5\" opacity=\"0.5\"/>"
    );
}

fn line(svg: &mut String, points: &[(f64, f64)], (colour, dashes): (&str, &str)) {
    let points = joined(points);
    let _ = writeln!(
        svg,
        "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>"
    );
}

fn joined(points: &[(f64, f64)]) -> String {
    let points = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}"));
    points.collect::<Vec<_>>().join(" ")
}
