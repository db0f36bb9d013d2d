//! The style sheet and the icon, named by their content, so that browsers may keep it for as long as they like.

use std::sync::LazyLock;

use axum::{
    extract::{RawPathParams, Request},
    response::{IntoResponse, Response},
};
use http::{
    HeaderName, HeaderValue,
    header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};
use sha2::{Digest, Sha256};

use crate::{api::refuse, problem::Problem};

/// A file, and how it is served.
struct Asset {
    content: &'static str,
    content_type: HeaderValue,
    name: LazyLock<String>,
}

const STYLE: &str = include_str!("../../static/style.css");
const ICON: &str = include_str!("../../static/icon.svg");

static ASSETS: [Asset; 2] = [
    Asset {
        content: STYLE,
        content_type: HeaderValue::from_static("text/css; charset=utf-8"),
        // `style.0123456789abcdef.css`
        name: LazyLock::new(|| format!("style.{}.css", hash(STYLE))),
    },
    Asset {
        content: ICON,
        content_type: HeaderValue::from_static("image/svg+xml"),
        name: LazyLock::new(|| format!("icon.{}.svg", hash(ICON))),
    },
];

fn hash(content: &str) -> String {
    let digest = Sha256::digest(content);
    let bytes = digest.iter().take(8);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// Where pages find the style sheet.
pub(super) fn style() -> String {
    format!("/static/{}", *ASSETS[0].name)
}

/// Where pages find the icon.
pub(super) fn icon() -> String {
    format!("/static/{}", *ASSETS[1].name)
}

/// `/static/{name}`
pub(super) async fn show(names: RawPathParams, _: Request) -> Result<Response, Problem> {
    let known = |asset: &&Asset| names.iter().any(|(_, name)| name == *asset.name);
    let asset = ASSETS.iter().find(known).ok_or_else(refuse::not_found)?;
    let headers = [
        (CONTENT_TYPE, asset.content_type.clone()),
        (
            CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=31536000, immutable"),
        ),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        // An icon is a document of its own when somebody opens it.
        (
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'"),
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("same-origin"),
        ),
    ];
    Ok((headers, asset.content).into_response())
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
