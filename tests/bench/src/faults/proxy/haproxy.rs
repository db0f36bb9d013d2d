//! HAProxy's configuration.
//!
//! `observe layer7` with `on-error mark-down` is what it has for a backend that passes its checks and fails at its work; the checks then bring
//! it back. `disable-l7-retry` is its manual's way to keep a POST from being done twice.

use std::ffi::OsString;

use anyhow::Result;

use super::Setting;

pub(super) fn arguments(setting: &Setting) -> Result<Vec<OsString>> {
    let Setting {
        identity,
        port,
        backends: [web_1, web_2],
        ..
    } = setting;
    let both = identity.both();
    let both = both.display();
    let text = format!(
        r"global
    nbthread 1
    maxconn 8192
    # It would need two files for each connection, and does not here.
    no strict-limits
    log stdout format raw local0 notice
    ssl-default-bind-options ssl-min-ver TLSv1.3

defaults
    mode http
    log global
    timeout connect 1s
    timeout check 1s
    timeout client 60s
    timeout server 2s
    timeout http-request 10s
    timeout http-keep-alive 60s

frontend edge
    bind 127.0.0.1:{port} ssl crt {both} alpn h2,http/1.1 backlog 4096
    default_backend web

backend web
    balance leastconn
    option httpchk GET /readyz
    http-check expect status 200
    option redispatch 1
    retries 2
    retry-on all-retryable-errors
    http-request disable-l7-retry if METH_POST !{{ req.hdr(idempotency-key) -m found }}
    default-server check inter 1s fastinter 250ms rise 2 fall 3
    default-server observe layer7 error-limit 5 on-error mark-down slowstart 10s
    server web-1 127.0.0.1:{web_1}
    server web-2 127.0.0.1:{web_2}
"
    );
    let config = setting.write("haproxy.cfg", &text)?;
    Ok(vec!["-db".into(), "-f".into(), config.into()])
}
