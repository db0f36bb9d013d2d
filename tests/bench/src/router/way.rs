//! The ways that are compared.

use std::fmt;

use clap::ValueEnum;

/// From an application to its servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Way {
    /// Ours: `&Router`
    Router,
    /// A plain `&MySqlPool`, straight to the right server
    Pool,
    /// The same, told not to ping before use (`test_before_acquire(false)`)
    PoolNoTest,
    /// A plain `&MySqlPool` to MySQL Router, TLS on both hops
    MysqlRouter,
    /// The same, MySQL Router passing TLS through unopened
    MysqlRouterPassing,
}

impl Way {
    pub(super) const ALL: [Way; 5] = [
        Way::Router,
        Way::Pool,
        Way::PoolNoTest,
        Way::MysqlRouter,
        Way::MysqlRouterPassing,
    ];

    /// Whether MySQL Router is in it.
    pub(super) fn has_proxy(self) -> bool {
        matches!(self, Way::MysqlRouter | Way::MysqlRouterPassing)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Way::Router => "&Router",
            Way::Pool => "&MySqlPool",
            Way::PoolNoTest => "&MySqlPool, no test",
            Way::MysqlRouter => "MySQL Router",
            Way::MysqlRouterPassing => "MySQL Router, passing",
        })
    }
}
