//! A guestbook: an axum application over sqlx, as one would write it for a pool.
//!
//! It is compiled twice, once with `type Db = sqlx::MySqlPool` and once with `type Db = router::Router`; nothing in it knows which. All
//! of sqlx's ways to ask are in it once.

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::{TryStreamExt, stream::BoxStream};
use serde::{Deserialize, Serialize};
use sqlx::{
    AssertSqlSafe, Executor, MySql, MySqlExecutor, QueryBuilder, Row, SqlSafeStr, Statement,
    mysql::MySqlRow,
};

use super::Db;

/// A note as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
pub(crate) struct Note {
    /// Its number.
    pub(crate) id: u64,
    /// Who wrote it.
    pub(crate) guest: String,
    /// What it says.
    pub(crate) text: String,
}

/// A note as it is sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NewNote {
    /// Who writes.
    pub(crate) guest: String,
    /// What to say.
    pub(crate) text: String,
}

/// The application, over whatever `Db` is.
pub(crate) fn app(db: Db) -> Router {
    Router::new()
        .route("/guests", post(add_guest))
        .route("/guests/{name}", get(show_guest))
        .route("/notes", get(list).post(add_notes).delete(forget))
        .route("/notes.csv", get(export))
        .route("/notes/{id}", get(show).delete(remove))
        .route("/sign", post(sign))
        .route("/statistics", get(statistics))
        .with_state(db)
}

async fn add_guest(State(db): State<Db>, Json(name): Json<String>) -> Result<Response, Failure> {
    let id = insert_guest(&db, &name).await?;
    Ok((StatusCode::CREATED, Json(id)).into_response())
}

async fn show_guest(State(db): State<Db>, Path(name): Path<String>) -> Result<Response, Failure> {
    match find_guest(&db, &name).await? {
        Some(id) => Ok(Json(id).into_response()),
        None => Ok(StatusCode::NOT_FOUND.into_response()),
    }
}

async fn list(State(db): State<Db>) -> Result<Json<Vec<Note>>, Failure> {
    Ok(Json(notes(&db).await?))
}

async fn add_notes(
    State(db): State<Db>,
    Json(new): Json<Vec<NewNote>>,
) -> Result<Response, Failure> {
    let added = insert_notes(&db, &new).await?;
    Ok((StatusCode::CREATED, Json(added)).into_response())
}

/// A note, and its guest if that is a new one: both or none.
async fn sign(State(db): State<Db>, Json(new): Json<NewNote>) -> Result<Response, Failure> {
    let id = insert_note(&db, &new).await?;
    Ok((StatusCode::CREATED, Json(id)).into_response())
}

async fn show(State(db): State<Db>, Path(id): Path<u64>) -> Result<Json<Note>, Failure> {
    Ok(Json(note(&db, id).await?))
}

async fn remove(State(db): State<Db>, Path(id): Path<u64>) -> Result<StatusCode, Failure> {
    let gone = sqlx::query("DELETE FROM notes WHERE id = ?")
        .bind(id)
        .execute(&db)
        .await?
        .rows_affected();
    Ok(if gone == 1 {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::NOT_FOUND
    })
}

/// Row by row, from the database to the caller; the whole table is never in memory.
async fn export(State(db): State<Db>) -> Body {
    let lines: BoxStream<'static, sqlx::Result<Bytes>> = Box::pin(async_stream::try_stream! {
        let mut rows = sqlx::query("SELECT g.name, n.text FROM notes n JOIN guests g ON g.id = n.guest_id ORDER BY n.id")
            .fetch(&db);
        while let Some(row) = rows.try_next().await? {
            yield Bytes::from(line(&row)?);
        }
    });
    Body::from_stream(lines)
}

fn line(row: &MySqlRow) -> Result<String, sqlx::Error> {
    let (name, text): (String, String) = (row.try_get("name")?, row.try_get("text")?);
    Ok(format!("{name:?},{text:?}\n"))
}

/// Everything, by several statements in one text.
async fn forget(State(db): State<Db>) -> Result<StatusCode, Failure> {
    sqlx::raw_sql("DELETE FROM notes; DELETE FROM guests")
        .execute(&db)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn statistics(State(db): State<Db>) -> Result<String, Failure> {
    let (guests, notes) = counts(&db).await?;
    Ok(format!("{notes} notes of {guests} guests\n"))
}

/// What a repository function looks like that takes a pool, a connection or a transaction.
pub(crate) async fn insert_guest<'e, E: MySqlExecutor<'e>>(db: E, name: &str) -> sqlx::Result<u64> {
    let done = sqlx::query!("INSERT INTO guests (name) VALUES (?)", name)
        .execute(db)
        .await?;
    Ok(done.last_insert_id())
}

/// A guest's number.
pub(crate) async fn find_guest<'e, E: MySqlExecutor<'e>>(
    db: E,
    name: &str,
) -> sqlx::Result<Option<u64>> {
    sqlx::query_scalar!("SELECT id FROM guests WHERE name = ?", name)
        .fetch_optional(db)
        .await
}

/// One note; that there is none is sqlx's own error.
pub(crate) async fn note<'e, E: MySqlExecutor<'e>>(db: E, id: u64) -> sqlx::Result<Note> {
    sqlx::query_as!(
        Note,
        "SELECT n.id, g.name AS guest, n.text FROM notes n JOIN guests g ON g.id = n.guest_id WHERE n.id = ?",
        id
    )
    .fetch_one(db)
    .await
}

/// All notes, the oldest first.
pub(crate) async fn notes<'e, E: MySqlExecutor<'e>>(db: E) -> sqlx::Result<Vec<Note>> {
    sqlx::query_as(
        "SELECT n.id, g.name AS guest, n.text FROM notes n JOIN guests g ON g.id = n.guest_id ORDER BY n.id",
    )
    .fetch_all(db)
    .await
}

/// Adds notes in one statement; whoever is not a guest is left out. Returns how many were added.
pub(crate) async fn insert_notes(db: &Db, new: &[NewNote]) -> sqlx::Result<usize> {
    if new.is_empty() {
        return Ok(0);
    }
    let mut known = QueryBuilder::<MySql>::new("SELECT id, name FROM guests WHERE name IN (");
    let mut names = known.separated(", ");
    for note in new {
        names.push_bind(&note.guest);
    }
    names.push_unseparated(")");
    let known: Vec<(u64, String)> = known.build_query_as().fetch_all(db).await?;
    let of_guests: Vec<(u64, &str)> = new
        .iter()
        .filter_map(|note| {
            let (id, _) = known.iter().find(|(_, name)| *name == note.guest)?;
            Some((*id, note.text.as_str()))
        })
        .collect();
    if of_guests.is_empty() {
        return Ok(0);
    }
    let mut insert = QueryBuilder::<MySql>::new("INSERT INTO notes (guest_id, text) ");
    insert.push_values(&of_guests, |mut row, (guest, text)| {
        row.push_bind(guest).push_bind(text);
    });
    insert.build().execute(db).await?;
    Ok(of_guests.len())
}

/// Adds a note, and its guest if need be, in a transaction.
pub(crate) async fn insert_note(db: &Db, new: &NewNote) -> sqlx::Result<u64> {
    let mut transaction = db.begin().await?;
    let guest = match find_guest(&mut *transaction, &new.guest).await? {
        Some(id) => id,
        None => insert_guest(&mut *transaction, &new.guest).await?,
    };
    let done = sqlx::query("INSERT INTO notes (guest_id, text) VALUES (?, ?)")
        .bind(guest)
        .bind(&new.text)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(done.last_insert_id())
}

/// How many guests and notes there are, by a statement that was prepared before.
pub(crate) async fn counts(db: &Db) -> sqlx::Result<(i64, i64)> {
    let count = |table: &str| AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}")).into_sql_str();
    let guests = db.prepare(count("guests")).await?;
    let notes: i64 = sqlx::query_scalar(count("notes")).fetch_one(db).await?;
    Ok((guests.query_scalar().fetch_one(db).await?, notes))
}

/// What a handler answers where the database would not.
#[derive(Debug)]
pub(crate) struct Failure(sqlx::Error);

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match &self.0 {
            sqlx::Error::RowNotFound => StatusCode::NOT_FOUND,
            sqlx::Error::Database(error) if error.is_unique_violation() => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, format!("{}\n", self.0)).into_response()
    }
}
