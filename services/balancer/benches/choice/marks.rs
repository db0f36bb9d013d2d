//! Two lines of a document between which only a bench writes.

/// What is before, between and after the marks of this name; the marks stay outside.
pub(crate) fn split<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let begin = format!("<!-- {name}: begin -->");
    let from = text.find(&begin)? + begin.len();
    let to = from + text[from..].find(&format!("<!-- {name}: end -->"))?;
    Some((&text[..from], &text[from..to], &text[to..]))
}
