//! The style sheet, named by its content, so that browsers may keep it for as long as they like.

use std::sync::LazyLock;

use axum::{
    extract::{RawPathParams, Request},
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue,
    header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};
use sha2::{Digest, Sha256};

use crate::{api::refuse, problem::Problem};

const STYLE: &str = include_str!("../../static/style.css");

/// `style.0123456789abcdef.css`
static STYLE_NAME: LazyLock<String> = LazyLock::new(|| {
    let digest = Sha256::digest(STYLE);
    let hash: String = digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("style.{hash}.css")
});

/// Where pages find the style sheet.
pub(super) fn style() -> String {
    format!("/static/{}", *STYLE_NAME)
}

/// `/static/{name}`
pub(super) async fn show(names: RawPathParams, _: Request) -> Result<Response, Problem> {
    let known = names.iter().any(|(_, name)| name == *STYLE_NAME);
    if !known {
        return Err(refuse::not_found());
    }
    let headers = [
        (
            CONTENT_TYPE,
            HeaderValue::from_static("text/css; charset=utf-8"),
        ),
        (
            CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=31536000, immutable"),
        ),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    Ok((headers, STYLE).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_changes_with_the_content() {
        let name = style();
        let hash = name.strip_prefix("/static/style.").unwrap();
        let hash = hash.strip_suffix(".css").unwrap();
        assert_eq!(hash.len(), 16);
        let whole = Sha256::digest(STYLE);
        assert_eq!(hash[..2], format!("{:02x}", whole[0]));
    }
}
