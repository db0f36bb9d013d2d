-- Who may log in, and what they may do. Each server applies this file to itself at every boot, before it takes the first connection:
-- accounts are configuration, so adding one is an edit and a restart. Nothing here enters the binary log.
--
-- An account is a name, a role in a client certificate and a password. {{…}} is replaced by the secret of that name; the entrypoint
-- writes the result to a tmpfs and removes it once the server has read it. A statement never drops an account: connections of one that
-- exists, and objects that it defined, stay as they are.
--
-- A server is open to nobody until the arbiter opens it: in offline mode only CONNECTION_ADMIN logs in. Nobody below has it but the
-- arbiter and the entrypoint itself, so closing a server cuts everybody off, the other server's replication too.

SET SESSION sql_log_bin = 0;

-- Initialisation leaves a root without a password.
DROP USER IF EXISTS 'root'@'localhost';

-- The arbiter opens, closes and wires the servers, and publishes who is primary. PROCESS and RELOAD are for the list of sessions and
-- for RESET REPLICA; TRANSACTION_GTID_TAG marks its heartbeats. CLONE_ADMIN replaces all that a server has by what the other one has;
-- REPLICATION SLAVE reads in its binary log, with SHOW BINLOG EVENTS, what is lost by that; SHUTDOWN is what RESTART asks for, which
-- like every clean end answers OK to commits that wait for an acknowledgement: never for a server that may have such.
CREATE USER IF NOT EXISTS 'arbiter'@'%';
ALTER USER 'arbiter'@'%' IDENTIFIED BY '{{mysql_arbiter_password}}' REQUIRE SUBJECT '/CN=arbiter';
REVOKE ALL PRIVILEGES, GRANT OPTION FROM 'arbiter'@'%';
GRANT PROCESS, RELOAD, REPLICATION CLIENT, REPLICATION SLAVE, SHUTDOWN ON *.* TO 'arbiter'@'%';
GRANT CLONE_ADMIN, CONNECTION_ADMIN, REPLICATION_SLAVE_ADMIN, SYSTEM_VARIABLES_ADMIN, TRANSACTION_GTID_TAG ON *.* TO 'arbiter'@'%';
GRANT SELECT ON performance_schema.* TO 'arbiter'@'%';
GRANT ALL ON holdfast.* TO 'arbiter'@'%';

-- The other server's receiver, and the other server while it clones this one, which BACKUP_ADMIN is for. Without CONNECTION_ADMIN: a
-- closed server must not go on feeding a replica.
CREATE USER IF NOT EXISTS 'replication'@'%';
ALTER USER 'replication'@'%' IDENTIFIED BY '{{mysql_replication_password}}' REQUIRE SUBJECT '/CN=mysql';
REVOKE ALL PRIVILEGES, GRANT OPTION FROM 'replication'@'%';
GRANT REPLICATION SLAVE ON *.* TO 'replication'@'%';
GRANT BACKUP_ADMIN ON *.* TO 'replication'@'%';

-- Migrations: the schema of the app, and which server is the primary.
CREATE USER IF NOT EXISTS 'migrate'@'%';
ALTER USER 'migrate'@'%' IDENTIFIED BY '{{mysql_migrate_password}}' REQUIRE SUBJECT '/CN=migrate';
REVOKE ALL PRIVILEGES, GRANT OPTION FROM 'migrate'@'%';
GRANT ALL ON ledger.* TO 'migrate'@'%';
GRANT SELECT ON holdfast.* TO 'migrate'@'%';
GRANT SELECT ON performance_schema.replication_connection_configuration TO 'migrate'@'%';
GRANT SELECT ON performance_schema.replication_connection_status TO 'migrate'@'%';
GRANT SELECT ON performance_schema.replication_applier_status TO 'migrate'@'%';
GRANT SELECT ON performance_schema.replication_applier_status_by_coordinator TO 'migrate'@'%';
GRANT SELECT ON performance_schema.replication_applier_status_by_worker TO 'migrate'@'%';

-- The web servers: rows of the app, which server is the primary, and how far the replica is behind.
CREATE USER IF NOT EXISTS 'app'@'%';
ALTER USER 'app'@'%' IDENTIFIED BY '{{mysql_app_password}}' REQUIRE SUBJECT '/CN=web';
REVOKE ALL PRIVILEGES, GRANT OPTION FROM 'app'@'%';
GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.* TO 'app'@'%';
GRANT SELECT ON holdfast.* TO 'app'@'%';
GRANT SELECT ON performance_schema.replication_connection_configuration TO 'app'@'%';
GRANT SELECT ON performance_schema.replication_connection_status TO 'app'@'%';
GRANT SELECT ON performance_schema.replication_applier_status TO 'app'@'%';
GRANT SELECT ON performance_schema.replication_applier_status_by_coordinator TO 'app'@'%';
GRANT SELECT ON performance_schema.replication_applier_status_by_worker TO 'app'@'%';

-- Metrics: reads state, and never many connections.
CREATE USER IF NOT EXISTS 'monitor'@'%';
ALTER USER 'monitor'@'%' IDENTIFIED BY '{{mysql_monitor_password}}' REQUIRE SUBJECT '/CN=prometheus' WITH MAX_USER_CONNECTIONS 3;
REVOKE ALL PRIVILEGES, GRANT OPTION FROM 'monitor'@'%';
GRANT PROCESS, REPLICATION CLIENT ON *.* TO 'monitor'@'%';
GRANT SELECT ON performance_schema.* TO 'monitor'@'%';
GRANT SELECT ON holdfast.* TO 'monitor'@'%';

-- Backups: a dump or a clone of everything, and the binary log after it. Its certificate is a server's own.
CREATE USER IF NOT EXISTS 'backup'@'%';
ALTER USER 'backup'@'%' IDENTIFIED BY '{{mysql_backup_password}}' REQUIRE SUBJECT '/CN=mysql';
REVOKE ALL PRIVILEGES, GRANT OPTION FROM 'backup'@'%';
GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, PROCESS, REPLICATION CLIENT, REPLICATION SLAVE ON *.* TO 'backup'@'%';
GRANT BACKUP_ADMIN ON *.* TO 'backup'@'%';

-- The entrypoint itself, over the socket: closes the server before it stops it, and asks whether it is well. Its password is a new one
-- at each boot. Last in the file: when it can log in, everything above was applied.
CREATE USER IF NOT EXISTS 'entrypoint'@'localhost';
ALTER USER 'entrypoint'@'localhost' IDENTIFIED BY '{{entrypoint_password}}';
REVOKE ALL PRIVILEGES, GRANT OPTION FROM 'entrypoint'@'localhost';
GRANT PROCESS ON *.* TO 'entrypoint'@'localhost';
GRANT CONNECTION_ADMIN, SYSTEM_VARIABLES_ADMIN ON *.* TO 'entrypoint'@'localhost';
GRANT SELECT ON performance_schema.processlist TO 'entrypoint'@'localhost';
