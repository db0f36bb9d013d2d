//! Reading the configuration anew: the backends of the new one are taken over, and nothing that is in flight is disturbed.
//!
//! Everything else that has changed needs a restart, and is told of, so that nobody believes it in force.

use std::sync::Arc;

use chassis::cli::Loader;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::edge::Edge;
use crate::keeper::Keeper;

/// Where the configuration comes from, and where it goes.
#[derive(Debug)]
pub struct Reload {
    edge: Arc<Edge>,
    keeper: Arc<Keeper>,
    loader: Loader<Config>,
}

impl Reload {
    /// For this balancer.
    pub fn new(edge: &Arc<Edge>, keeper: &Arc<Keeper>, loader: Loader<Config>) -> Reload {
        Reload {
            edge: Arc::clone(edge),
            keeper: Arc::clone(keeper),
            loader,
        }
    }

    /// Once. What has changed, in a sentence.
    ///
    /// # Errors
    /// When the new configuration is wrong: nothing changes then.
    pub fn reload(&self) -> Result<String, String> {
        let config = self.loader.load().map_err(|error| error.to_string())?;
        let before = self.edge.roster.chooser().backends().len();
        let late = needs_restart(&self.edge.config, &config);
        self.edge.roster.configured(config.backends);
        self.keeper.reconcile(&self.edge, None);
        let after = self.edge.roster.chooser().backends().len();
        let mut told = format!("reloaded: {after} backends, {before} before");
        if !late.is_empty() {
            told.push_str(&format!("; a restart is needed for {}", late.join(", ")));
        }
        Ok(told)
    }

    /// At every SIGHUP.
    pub async fn on_hangup(self: Arc<Reload>) {
        let Ok(mut hangups) = signal(SignalKind::hangup()) else {
            return;
        };
        while hangups.recv().await.is_some() {
            match self.reload() {
                Ok(told) => tracing::info!("{told}"),
                Err(error) => tracing::error!(error, "the configuration is wrong; nothing changes"),
            }
        }
    }
}

/// The keys beside the backends that are not as they were.
fn needs_restart(before: &Config, after: &Config) -> Vec<String> {
    let flat = |config: &Config| {
        let mut keys = Vec::new();
        match toml::Value::try_from(config) {
            Ok(value) => flatten("", &value, &mut keys),
            Err(error) => tracing::error!(%error, "a configuration cannot be compared"),
        }
        keys
    };
    let (before, after) = (flat(before), flat(after));
    let differ = after.iter().filter(|one| !before.contains(one));
    differ.map(|(key, _)| key.clone()).collect()
}

fn flatten(prefix: &str, value: &toml::Value, keys: &mut Vec<(String, String)>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                match prefix {
                    "" if key == "backends" => {}
                    "" => flatten(key, value, keys),
                    prefix => flatten(&format!("{prefix}.{key}"), value, keys),
                }
            }
        }
        value => keys.push((prefix.to_owned(), value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_restart_is_named_and_backends_do_not() {
        let load = |pairs: &[(&str, &str)]| {
            let environment = pairs.iter().map(|(key, value)| {
                let name = format!("HOLDFAST_BALANCER__{key}");
                (name, (*value).to_owned())
            });
            chassis::config::load::<Config>(None, environment).unwrap()
        };
        let before = load(&[]);
        let after = load(&[
            ("BACKENDS", r#"[{ name = "web-9", host = "a", port = 1 }]"#),
            ("REQUEST__KEEP_ALIVE_S", "9"),
            ("INSTANCE", "2"),
        ]);
        assert_eq!(
            vec!["instance", "request.keep_alive_s"],
            needs_restart(&before, &after)
        );
        assert!(needs_restart(&before, &before).is_empty());
    }
}
