//! The pages that explain kinds of problems: what the `type` of a problem document leads to.

use askama::Template;
use axum::{extract::RawPathParams, response::Response};

use super::html;
use crate::{
    api::refuse,
    problem::{self, Entry, Problem},
};

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    entry: &'static Entry,
}

#[derive(Template)]
#[template(path = "problems.html")]
struct ProblemsPage {
    entries: Vec<&'static Entry>,
}

/// `/problems/{slug}`
pub(super) async fn show(slugs: RawPathParams) -> Result<Response, Problem> {
    let mut slugs = slugs.iter();
    let slug = slugs.next().map_or("", |(_, slug)| slug);
    let mut entries = problem::catalogue().into_iter();
    let entry = entries.find(|entry| entry.slug == slug);
    let entry = entry.ok_or_else(refuse::not_found)?;
    Ok(html(&ProblemPage { entry }))
}

/// `/problems`
pub(super) async fn list() -> Response {
    html(&ProblemsPage {
        entries: problem::catalogue(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_page_that_says_what_to_do() {
        for entry in problem::catalogue() {
            let page = ProblemPage { entry }.render().unwrap();
            assert!(page.contains(entry.status.as_str()), "{page}");
            let title = entry.title.replace('\'', "&#39;");
            assert!(page.contains(&title), "{page}");
        }
    }
}
