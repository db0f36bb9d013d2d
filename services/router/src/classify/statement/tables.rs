//! Tables of MySQL's own schemas: which tell of the data, and which of one server.

use super::super::words::any;

/// A table of information_schema that tells of one server, not of the data.
pub(super) fn is_of_one_server(table: &str) -> bool {
    table
        .get(.."INNODB_".len())
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case("INNODB_"))
        || any(
            table,
            &[
                "ADMINISTRABLE_ROLE_AUTHORIZATIONS",
                "APPLICABLE_ROLES",
                "CONNECTION_CONTROL_FAILED_LOGIN_ATTEMPTS",
                "ENABLED_ROLES",
                "ENGINES",
                "EVENTS",
                "FILES",
                "GLOBAL_STATUS",
                "GLOBAL_VARIABLES",
                "MYSQL_FIREWALL_USERS",
                "MYSQL_FIREWALL_WHITELIST",
                "PLUGINS",
                "PROCESSLIST",
                "RESOURCE_GROUPS",
                "ROLE_COLUMN_GRANTS",
                "ROLE_ROUTINE_GRANTS",
                "ROLE_TABLE_GRANTS",
                "SESSION_STATUS",
                "SESSION_VARIABLES",
                "TP_THREAD_GROUP_STATE",
                "TP_THREAD_GROUP_STATS",
                "TP_THREAD_STATE",
            ],
        )
}

/// A table of the schema `mysql` whose rows are replicated: accounts, time zones, the manual.
pub(super) fn is_replicated(table: &str) -> bool {
    any(
        table,
        &[
            "columns_priv",
            "db",
            "default_roles",
            "global_grants",
            "help_category",
            "help_keyword",
            "help_relation",
            "help_topic",
            "password_history",
            "procs_priv",
            "proxies_priv",
            "role_edges",
            "tables_priv",
            "time_zone",
            "time_zone_leap_second",
            "time_zone_name",
            "time_zone_transition",
            "time_zone_transition_type",
            "user",
        ],
    )
}
