//! Forms: what a person sent, and what is shown again when it could not be done.

use std::collections::BTreeMap;

use axum::{
    extract::{FromRequest, Request},
    response::Response,
};
use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use uuid::Uuid;

use crate::{
    api::request::read_body,
    ledger::{IdempotencyKey, Invalid},
    problem::{FieldError, Kind, Problem},
    state::AppState,
};

/// The hidden field that makes sending a form twice the same as sending it once.
pub(super) const KEY: &str = "key";

/// A form as it was sent: `application/x-www-form-urlencoded`, each field once.
#[derive(Debug, Default)]
pub(super) struct Sent(BTreeMap<String, String>);

impl FromRequest<AppState> for Sent {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &AppState) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if !is_form(&parts.headers) {
            return Err(Problem::new(
                Kind::UnsupportedMediaType,
                "a form is application/x-www-form-urlencoded in UTF-8, without a content encoding",
            ));
        }
        let bytes = read_body(&parts.headers, body).await?;
        Self::read(&bytes)
    }
}

impl Sent {
    fn read(bytes: &[u8]) -> Result<Self, Problem> {
        let mut fields = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(bytes) {
            if fields
                .insert(name.to_string(), value.into_owned())
                .is_some()
            {
                return Err(not_ours(&name, "comes more than once"));
            }
        }
        Ok(Self(fields))
    }

    /// That it has these fields and the key, and no others.
    pub(super) fn has(self, names: &[&'static str]) -> Result<Self, Problem> {
        let known = |name: &str| names.contains(&name) || name == KEY;
        if let Some(name) = self.0.keys().find(|name| !known(name)) {
            return Err(not_ours(name, "is not a field of this form"));
        }
        Ok(self)
    }

    /// A field's value; empty where it is missing, as a browser would send it.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// The key that the page made for it.
    pub(super) fn key(&self) -> Result<IdempotencyKey, Problem> {
        IdempotencyKey::new(self.get(KEY).as_bytes())
            .map_err(|_| not_ours(KEY, "is not what the page made: load it again"))
    }

    /// To be shown again, with what was wrong. The key stays, so that sending it again is safe, unless it belongs to another request.
    pub(super) fn again(self, problem: &Problem) -> Shown {
        let mut values = self.0;
        if problem.kind() == Kind::KeyReused {
            values.insert(KEY.to_owned(), fresh_key());
        }
        let faults: Vec<_> = problem
            .field_errors()
            .iter()
            .map(|error| {
                let field = error.pointer.trim_start_matches('/').to_owned();
                (field, error.detail.clone())
            })
            .collect();
        let said = match problem.kind() {
            Kind::KeyReused => "this form was sent before with other values; look at what that did, and send it again if you mean it".to_owned(),
            _ if faults.is_empty() => problem.detail().to_owned(),
            _ => "nothing was changed: see below".to_owned(),
        };
        Shown {
            values,
            faults,
            said,
        }
    }
}

/// Not what our pages make, so it is not shown again.
fn not_ours(name: &str, detail: &str) -> Problem {
    Problem::new(Kind::InvalidFields, "the form is not one of these pages'").errors([FieldError {
        pointer: format!("/{name}"),
        detail: detail.to_owned(),
    }])
}

fn is_form(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(content_type), None) = (types.next(), types.next()) else {
        return false;
    };
    let mut parts = content_type.to_str().unwrap_or_default().split(';');
    let form = parts.next().is_some_and(|kind| {
        kind.trim()
            .eq_ignore_ascii_case("application/x-www-form-urlencoded")
    });
    let utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    form && utf8 && !headers.contains_key(CONTENT_ENCODING)
}

fn fresh_key() -> String {
    Uuid::now_v7().to_string()
}

/// A form on a page.
#[derive(Debug)]
pub(super) struct Shown {
    values: BTreeMap<String, String>,
    /// In the order of the form.
    faults: Vec<(String, String)>,
    said: String,
}

impl Shown {
    /// An empty one, with a key of its own.
    pub(super) fn empty() -> Self {
        Self {
            values: BTreeMap::from([(KEY.to_owned(), fresh_key())]),
            faults: Vec::new(),
            said: String::new(),
        }
    }

    /// With a field filled in.
    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.values.insert(name.to_owned(), value.into());
        self
    }

    /// What a field holds.
    pub(super) fn value(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    /// What is wrong with a field; empty if nothing is.
    pub(super) fn fault(&self, name: &str) -> &str {
        let mut faults = self.faults.iter();
        let fault = faults.find(|(field, _)| field == name);
        fault.map_or("", |(_, detail)| detail)
    }

    /// Whether this is the first field at fault: where to begin when the form is shown again.
    pub(super) fn is_first_fault(&self, name: &str) -> bool {
        self.faults.first().is_some_and(|(field, _)| field == name)
    }

    /// Whether it was sent and could not be done.
    pub(super) fn failed(&self) -> bool {
        !self.said.is_empty()
    }

    /// What is wrong with the form; empty if nothing is.
    pub(super) fn said(&self) -> &str {
        &self.said
    }

    /// The hidden key.
    pub(super) fn key(&self) -> &str {
        self.value(KEY)
    }
}

/// Every field of a form that could not be read, as one problem.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<FieldError>);

impl Faults {
    /// The value, or its fault remembered.
    pub(super) fn take<T>(&mut self, name: &str, read: Result<T, Invalid>) -> Option<T> {
        read.map_err(|Invalid(detail)| {
            self.0.push(FieldError {
                pointer: format!("/{name}"),
                detail: detail.to_owned(),
            });
        })
        .ok()
    }

    /// What was read, if nothing is at fault.
    pub(super) fn build<T>(self, read: Option<T>) -> Result<T, Problem> {
        match read {
            Some(read) if self.0.is_empty() => Ok(read),
            _ => Err(Problem::new(
                Kind::InvalidFields,
                "the form has fields that cannot be as they are",
            )
            .errors(self.0)),
        }
    }
}

/// The headers that a refusal carries, on the page that shows the form again.
pub(super) fn carry_retry_after(problem: Problem, page: &mut Response) {
    use axum::response::IntoResponse;
    if let Some(after) = problem.into_response().headers_mut().remove("retry-after") {
        page.headers_mut().insert("retry-after", after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_has_each_of_its_fields_once_and_no_others() {
        let sent = Sent::read(b"name=A+b%26c&key=k")
            .unwrap()
            .has(&["name"])
            .unwrap();
        assert_eq!(sent.get("name"), "A b&c");
        assert_eq!(sent.get("memo"), "");
        assert_eq!(sent.key().unwrap().as_str(), "k");
        assert!(Sent::read(b"name=a&name=b").is_err());
        assert!(Sent::read(b"name=a&x=b").unwrap().has(&["name"]).is_err());
        assert!(Sent::read(b"name=a").unwrap().key().is_err());
    }

    #[test]
    fn a_refused_form_keeps_its_values_and_its_key() {
        let refused = Problem::new(Kind::InvalidFields, "no").errors([FieldError {
            pointer: "/name".to_owned(),
            detail: "is empty".to_owned(),
        }]);
        let shown = Sent::read(b"name=&memo=hi&key=k").unwrap().again(&refused);
        assert_eq!((shown.value("memo"), shown.key()), ("hi", "k"));
        assert_eq!(shown.fault("name"), "is empty");
        assert_eq!(shown.fault("memo"), "");
        assert!(shown.failed() && shown.is_first_fault("name"));
        assert!(!Shown::empty().failed());
        let away = Problem::new(Kind::OutcomeUnknown, "who knows");
        let shown = Sent::read(b"key=k").unwrap().again(&away);
        assert_eq!((shown.said(), shown.key()), ("who knows", "k"));
    }

    #[test]
    fn a_key_of_another_request_is_replaced() {
        let reused = Problem::new(Kind::KeyReused, "no");
        let shown = Sent::read(b"key=k").unwrap().again(&reused);
        assert_ne!(shown.key(), "k");
        assert!(IdempotencyKey::new(shown.key().as_bytes()).is_ok());
    }

    #[test]
    fn a_form_is_known_by_its_content_type() {
        let is = |content_type: &str| {
            let value = http::HeaderValue::from_str(content_type).unwrap();
            is_form(&HeaderMap::from_iter([(CONTENT_TYPE, value)]))
        };
        assert!(is("application/x-www-form-urlencoded"));
        assert!(is("Application/X-WWW-Form-Urlencoded; charset=UTF-8"));
        assert!(!is("application/x-www-form-urlencoded; charset=latin1"));
        assert!(!is("multipart/form-data; boundary=x"));
        assert!(!is("application/json"));
        assert!(!is_form(&HeaderMap::new()));
    }
}
