//! Envoy's configuration.

use anyhow::Result;

use super::{Launch, Setting};
use crate::balancer::cell::Link;

pub(super) fn launch(setting: &Setting) -> Result<Launch> {
    let Setting {
        identity,
        port,
        aside: [metrics, _],
        backends: [web_1, web_2],
        link,
        connections_max,
        check_interval,
        ..
    } = setting;
    let (certificate, key) = (identity.certificate(), identity.key());
    let (certificate, key) = (certificate.display(), key.display());
    let authority = identity.authority();
    let authority = authority.display();
    let log = setting.access_log();
    let log = log.display();
    let check_interval = check_interval.as_secs().max(1);
    let tls = match link {
        Link::Plain => String::new(),
        // Of a cluster one name is checked; the certificate is good for both.
        Link::Mutual => format!(
            r#"
    transport_socket:
      name: tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: web-1
        common_tls_context:
          tls_params: {{ tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3 }}
          tls_certificates: [{{ certificate_chain: {{ filename: "{certificate}" }}, private_key: {{ filename: "{key}" }} }}]
          validation_context:
            trusted_ca: {{ filename: "{authority}" }}
            match_typed_subject_alt_names: [{{ san_type: DNS, matcher: {{ exact: web-1 }} }}]"#
        ),
    };
    let text = format!(
        r#"admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {metrics} }} }} }}
overload_manager:
  resource_monitors:
  - name: envoy.resource_monitors.global_downstream_max_connections
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig
      max_active_downstream_connections: {connections_max}
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
          use_remote_address: true
          always_set_request_id_in_response: true
          access_log:
          - name: file
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: "{log}"
              log_format:
                json_format:
                  ts: "%START_TIME%"
                  request_id: "%REQ(X-REQUEST-ID)%"
                  client: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
                  protocol: "%PROTOCOL%"
                  method: "%REQ(:METHOD)%"
                  path: "%REQ(:PATH)%"
                  status: "%RESPONSE_CODE%"
                  backend: "%UPSTREAM_HOST%"
                  tries: "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"
                  received_bytes: "%BYTES_RECEIVED%"
                  sent_bytes: "%BYTES_SENT%"
                  first_byte_ms: "%RESPONSE_DURATION%"
                  duration_ms: "%DURATION%"
                  termination: "%RESPONSE_FLAGS%"
          http2_protocol_options: {{ max_concurrent_streams: 100 }}
          http_filters:
          - name: router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
          route_config:
            response_headers_to_add:
            - header: {{ key: strict-transport-security, value: max-age=31536000 }}
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{ match: {{ prefix: "/" }}, route: {{ cluster: web, timeout: 60s }} }}]
  clusters:
  - name: web
    type: STATIC
    lb_policy: LEAST_REQUEST
    connect_timeout: 30s
    circuit_breakers:
      thresholds: [{{ max_connections: 4096, max_pending_requests: 4096, max_requests: 4096 }}]
    health_checks:
    - timeout: 30s
      interval: {check_interval}s
      healthy_threshold: 2
      unhealthy_threshold: 3
      http_health_check: {{ path: /readyz }}
    load_assignment:
      cluster_name: web
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {web_1} }} }} }}
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {web_2} }} }} }}{tls}
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
    let mut arguments: Vec<_> = arguments.map(Into::into).into();
    arguments.push(config.into());
    Ok(Launch {
        arguments,
        logs_to_output: false,
    })
}
