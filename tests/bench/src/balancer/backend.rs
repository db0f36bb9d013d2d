//! The backend that is the same for every proxy: one nginx with one worker, on two ports in plain text and on two more in TLS.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::certificates::Identity;
use crate::h2load::CIPHER_SUITE;
use crate::ports::Ports;
use crate::process::Process;
use crate::programs::nginx_user;

use super::cell::Link;

/// What proxies are asked for to see what they add: it answers with what has reached it.
pub(super) const SEEN: &str = "/seen";

/// The running backend.
#[derive(Debug)]
pub(super) struct Backend {
    /// It ends with this.
    _process: Process,
    plain: [u16; 2],
    mutual: [u16; 2],
}

impl Backend {
    pub(super) fn start(
        nginx: &Path,
        directory: &Path,
        identity: &Identity,
        ports: &mut Ports,
    ) -> Result<Backend> {
        let plain = [ports.take()?, ports.take()?];
        let mutual = [ports.take()?, ports.take()?];
        for (name, bytes) in [("1k", 1 << 10), ("64k", 1 << 16), ("1m", 1 << 20)] {
            fs::write(directory.join(name), vec![b'x'; bytes])?;
        }
        let config = directory.join("nginx.conf");
        let text = text(directory, identity, plain, mutual);
        fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        let mut command = Command::new(nginx);
        command.arg("-p").arg(directory).arg("-c").arg(&config);
        command
            .arg("-e")
            .arg(directory.join("error.log"))
            .args(["-g", "daemon off;"]);
        let process = Process::start("the backend", command, &directory.join("output"))?;
        Ok(Backend {
            _process: process,
            plain,
            mutual,
        })
    }

    pub(super) fn ports(&self, link: Link) -> [u16; 2] {
        match link {
            Link::Plain => self.plain,
            Link::Mutual => self.mutual,
        }
    }
}

/// Its configuration. `return` answers before a body was read; but what is mirrored is read first, so an upload is taken whole.
fn text(directory: &Path, identity: &Identity, plain: [u16; 2], mutual: [u16; 2]) -> String {
    let directory = directory.display();
    let certificate = identity.certificate();
    let (certificate, key) = (certificate.display(), identity.key());
    let (key, authority) = (key.display(), identity.authority());
    let authority = authority.display();
    let ([plain_1, plain_2], [mutual_1, mutual_2]) = (plain, mutual);
    let user = nginx_user();
    format!(
        r#"{user}worker_processes 1;
worker_rlimit_nofile 20000;
pid {directory}/pid;
events {{ worker_connections 10000; }}
http {{
    access_log off;
    error_log {directory}/error.log crit;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    open_file_cache max=16 inactive=1h;
    client_max_body_size 4m;
    client_body_buffer_size 2m;
    client_body_temp_path {directory}/t1;
    proxy_temp_path {directory}/t2;
    fastcgi_temp_path {directory}/t3;
    uwsgi_temp_path {directory}/t4;
    scgi_temp_path {directory}/t5;
    server {{
        listen 127.0.0.1:{plain_1} backlog=4096;
        listen 127.0.0.1:{plain_2} backlog=4096;
        listen 127.0.0.1:{mutual_1} ssl backlog=4096;
        listen 127.0.0.1:{mutual_2} ssl backlog=4096;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_client_certificate {authority};
        ssl_protocols TLSv1.3;
        ssl_conf_command Ciphersuites {CIPHER_SUITE};
        # Of a connection in plain text nothing is required.
        ssl_verify_client on;
        root {directory};
        location = /readyz {{ return 200; }}
        location = {SEEN} {{
            return 200 "[$http_x_request_id] [$http_x_forwarded_for] [$http_x_forwarded_proto]";
        }}
        location = /upload {{
            mirror /mirrored;
            root {directory}/none;
            log_not_found off;
            error_page 404 405 =200 /taken;
        }}
        location = /mirrored {{ internal; return 204; }}
        location = /taken {{ internal; return 200 "taken"; }}
    }}
}}
"#
    )
}
