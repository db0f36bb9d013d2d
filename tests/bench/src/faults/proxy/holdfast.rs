//! Our balancer's configuration: what is shipped, but for where things are, plain text, how long an answer may take,
//! and that all clients have one address.

use std::ffi::OsString;

use anyhow::Result;

use super::Setting;

pub(super) fn arguments(setting: &Setting) -> Result<Vec<OsString>> {
    let Setting {
        directory,
        identity,
        port,
        aside: [redirect, metrics],
        backends: [web_1, web_2],
    } = setting;
    let identity = identity.directory();
    let socket = directory.join("admin.sock");
    let state = directory.join("backends.json");
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
[edge]
https_port = {port}
[backend]
tls = "off"
first_byte_timeout_ms = 2000
[balancing]
state_file = {state:?}
[clients]
connections_max = 0
[access_log]
enabled = false
[metrics]
listen = "127.0.0.1:{metrics}"
[traces]
enabled = false
"#
    );
    let config = setting.write("balancer.toml", &text)?;
    Ok(vec!["--config".into(), config.into()])
}
