//! nginx's configuration.
//!
//! It has neither checks nor slow start; those are sold. What it has is to count errors of traffic (`max_fails`). Whether a POST may be tried
//! again cannot depend on a header within one `location`, so those with a key go to another one, by the usual detour over an error page.

use std::ffi::OsString;

use anyhow::Result;

use super::Setting;
use crate::programs::nginx_user;

pub(super) fn arguments(setting: &Setting) -> Result<Vec<OsString>> {
    let Setting {
        directory,
        identity,
        port,
        backends: [web_1, web_2],
        ..
    } = setting;
    let directory = directory.display();
    let (certificate, key) = (identity.certificate(), identity.key());
    let (certificate, key) = (certificate.display(), key.display());
    let user = nginx_user();
    let text = format!(
        r#"{user}worker_processes 1;
worker_rlimit_nofile 20000;
pid {directory}/pid;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    error_log {directory}/error.log crit;
    client_body_temp_path {directory}/t1;
    proxy_temp_path {directory}/t2;
    fastcgi_temp_path {directory}/t3;
    uwsgi_temp_path {directory}/t4;
    scgi_temp_path {directory}/t5;
    keepalive_requests 1000000;
    map "$request_method $http_idempotency_key" $is_keyed {{
        default 0;
        "~^POST ." 1;
    }}
    upstream web {{
        least_conn;
        server 127.0.0.1:{web_1} max_fails=5 fail_timeout=5s;
        server 127.0.0.1:{web_2} max_fails=5 fail_timeout=5s;
        keepalive 1024;
    }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    proxy_connect_timeout 1s;
    proxy_read_timeout 2s;
    proxy_next_upstream_tries 3;
    proxy_next_upstream error timeout invalid_header http_500 http_502 http_503 http_504;
    server {{
        listen 127.0.0.1:{port} ssl http2 backlog=4096;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3;
        location / {{
            error_page 418 = @keyed;
            if ($is_keyed) {{ return 418; }}
            proxy_pass http://web;
        }}
        location @keyed {{
            proxy_next_upstream error timeout invalid_header http_500 http_502 http_503 http_504 non_idempotent;
            proxy_pass http://web;
        }}
    }}
}}
"#
    );
    let config = setting.write("nginx.conf", &text)?;
    let error_log = setting.directory.join("error.log");
    Ok(vec![
        "-p".into(),
        setting.directory.clone().into(),
        "-e".into(),
        error_log.into(),
        "-c".into(),
        config.into(),
        "-g".into(),
        "daemon off;".into(),
    ])
}
