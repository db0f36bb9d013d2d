//! Envoy's configuration.
//!
//! - Slow start is set, and with it the least busy host is drawn by weights that follow how busy hosts are. Without it and with `FULL_SCAN`
//!   the least busy one is always found; then a frozen, slow or cold host gets less, and one that fails fast gets every retry too, for it is
//!   never busy (`previous_hosts` can only ask again).
//! - A check that is passed does not end an ejection, for a backend that fails at its work may pass all of them. Ejections are reviewed every
//!   second, not every ten.
//! - A retry goes to another host: it is asked for up to 30 times. The limit of 3 retries at one time is raised; no other proxy here has one
//!   so low.
//! - Without `no_traffic_interval` the second check would come after a minute.

use std::ffi::OsString;

use anyhow::Result;

use super::Setting;

pub(super) fn arguments(setting: &Setting) -> Result<Vec<OsString>> {
    let Setting {
        identity,
        port,
        aside: [admin, _],
        backends: [web_1, web_2],
        ..
    } = setting;
    let (certificate, key) = (identity.certificate(), identity.key());
    let (certificate, key) = (certificate.display(), key.display());
    let policy = |retry_on: &str| {
        format!(
            r#"cluster: web
                  timeout: 0s
                  retry_policy:
                    retry_on: {retry_on}
                    num_retries: 2
                    per_try_timeout: 2s
                    host_selection_retry_max_attempts: 30
                    retry_host_predicate:
                    - name: envoy.retry_host_predicates.previous_hosts
                      typed_config:
                        "@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"#
        )
    };
    let any_failure = policy("5xx");
    let nothing_sent = policy("connect-failure,refused-stream,reset-before-request");
    let text = format!(
        r#"admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {admin} }} }} }}
static_resources:
  listeners:
  - name: edge
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    tcp_backlog_size: 4096
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_params: {{ tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3 }}
            tls_certificates: [{{ certificate_chain: {{ filename: "{certificate}" }}, private_key: {{ filename: "{key}" }} }}]
      filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: edge
          http_filters:
          - name: router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{ prefix: "/", headers: [{{ name: ":method", string_match: {{ exact: GET }} }}] }}
                route:
                  {any_failure}
              - match: {{ prefix: "/", headers: [{{ name: idempotency-key, present_match: true }}] }}
                route:
                  {any_failure}
              - match: {{ prefix: "/" }}
                route:
                  {nothing_sent}
  clusters:
  - name: web
    type: STATIC
    lb_policy: LEAST_REQUEST
    least_request_lb_config:
      slow_start_config: {{ slow_start_window: 10s, min_weight_percent: {{ value: 10 }} }}
    connect_timeout: 1s
    circuit_breakers:
      thresholds: [{{ max_connections: 4096, max_pending_requests: 4096, max_requests: 4096, max_retries: 4096 }}]
    health_checks:
    - timeout: 1s
      interval: 1s
      no_traffic_interval: 1s
      unhealthy_interval: 0.25s
      unhealthy_edge_interval: 0.25s
      healthy_threshold: 2
      unhealthy_threshold: 3
      http_health_check: {{ path: /readyz }}
    outlier_detection:
      consecutive_5xx: 5
      interval: 1s
      base_ejection_time: 5s
      max_ejection_percent: 50
      successful_active_health_check_uneject_host: false
    load_assignment:
      cluster_name: web
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {web_1} }} }} }}
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {web_2} }} }} }}
"#
    );
    let config = setting.write("envoy.yaml", &text)?;
    let arguments = [
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "error",
        "-c",
    ];
    let mut arguments: Vec<OsString> = arguments.map(Into::into).into();
    arguments.push(config.into());
    Ok(arguments)
}
