//! Comments before the statement that speak to the router.

use super::*;

#[test]
fn a_hint_stands_before_the_statement_and_nowhere_else() {
    for (sql, hint) in [
        ("/* router:primary */ SELECT 1", Some(Hint::Primary)),
        ("/*router:primary*/SELECT 1", Some(Hint::Primary)),
        ("/* Router: REPLICA */ SELECT 1", Some(Hint::Replica)),
        ("-- router:primary\nSELECT 1", Some(Hint::Primary)),
        ("# router:replica\nSELECT 1", Some(Hint::Replica)),
        (
            "/* traced */ -- x\n ( /* router:primary */ (SELECT 1))",
            Some(Hint::Primary),
        ),
        ("/* router:replica */ DELETE FROM t", Some(Hint::Replica)),
        // The safer of two.
        (
            "/* router:replica */ /* router:primary */ SELECT 1",
            Some(Hint::Primary),
        ),
        (
            "/* router:primary */ /* router:replica */ SELECT 1",
            Some(Hint::Primary),
        ),
        ("SELECT /* router:primary */ 1", None),
        ("SELECT 1 /* router:primary */", None),
        ("SELECT '/* router:primary */'", None),
        ("/*+ router:primary */ SELECT 1", None),
        ("/* not router:primary */ SELECT 1", None),
        ("/* router */ SELECT 1", None),
        ("SELECT 1", None),
    ] {
        assert_eq!(verdict(sql).hint, hint, "{sql}");
    }
}

#[test]
fn a_hint_changes_no_class() {
    for sql in ["SELECT 1", "DELETE FROM t", "SELECT f(1)", "SELECT @x"] {
        for hint in ["primary", "replica"] {
            let hinted = format!("/* router:{hint} */ {sql}");
            assert_eq!(verdict(&hinted).class, classify(sql), "{hinted}");
        }
    }
}

#[test]
fn a_hint_that_nobody_knows_keeps_a_read_on_the_primary_and_says_so() {
    let sql = "/* router:primray */ SELECT 1";
    let verdict = verdict(sql);
    assert_eq!(verdict.class, Class::Unproven);
    assert_eq!(verdict.hint, None);
    assert_eq!(
        verdict.cause.to_string(),
        "`router:primray` is no hint: write `router:primary` or `router:replica`"
    );
    assert_eq!(
        verdict.cause.range().map(|range| &sql[range]),
        Some(" router:primray ")
    );
    all(
        Class::Unproven,
        &[
            "/* router: */ SELECT 1",
            "/* router:replica please */ SELECT 1",
            "/* router:replica */ /* router:x */ SELECT 1",
        ],
    );
    all(Class::Write, &["/* router:x */ DELETE FROM t"]);
}
