//! A server, whatever its role is now.

use std::sync::{Arc, Mutex, PoisonError};

use replication::Endpoint;
use sqlx::{MySqlPool, mysql::MySqlPoolOptions};

use crate::{
    config::{Credentials, RouterConfig},
    login::Login,
    pool::Pool,
};

/// A server and the connections to it.
pub(crate) struct Server {
    name: Arc<str>,
    pub(crate) pool: Arc<Pool>,
    /// sqlx's pool, for the transactions that only it can begin; made when the first one is.
    foreign: Mutex<Option<MySqlPool>>,
    /// How that one is made.
    foreign_options: MySqlPoolOptions,
}

impl Server {
    pub(crate) fn new(
        endpoint: &Endpoint,
        config: &RouterConfig,
        credentials: &Credentials,
    ) -> Self {
        let login = Login::new(endpoint, config, credentials);
        Self {
            name: endpoint.name.as_str().into(),
            pool: Pool::new(login, config),
            foreign: Mutex::default(),
            foreign_options: MySqlPoolOptions::new()
                .max_connections(config.max_connections)
                .acquire_timeout(config.acquire_timeout())
                .max_lifetime(config.max_lifetime())
                .idle_timeout(config.idle_timeout()),
        }
    }

    /// A pool of sqlx's own. It has as many connections as may be in use beside ours, and opens them when they are asked for, each by the
    /// password and the files as they are then.
    pub(crate) fn foreign_pool(&self) -> Result<MySqlPool, sqlx::Error> {
        let options = self.pool.login.options_for_statements()?;
        let mut foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = &*foreign {
            pool.set_connect_options(options);
            return Ok(pool.clone());
        }
        let pool = self.foreign_options.clone().connect_lazy_with(options);
        Ok(foreign.insert(pool).clone())
    }

    /// Closes all connections; those that are in use finish first.
    pub(crate) async fn close(&self) {
        let foreign = self
            .foreign
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(pool) = foreign {
            pool.close().await;
        }
        self.pool.close().await;
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The same for keeping.
    pub(crate) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }
}
