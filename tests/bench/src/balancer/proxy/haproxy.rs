//! HAProxy's configuration.

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
    let both = identity.both();
    let both = both.display();
    let authority = identity.authority();
    let authority = authority.display();
    let check_interval = check_interval.as_millis();
    let tls = |name: &str| match link {
        Link::Plain => String::new(),
        Link::Mutual => format!(
            " ssl verify required ca-file {authority} crt {both} sni str({name}) check-sni {name} verifyhost {name}"
        ),
    };
    let (tls_1, tls_2) = (tls("web-1"), tls("web-2"));
    let text = format!(
        r#"global
    nbthread 1
    maxconn {connections_max}
    # It would need two files for each connection, and does not here.
    no strict-limits
    log stdout format raw local0 info
    ssl-default-bind-options ssl-min-ver TLSv1.3
    ssl-default-server-options ssl-min-ver TLSv1.3

defaults
    mode http
    log global
    http-reuse always
    timeout connect 30s
    timeout check 30s
    timeout client 600s
    timeout server 60s
    timeout http-request 60s
    timeout http-keep-alive 600s

frontend edge
    bind 127.0.0.1:{port} ssl crt {both} alpn h2,http/1.1 backlog 4096
    maxconn {connections_max}
    unique-id-format %[uuid()]
    http-request set-header x-request-id %[unique-id]
    http-request set-header x-forwarded-for %[src]
    http-request set-header x-forwarded-proto https
    http-response set-header x-request-id %[unique-id]
    http-response set-header strict-transport-security "max-age=31536000"
    log-format '{{"ts":"%trg","request_id":"%ID","client":"%ci","protocol":"%HV","method":"%HM","path":"%{{+E}}HPO","status":%ST,"backend":"%s","tries":"%rc","received_bytes":%U,"sent_bytes":%B,"connect_ms":%Tc,"first_byte_ms":%Tr,"duration_ms":%Ta,"termination":"%tsc"}}'
    default_backend web

backend web
    balance leastconn
    option httpchk GET /readyz
    http-check expect status 200
    server web-1 127.0.0.1:{web_1} pool-purge-delay 60s check inter {check_interval}{tls_1}
    server web-2 127.0.0.1:{web_2} pool-purge-delay 60s check inter {check_interval}{tls_2}

frontend metrics
    bind 127.0.0.1:{metrics}
    no log
    http-request use-service prometheus-exporter
"#
    );
    let config = setting.write("haproxy.cfg", &text)?;
    Ok(Launch {
        arguments: vec!["-db".into(), "-f".into(), config.into()],
        logs_to_output: true,
    })
}
