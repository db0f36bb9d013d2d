//! `web migrate`: brings the schema `ledger` to what this release needs, and ends.
//!
//! It waits for the primary as long as it takes, and may run as often and as many at once as one likes: each migration is applied once.
//! It has connections of its own, not the router's: a migration may take longer than any statement of a request.

use std::time::Duration;

use router::{Credentials, RouterConfig};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, MySqlConnection,
    migrate::{MigrateError, Migrator},
    mysql::{MySqlConnectOptions, MySqlSslMode},
};

use crate::ledger;

/// The schema.
const SCHEMA: &str = "ledger";

/// Between two looks for the primary.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Applies what is missing, once a primary is there.
///
/// # Errors
/// What waiting does not cure: a migration that the server refuses, or one that was changed after it was applied.
pub async fn migrate(database: &RouterConfig, access: &Credentials) -> Result<(), MigrateError> {
    let mut said = String::new();
    loop {
        let obstacle = match primary(database, access).await {
            Ok(connection) => match apply(connection).await {
                Err(error) if is_passing(&error) => format!("the primary: {error}"),
                outcome => return outcome,
            },
            Err(obstacle) => obstacle,
        };
        if said != obstacle {
            tracing::info!(%obstacle, "waiting for the primary");
            said = obstacle;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A connection to the server that the highest published epoch names as the primary, if it takes writes; else what stands against it.
async fn primary(database: &RouterConfig, access: &Credentials) -> Result<MySqlConnection, String> {
    let mut obstacles = Vec::new();
    let mut newest: Option<(u64, String)> = None;
    let mut open = Vec::new();
    for server in &database.servers {
        match ask(&server.host, server.port, access).await {
            Ok((connection, published, takes_writes)) => {
                newest = newest.max(published);
                if takes_writes {
                    open.push((server, connection));
                } else {
                    obstacles.push(format!("{} takes no writes", server.name));
                }
            }
            Err(error) => obstacles.push(format!("{}: {error}", server.name)),
        }
    }
    let Some((_, name)) = newest else {
        obstacles.push("no server says who is the primary".to_owned());
        return Err(obstacles.join("; "));
    };
    match open.into_iter().find(|(server, _)| server.name == name) {
        Some((_, connection)) => Ok(connection),
        None => Err(obstacles.join("; ")),
    }
}

/// Logs in, and asks whom the server knows as the primary of which epoch, and whether it takes writes itself.
async fn ask(
    host: &str,
    port: u16,
    access: &Credentials,
) -> Result<(MySqlConnection, Option<(u64, String)>, bool), sqlx::Error> {
    let password = access.password.read().map_err(sqlx::Error::Io)?;
    let options = MySqlConnectOptions::new()
        .host(host)
        .port(port)
        .username(&access.user)
        .password(&password)
        .ssl_mode(MySqlSslMode::VerifyIdentity)
        .ssl_ca(&access.tls.ca)
        .ssl_client_cert(&access.tls.cert)
        .ssl_client_key(&access.tls.key);
    let mut connection = options.connect().await?;
    let read_only: bool =
        sqlx::query_scalar("SELECT @@GLOBAL.super_read_only OR @@GLOBAL.read_only")
            .fetch_one(&mut connection)
            .await?;
    let published = sqlx::query_as("SELECT epoch, primary_server FROM holdfast.cluster")
        .fetch_optional(&mut connection)
        .await?;
    Ok((connection, published, !read_only))
}

/// Applies what is missing, one `web migrate` at a time.
async fn apply(mut connection: MySqlConnection) -> Result<(), MigrateError> {
    for statement in [
        format!("CREATE DATABASE IF NOT EXISTS {SCHEMA}"),
        format!("USE {SCHEMA}"),
        // Held until the connection ends; who comes second waits, and finds nothing to do.
        "DO GET_LOCK('holdfast.ledger.migrate', -1)".to_owned(),
    ] {
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut connection)
            .await?;
    }
    let mut migrator: Migrator = sqlx::migrate!("../../migrations");
    // An older release runs on a newer schema: expand, roll, contract.
    migrator.set_ignore_missing(true).set_locking(false);
    forget_the_interrupted(&mut connection).await?;
    let before = applied(&mut connection).await?;
    migrator.run(&mut connection).await?;
    let after = applied(&mut connection).await?;
    tracing::info!(
        applied = after - before,
        version = after,
        "the schema is what this release needs"
    );
    connection.close().await?;
    Ok(())
}

/// Takes out the mark of a migration that was killed half way, so that it is applied again. Each is one statement that may be applied
/// twice (migrations/README.md); MySQL has no transaction around it that could be rolled back.
async fn forget_the_interrupted(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    if table_exists(connection).await? {
        sqlx::raw_sql("DELETE FROM _sqlx_migrations WHERE success = FALSE")
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// How many migrations have been applied.
async fn applied(connection: &mut MySqlConnection) -> Result<i64, sqlx::Error> {
    if !table_exists(connection).await? {
        return Ok(0);
    }
    sqlx::query_scalar("SELECT COUNT(*) FROM _sqlx_migrations")
        .fetch_one(connection)
        .await
}

async fn table_exists(connection: &mut MySqlConnection) -> Result<bool, sqlx::Error> {
    let tables: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = '_sqlx_migrations'",
    )
    .fetch_one(connection)
    .await?;
    Ok(tables > 0)
}

/// Whether it is worth trying again.
fn is_passing(error: &MigrateError) -> bool {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            ledger::error::is_passing(error)
        }
        _ => false,
    }
}
