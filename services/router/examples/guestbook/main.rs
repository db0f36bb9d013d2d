//! A guestbook, on a plain pool or on a router: the same source, `app.rs`, compiled twice.
//!
//! ```text
//! guestbook pool mysql://user:password@host/database
//! guestbook router FILE      with the shape of `Settings` below, in JSON
//! ```

#![allow(clippy::duplicate_mod)] // it is what is to be seen here

mod on_pool;
mod on_router;

use std::{path::PathBuf, time::Duration};

use prometheus::Registry;
use router::{CausalKey, Credentials, Password, Router, RouterConfig};
use serde::Deserialize;
use tokio::net::TcpListener;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("examples/guestbook/migrations");

/// How long to wait for a primary.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a router needs to know, where a pool has its URL.
#[derive(Deserialize)]
struct Settings {
    router: RouterConfig,
    user: String,
    password_file: PathBuf,
    /// The directory with `ca.crt`, `tls.crt` and `tls.key`.
    identity: PathBuf,
    /// Signs causal tokens; processes that shall believe each other's have the same.
    causal_key_file: PathBuf,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let app = match words[..] {
        ["pool", url] => {
            let db = sqlx::MySqlPool::connect(url).await?;
            MIGRATIONS.run(&db).await?;
            on_pool::app::app(db)
        }
        ["router", file] => {
            let db = connect(file)?;
            // A pool has tried to connect by now; a router is still finding out who is primary.
            db.wait_for_primary(PATIENCE).await?;
            MIGRATIONS.run(&db).await?;
            on_router::app::app(db)
        }
        _ => return Err("usage: guestbook pool URL | guestbook router FILE".into()),
    };
    let listener = TcpListener::bind("127.0.0.1:8000").await?;
    println!("listening at http://{}/notes", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

fn connect(file: &str) -> Result<Router, Box<dyn std::error::Error>> {
    let settings: Settings = serde_json::from_slice(&std::fs::read(file)?)?;
    let key = CausalKey::new(&std::fs::read(&settings.causal_key_file)?);
    let password = Password::File(settings.password_file);
    let credentials = Credentials::new(&settings.user, password, &settings.identity, key);
    // The application's own registry, where there is one.
    let registry = Registry::new();
    Ok(Router::connect(settings.router, &credentials, &registry)?)
}
