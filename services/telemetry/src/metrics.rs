//! Metrics, in the text format that Prometheus reads, and the port that it reads them from.

mod endpoint;

pub use endpoint::{Endpoint, EndpointConfig, EndpointError, serve};
use prometheus::{Encoder, TextEncoder};
pub use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// Upper bounds of duration histograms in seconds: OpenTelemetry's advice for HTTP servers, so that ours can be compared with others'.
pub const DURATION_BUCKETS_SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// The content type of [`render`]'s text.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// All metrics of the registry as text.
#[must_use]
pub fn render(registry: &Registry) -> String {
    let mut text = Vec::new();
    TextEncoder::new()
        .encode(&registry.gather(), &mut text)
        .expect("writing to memory cannot fail, and a registry refuses inconsistent metrics at registration");
    String::from_utf8(text).expect("the text format is UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registered_counter_is_rendered_with_its_help_and_value() {
        let registry = Registry::new();
        let counter =
            IntCounter::new("sample_requests_total", "Requests that were answered.").unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        counter.inc_by(3);
        assert_eq!(
            render(&registry),
            "# HELP sample_requests_total Requests that were answered.\n# TYPE sample_requests_total counter\nsample_requests_total 3\n"
        );
    }
}
