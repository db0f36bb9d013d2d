//! nginx's configuration: as its manual has it for a proxy that keeps connections, with buffers that spare it temporary files.

use anyhow::Result;

use super::{Launch, Setting};
use crate::balancer::cell::Link;
use crate::programs::nginx_user;

pub(super) fn launch(setting: &Setting) -> Result<Launch> {
    let Setting {
        directory,
        identity,
        port,
        aside: [metrics, _],
        backends: [web_1, web_2],
        link,
        connections_max,
        ..
    } = setting;
    let directory = directory.display();
    let (certificate, key) = (identity.certificate(), identity.key());
    let (certificate, key) = (certificate.display(), key.display());
    let authority = identity.authority();
    let authority = authority.display();
    let log = setting.access_log();
    let log = log.display();
    let connections = connections_max + 4096;
    let user = nginx_user();
    let (scheme, tls) = match link {
        Link::Plain => ("http", String::new()),
        // Of a group of backends only one name can be checked; the certificate is good for both.
        Link::Mutual => (
            "https",
            format!(
                "proxy_ssl_certificate {certificate};
            proxy_ssl_certificate_key {key};
            proxy_ssl_trusted_certificate {authority};
            proxy_ssl_verify on;
            proxy_ssl_name web-1;
            proxy_ssl_server_name on;
            proxy_ssl_protocols TLSv1.3;"
            ),
        ),
    };
    let text = format!(
        r#"{user}worker_processes 1;
worker_rlimit_nofile {connections};
pid {directory}/pid;
events {{ worker_connections {connections}; }}
http {{
    log_format json escape=json '{{"ts":"$time_iso8601","request_id":"$request_id","client":"$remote_addr",'
        '"protocol":"$server_protocol","method":"$request_method","path":"$uri","status":$status,"backend":"$upstream_addr",'
        '"received_bytes":$request_length,"sent_bytes":$body_bytes_sent,"connect_s":"$upstream_connect_time",'
        '"first_byte_s":"$upstream_header_time","duration_s":$request_time}}';
    access_log {log} json buffer=64k flush=1s;
    error_log {directory}/error.log warn;
    client_body_temp_path {directory}/t1;
    proxy_temp_path {directory}/t2;
    fastcgi_temp_path {directory}/t3;
    uwsgi_temp_path {directory}/t4;
    scgi_temp_path {directory}/t5;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_max_body_size 16m;
    upstream web {{
        least_conn;
        server 127.0.0.1:{web_1};
        server 127.0.0.1:{web_2};
        keepalive 1024;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} ssl http2 backlog=4096;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3;
        add_header Strict-Transport-Security "max-age=31536000" always;
        add_header X-Request-Id $request_id always;
        location / {{
            proxy_pass {scheme}://web;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Request-Id $request_id;
            proxy_connect_timeout 30s;
            proxy_request_buffering off;
            proxy_buffers 8 32k;
            proxy_busy_buffers_size 64k;
            proxy_max_temp_file_size 0;
            {tls}
        }}
    }}
    server {{
        listen 127.0.0.1:{metrics};
        access_log off;
        location / {{ stub_status; }}
    }}
}}
"#
    );
    let config = setting.write("nginx.conf", &text)?;
    let error_log = setting.directory.join("error.log");
    Ok(Launch {
        arguments: vec![
            "-p".into(),
            setting.directory.clone().into(),
            "-e".into(),
            error_log.into(),
            "-c".into(),
            config.into(),
            "-g".into(),
            "daemon off;".into(),
        ],
        logs_to_output: false,
    })
}
