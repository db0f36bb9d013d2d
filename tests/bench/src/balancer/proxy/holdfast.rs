//! Our balancer's configuration: what is shipped, but for what a comparison needs.

use anyhow::Result;

use super::{Launch, Setting};
use crate::balancer::cell::Link;

/// Spans are made for one request in a hundred, and cannot be sent: nobody is there. The others make none.
pub(super) fn launch(setting: &Setting) -> Result<Launch> {
    let Setting {
        directory,
        identity,
        port,
        aside: [redirect, metrics],
        backends: [web_1, web_2],
        link,
        connections_max,
        check_interval,
    } = setting;
    // Mutual TLS is the default.
    let tls = match link {
        Link::Plain => "tls = \"off\"\n",
        Link::Mutual => "",
    };
    let identity = identity.directory();
    let socket = directory.join("admin.sock");
    let check_interval = check_interval.as_millis();
    let text = format!(
        r#"identity = {identity:?}
admin_socket = {socket:?}
threads = 1
backends = [
    {{ name = "web-1", host = "127.0.0.1", port = {web_1} }},
    {{ name = "web-2", host = "127.0.0.1", port = {web_2} }},
]
[listen]
https = "127.0.0.1:{port}"
redirect = "127.0.0.1:{redirect}"
connections_max = {connections_max}
handshake_timeout_ms = 60000
[edge]
https_port = {port}
expose_topology = false
trace_sample_percent = 1
[request]
keep_alive_s = 600
[backend]
{tls}idle_connections_max = 1024
idle_s = 20
connect_timeout_ms = 30000
handshake_timeout_ms = 30000
answer_timeout_ms = 60000
[health]
interval_ms = {check_interval}
timeout_ms = 30000
[metrics]
listen = "127.0.0.1:{metrics}"
[traces]
endpoint = "https://127.0.0.1:1"
"#
    );
    let config = setting.write("balancer.toml", &text)?;
    Ok(Launch {
        arguments: vec!["--config".into(), config.into()],
        logs_to_output: true,
    })
}
