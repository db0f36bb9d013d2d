//! The interface as an OpenAPI 3.1 document, at `/api/openapi.json`.
//!
//! It is written here by hand, because most of what a caller has to know (keys, tokens, which problem when) is not in any Rust type. The
//! tests below hold it against the routes, the bounds and what is really serialized, so that it cannot drift.

use std::sync::LazyLock;

use axum::{
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderValue, header::CONTENT_TYPE};
use serde_json::{Value, json};

use crate::{
    ledger::{
        Paging,
        money::{AMOUNT_MAX, BALANCE_MAX},
    },
    routes::Routes,
};

/// The document, made once.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_string());

/// `/api/openapi.json`
pub fn routes() -> Routes {
    Routes::new().route("/api/openapi.json", "GET, HEAD, OPTIONS", get(show))
}

async fn show() -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(CONTENT_TYPE, json)], DOCUMENT.as_str()).into_response()
}

fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Holdfast's ledger",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
            "description": "A double-entry ledger: owners open accounts and send money between them. Money is integer cents, times are \
                RFC 3339 in UTC, ids are UUIDv7 in lower case. Errors are problem documents (RFC 9457); GET of a problem's `type` is a page \
                that explains it. A write answers with a causal token in a header and a cookie; who sends it back reads its own writes, \
                on whichever server.",
        },
        "security": [{"token": []}],
        "paths": {
            "/api/owners": {
                "post": {
                    "operationId": "makeOwner",
                    "summary": "Make an owner, and get the token that it calls with",
                    "description": "Every call makes a new owner, so nobody can become another one.",
                    "security": [],
                    "requestBody": body("NewOwner"),
                    "responses": responses(&[400, 406, 408, 413, 415, 422, 503], json!({
                        "201": answer("The owner", "Owner", wrote(json!({}))),
                    })),
                },
            },
            "/api/accounts": {
                "get": {
                    "operationId": "listAccounts",
                    "summary": "One's own accounts, newest first",
                    "parameters": [parameter("limit"), parameter("after"), parameter("causal-token")],
                    "responses": responses(&[400, 401, 406, 503], json!({
                        "200": answer("A page of accounts", "Accounts", read()),
                    })),
                },
                "post": {
                    "operationId": "openAccount",
                    "summary": "Open an account",
                    "parameters": [parameter("idempotency-key"), parameter("causal-token")],
                    "requestBody": body("NewAccount"),
                    "responses": responses(&[400, 401, 406, 408, 413, 415, 422, 503], json!({
                        "201": answer("The account", "Account", wrote(made())),
                    })),
                },
            },
            "/api/accounts/{id}": {
                "get": {
                    "operationId": "getAccount",
                    "summary": "One of one's own accounts",
                    "parameters": [parameter("id"), parameter("causal-token")],
                    "responses": responses(&[400, 401, 404, 406, 503], json!({
                        "200": answer("The account", "Account", read()),
                    })),
                },
            },
            "/api/transfers": {
                "get": {
                    "operationId": "listTransfers",
                    "summary": "The transfers of one's own account, in either direction, newest first",
                    "parameters": [parameter("account"), parameter("limit"), parameter("after"), parameter("causal-token")],
                    "responses": responses(&[400, 401, 404, 406, 503], json!({
                        "200": answer("A page of transfers", "Transfers", read()),
                    })),
                },
                "post": {
                    "operationId": "makeTransfer",
                    "summary": "Send money from one's own account to anybody's",
                    "parameters": [parameter("idempotency-key"), parameter("causal-token")],
                    "requestBody": body("NewTransfer"),
                    "responses": responses(&[400, 401, 404, 406, 408, 409, 413, 415, 422, 503], json!({
                        "201": answer("The transfer", "Transfer", wrote(made())),
                    })),
                },
            },
            "/api/transfers/{id}": {
                "get": {
                    "operationId": "getTransfer",
                    "summary": "A transfer from or to one of one's own accounts",
                    "parameters": [parameter("id"), parameter("causal-token")],
                    "responses": responses(&[400, 401, 404, 406, 503], json!({
                        "200": answer("The transfer", "Transfer", read()),
                    })),
                },
            },
            "/healthz": {"get": check("isAlive", "Whether the web server that answers serves")},
            "/readyz": {"get": check("isReady", "Whether the web server that answers takes new work; it does not speak for the database")},
        },
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token that POST /api/owners answers with.",
                },
            },
            "parameters": parameters(),
            "headers": headers(),
            "responses": problems(),
            "schemas": schemas(),
        },
    })
}

fn parameter(name: &str) -> Value {
    json!({"$ref": format!("#/components/parameters/{name}")})
}

fn schema(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn body(name: &str) -> Value {
    json!({"required": true, "content": {"application/json": {"schema": schema(name)}}})
}

fn answer(description: &str, name: &str, headers: Value) -> Value {
    json!({
        "description": description,
        "headers": headers,
        "content": {"application/json": {"schema": schema(name)}},
    })
}

fn header(name: &str) -> Value {
    json!({"$ref": format!("#/components/headers/{name}")})
}

/// What an answer to a read says of itself.
fn read() -> Value {
    json!({"x-db": header("x-db")})
}

/// What an answer to a write says besides `more`.
fn wrote(mut more: Value) -> Value {
    more["x-db"] = header("x-db");
    more["causal-token"] = header("causal-token");
    more
}

/// What an answer with a key says.
fn made() -> Value {
    json!({"location": header("location"), "idempotency-replayed": header("idempotency-replayed")})
}

/// The good answers, and the problems with these statuses.
fn responses(problems: &[u16], mut good: Value) -> Value {
    for status in problems {
        good[status.to_string()] = json!({"$ref": format!("#/components/responses/{status}")});
    }
    good["500"] = json!({"$ref": "#/components/responses/500"});
    good
}

fn check(id: &str, summary: &str) -> Value {
    let text = json!({"text/plain": {"schema": {"type": "string"}}});
    json!({
        "operationId": id,
        "summary": summary,
        "security": [],
        "responses": {
            "200": {"description": "Yes", "content": text},
            "503": {"description": "No", "content": text},
        },
    })
}

fn parameters() -> Value {
    let id = schema("Id");
    json!({
        "id": {"name": "id", "in": "path", "required": true, "schema": id},
        "account": {"name": "account", "in": "query", "required": true, "schema": id},
        "limit": {
            "name": "limit", "in": "query",
            "description": "The most items to answer with.",
            "schema": {"type": "integer", "minimum": 1, "maximum": Paging::LIMIT_MAX, "default": 20},
        },
        "after": {
            "name": "after", "in": "query",
            "description": "The `next_after` of the page before.",
            "schema": {"type": "string"},
        },
        "idempotency-key": {
            "name": "Idempotency-Key", "in": "header", "required": true,
            "description": "A name for this change. The same key with the same values is answered the same and done once, for 24 hours.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        },
        "causal-token": {
            "name": "causal-token", "in": "header",
            "description": "What the last write answered with: this call sees that write. The cookie of that name does the same.",
            "schema": {"type": "string", "maxLength": 1024},
        },
    })
}

fn headers() -> Value {
    json!({
        "causal-token": {
            "description": "Proves what this session has written; send it back.",
            "schema": {"type": "string", "maxLength": 1024},
        },
        "x-db": {
            "description": "Where statements went and why: an RFC 9651 list in order of use, such as `replica;reason=fresh`.",
            "schema": {"type": "string"},
        },
        "location": {"description": "Where what was made is.", "schema": {"type": "string", "format": "uri-reference"}},
        "idempotency-replayed": {
            "description": "`true`: it had been made before, by a request with the same key.",
            "schema": {"type": "string", "const": "true"},
        },
        "retry-after": {"description": "Seconds after which to try again.", "schema": {"type": "integer", "minimum": 1}},
        "www-authenticate": {"description": "How to say who calls.", "schema": {"type": "string", "const": "Bearer"}},
    })
}

fn problems() -> Value {
    let mut problems = json!({});
    for (status, description) in [
        (
            400,
            "The body is no JSON with one meaning, the idempotency key is missing or bad, or a parameter is",
        ),
        (401, "No token, or none that is good"),
        (404, "Not there, or another owner's"),
        (406, "The Accept header leaves JSON out"),
        (408, "The body did not come in time"),
        (
            409,
            "The account does not hold enough, or the receiving one would hold too much",
        ),
        (413, "The body is larger than 16 KiB"),
        (415, "The body is not JSON, or has a content encoding"),
        (
            422,
            "Fields of the body cannot be as they are, or the key was used for another request",
        ),
        (500, "A fault of ours"),
        (
            503,
            "Something is away; `detail` says what, and whether the change may have been made",
        ),
    ] {
        let mut problem = json!({
            "description": description,
            "content": {"application/problem+json": {"schema": schema("Problem")}},
        });
        if status == 401 {
            problem["headers"] = json!({"www-authenticate": header("www-authenticate")});
        }
        if status == 503 {
            problem["headers"] = json!({"retry-after": header("retry-after")});
        }
        problems[status.to_string()] = problem;
    }
    problems
}

fn schemas() -> Value {
    let name = json!({"type": "string", "minLength": 1, "maxLength": 100, "description": "No control characters."});
    let text = json!({"type": "string"});
    let id = schema("Id");
    let time = json!({"type": "string", "format": "date-time"});
    let amount = json!({"type": "integer", "format": "int64", "minimum": 1, "maximum": AMOUNT_MAX});
    let memo = json!({"type": ["string", "null"], "maxLength": 200, "description": "No control characters."});
    json!({
        "Id": {
            "type": "string", "format": "uuid",
            "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
        },
        "NewOwner": object(&["name"], json!({"name": name})),
        "Owner": object(&["id", "name", "token", "expires_at"], json!({
            "id": id, "name": name, "token": text, "expires_at": time,
        })),
        "NewAccount": object(&["name", "opening_cents"], json!({
            "name": name,
            "opening_cents": {"type": "integer", "format": "int64", "minimum": 0, "maximum": AMOUNT_MAX},
        })),
        "Account": object(&["id", "owner_id", "name", "balance_cents", "created_at"], json!({
            "id": id, "owner_id": id, "name": name,
            "balance_cents": {"type": "integer", "format": "int64", "minimum": 0, "maximum": BALANCE_MAX},
            "created_at": time,
        })),
        "NewTransfer": object(&["from", "to", "amount_cents"], json!({
            "from": id, "to": id, "amount_cents": amount, "memo": memo,
        })),
        "Transfer": object(&["id", "from", "to", "amount_cents", "memo", "created_at"], json!({
            "id": id, "from": id, "to": id, "amount_cents": amount, "memo": memo, "created_at": time,
        })),
        "Accounts": page("Account"),
        "Transfers": page("Transfer"),
        "Problem": {
            "type": "object",
            "required": ["type", "title", "status", "detail", "trace_id"],
            "properties": {
                "type": {"type": "string", "format": "uri-reference"},
                "title": text,
                "status": {"type": "integer", "minimum": 400, "maximum": 599},
                "detail": text,
                "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
                "errors": {"type": "array", "items": object(&["pointer", "detail"], json!({
                    "pointer": {"type": "string", "description": "An RFC 6901 pointer into the body, or a parameter of the query after a slash."},
                    "detail": text,
                }))},
            },
        },
    })
}

fn page(item: &str) -> Value {
    object(
        &["items", "next_after"],
        json!({
            "items": {"type": "array", "items": schema(item), "maxItems": Paging::LIMIT_MAX},
            "next_after": {"type": ["string", "null"], "description": "Null at the end of the list."},
        }),
    )
}

/// An object with these members and no others.
fn object(required: &[&str], properties: Value) -> Value {
    json!({
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::Serialize;
    use time::macros::datetime;

    use super::*;
    use crate::{
        api,
        ledger::{
            Account, AccountId, Cents, MakeTransfer, Memo, Name, OpenAccount, OwnerId, Page,
            Transfer, TransferId,
        },
        problem::{FieldError, Kind, Problem},
    };

    const AT: time::OffsetDateTime = datetime!(2026-01-02 03:04:05.678 UTC);

    #[test]
    fn every_path_and_method_is_described_and_no_other() {
        let checks = ["/healthz", "/readyz"].map(|path| (path, "GET, HEAD, OPTIONS"));
        let routed: BTreeSet<_> = api::PATHS
            .into_iter()
            .chain(checks)
            .flat_map(|(path, allow)| {
                // HEAD is as GET, and OPTIONS is everywhere.
                let methods = allow
                    .split(", ")
                    .filter(|m| !["HEAD", "OPTIONS"].contains(m));
                methods.map(move |method| format!("{method} {path}"))
            })
            .collect();
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        let described: BTreeSet<_> = paths
            .iter()
            .flat_map(|(path, calls)| {
                let methods = calls.as_object().unwrap().keys();
                methods.map(move |method| format!("{} {path}", method.to_uppercase()))
            })
            .collect();
        assert_eq!(described, routed);
    }

    fn account() -> Account {
        Account {
            id: AccountId::new(),
            owner_id: OwnerId::new(),
            name: "Current".to_owned(),
            balance_cents: Cents::opening(100).unwrap(),
            created_at: AT,
        }
    }

    fn transfer() -> Transfer {
        Transfer {
            id: TransferId::new(),
            from: AccountId::new(),
            to: AccountId::new(),
            amount_cents: Cents::amount(1).unwrap(),
            memo: None,
            created_at: AT,
        }
    }

    /// A value has the members that its schema has, each of the type that it says.
    fn conforms(name: &str, value: &impl Serialize) {
        let schema = &schemas()[name];
        let value = serde_json::to_value(value).unwrap();
        let members: BTreeSet<_> = value.as_object().unwrap().keys().collect();
        let properties: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().collect();
        assert_eq!(members, properties, "{name}");
        for (member, value) in value.as_object().unwrap() {
            let mut wanted = schema["properties"][member].clone();
            if let Some(reference) = wanted["$ref"].as_str() {
                wanted = schemas()[reference.rsplit('/').next().unwrap()].clone();
            }
            let found = match value {
                Value::Null => "null",
                Value::Number(_) => "integer",
                Value::String(_) => "string",
                Value::Array(_) => "array",
                _ => "object",
            };
            let kinds = wanted["type"].to_string();
            assert!(
                kinds.contains(&format!("\"{found}\"")),
                "{name}.{member}: {kinds}"
            );
        }
        let required = schema["required"].as_array().unwrap();
        assert!(
            required
                .iter()
                .all(|name| value.get(name.as_str().unwrap()).is_some())
        );
    }

    #[test]
    fn what_is_answered_has_the_members_that_are_described() {
        conforms("Account", &account());
        conforms("Transfer", &transfer());
        let page = |next_after: Option<&str>| Page {
            items: vec![account()],
            next_after: next_after.map(str::to_owned),
        };
        conforms("Accounts", &page(None));
        conforms("Transfers", &page(Some("x")));
        let problem = Problem::new(Kind::InvalidFields, "no").errors([FieldError {
            pointer: "/name".to_owned(),
            detail: "is missing".to_owned(),
        }]);
        let problem: Value = serde_json::from_str(&problem.document("0af7")).unwrap();
        conforms("Problem", &problem);
    }

    #[test]
    fn what_is_asked_for_has_the_members_that_are_described() {
        let opened = OpenAccount {
            name: Name::new("n").unwrap(),
            opening_cents: Cents::opening(0).unwrap(),
        };
        conforms("NewAccount", &opened);
        let made = MakeTransfer {
            from: AccountId::new(),
            to: AccountId::new(),
            amount_cents: Cents::amount(1).unwrap(),
            memo: Some(Memo::new("m").unwrap()),
        };
        conforms("NewTransfer", &made);
    }

    #[test]
    fn every_status_of_a_problem_is_one_that_is_answered() {
        let answered: BTreeSet<_> = Kind::ALL
            .iter()
            .map(|kind| kind.status().as_u16())
            .collect();
        let problems = problems();
        for status in problems.as_object().unwrap().keys() {
            assert!(answered.contains(&status.parse().unwrap()), "{status}");
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(members) => {
                    for (name, value) in members {
                        match value {
                            Value::String(to) if name == "$ref" => found.push(to.clone()),
                            value => references(value, found),
                        }
                    }
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 50);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}
