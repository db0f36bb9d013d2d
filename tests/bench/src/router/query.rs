//! What is asked of the database: three statements as an application has them, each through whatever sqlx can execute on.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sqlx::MySqlExecutor;

/// Rows in the table that is read. It fits into every server's memory.
pub(super) const ROWS: u32 = 10_000;

/// Rows of one answer of [`Query::Ten`].
const SOME: u32 = 10;

/// What the scene makes before anything is measured.
pub(super) const TABLES: [&str; 3] = [
    "CREATE TABLE ledger.items (id INT UNSIGNED PRIMARY KEY, n BIGINT NOT NULL, name VARCHAR(64) NOT NULL)",
    "CREATE TABLE ledger.arrivals (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, n BIGINT NOT NULL, name VARCHAR(64) NOT NULL)",
    // 10 000 rows out of four tables of ten digits.
    "INSERT INTO ledger.items
        WITH d (n) AS (VALUES ROW(0), ROW(1), ROW(2), ROW(3), ROW(4), ROW(5), ROW(6), ROW(7), ROW(8), ROW(9)),
            ids (id) AS (SELECT 1 + a.n + 10 * b.n + 100 * c.n + 1000 * e.n FROM d a, d b, d c, d e)
        SELECT id, 3 * id, CONCAT('the item number ', id) FROM ids",
];

/// A statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
pub(super) enum Query {
    /// One row by its primary key.
    Point,
    /// Ten neighbouring rows.
    Ten,
    /// One row more, in a transaction of its own.
    Insert,
}

impl Query {
    pub(super) const ALL: [Query; 3] = [Query::Point, Query::Ten, Query::Insert];

    /// As it is called in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Query::Point => "point select",
            Query::Ten => "10-row select",
            Query::Insert => "insert",
        }
    }

    /// Sends it, and looks whether the answer is right. Equal numbers ask for the same rows.
    pub(super) async fn run<'e>(
        self,
        number: u32,
        db: impl MySqlExecutor<'e>,
    ) -> Result<(), sqlx::Error> {
        // A prime that is no divisor of the number of rows: every row has its turn, and neighbours in time are none in the table.
        let at = number.wrapping_mul(7919) % (ROWS - SOME);
        let id = 1 + at;
        let right = match self {
            Query::Point => {
                let (n, name): (i64, String) =
                    sqlx::query_as("SELECT n, name FROM items WHERE id = ?")
                        .bind(id)
                        .fetch_one(db)
                        .await?;
                n == 3 * i64::from(id) && !name.is_empty()
            }
            Query::Ten => {
                let rows: Vec<(u32, i64, String)> = sqlx::query_as(
                    "SELECT id, n, name FROM items WHERE id >= ? ORDER BY id LIMIT 10",
                )
                .bind(id)
                .fetch_all(db)
                .await?;
                rows.len() == SOME as usize && rows.iter().all(|row| row.1 == 3 * i64::from(row.0))
            }
            Query::Insert => {
                let done = sqlx::query("INSERT INTO arrivals (n, name) VALUES (?, ?)")
                    .bind(i64::from(number))
                    .bind("one more that has arrived")
                    .execute(db)
                    .await?;
                done.rows_affected() == 1
            }
        };
        if right {
            Ok(())
        } else {
            Err(sqlx::Error::Protocol("the answer is wrong".to_owned()))
        }
    }
}
