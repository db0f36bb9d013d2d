//! Functions that are no built-ins: a stored function can write, and a replica refuses that only when it plans the statement.

use super::*;

#[test]
fn a_function_that_nobody_knows_goes_to_the_primary_wherever_it_stands() {
    all(
        Class::Unproven,
        &[
            "SELECT my_function(1)",
            "SELECT my_function (1)",
            "SELECT my_function /* x */ (1)",
            "SELECT my_function -- x\n(1)",
            "SELECT `my_function`(1)",
            "SELECT `my``function`(1)",
            "SELECT \"my_function\"(1)",
            "SELECT 名前(1), 1a(1)",
            "SELECT db.now()",
            "SELECT db . f ()",
            "SELECT `db`.`f`()",
            "SELECT db /* x */ . /* y */ count(1)",
            "SELECT sys.format_bytes(1)",
            "SELECT 1 FROM t ORDER BY f(a)",
            "SELECT 1 FROM t GROUP BY f(a) HAVING g(b)",
            "SELECT 1 FROM t WHERE a IN (1, f(b))",
            "SELECT CASE WHEN f(a) THEN 1 END FROM t",
            "SELECT NOT f(a), - f(a), (f(a)), DISTINCT f(a) FROM t",
            "SELECT * FROM t JOIN u ON f(a)",
            "SELECT * FROM t LIMIT 1 OFFSET f(1)",
            "SELECT COUNT(f(a)), ABS(f(a)) FROM t",
            "SELECT IF(0, f(a), 1)",
            "VALUES ROW(1, f(2))",
            "WITH a AS (SELECT f(1)) SELECT * FROM a",
            "WITH a AS (SELECT 1) (SELECT 1) ORDER BY (1), f(2)",
            "WITH a AS (SELECT 1), b AS (SELECT 2) SELECT (1), f(2)",
            "WITH a AS (SELECT 1) SELECT a, f(x) FROM a",
            "SELECT * FROM (SELECT f(1)) AS d",
            "EXPLAIN SELECT * FROM (SELECT f(1)) AS d",
            "SELECT {fn f(1)}",
            "SELECT * FROM (SELECT 1) f (1)",
            "SELECT 1 AS f (a + 1)",
            "WITH f ('x') AS (SELECT 1) SELECT 2",
            "SELECT * FROM JSON_TABLE(f(1), '$' COLUMNS (a INT PATH '$')) j",
            "SELECT SUM(a) OVER (ORDER BY f(b)) FROM t",
            "SELECT 1 /*!50000 , f(1) */",
            "SELECT 1 /*!90001 , f(1) */",
            "SELECT NEXT VALUE FOR s",
            "SELECT NEXTVAL(s)",
            "SELECT st_of_my_own(a), x_y_z(b) FROM t",
        ],
    );
}

#[test]
fn a_keyword_that_is_no_longer_one_is_a_stored_function() {
    all(
        Class::Unproven,
        &[
            // In quotes.
            "SELECT `count`(a) FROM t",
            "SELECT `if`(1, 2, 3)",
            "SELECT `left`('a', 1)",
            // Only blanks may stand before the parenthesis of these.
            "SELECT count/**/(a) FROM t",
            "SELECT max -- x\n(a) FROM t",
            // Behind a schema.
            "SELECT d.abs(1)",
            // Right before a period.
            "SELECT abs.x(1)",
        ],
    );
}

fn with(functions: &[&str]) -> Classifier {
    let functions: Vec<String> = functions.iter().map(|&name| name.to_owned()).collect();
    Classifier::new(&functions).unwrap()
}

#[test]
fn a_registered_function_is_pure_as_it_is_registered() {
    let classifier = with(&["slug", "shop.price", "`count`"]);
    for (sql, class) in [
        ("SELECT slug(a) FROM t", Class::Read),
        ("SELECT SLUG (a), `Slug`/**/(b) FROM t", Class::Read),
        ("SELECT shop.price(a) FROM t", Class::Read),
        ("SELECT `Shop` . `PRICE` (a) FROM t", Class::Read),
        ("SELECT `count`(a), count/**/(a) FROM t", Class::Read),
        ("SELECT price(a) FROM t", Class::Unproven),
        ("SELECT shop.slug(a) FROM t", Class::Unproven),
        ("SELECT slug(other(a)) FROM t", Class::Unproven),
        ("SELECT slug(a) FROM t FOR UPDATE", Class::Locking),
        (
            "SELECT slug(@a)",
            Class::SessionState(Session::UserVariables),
        ),
    ] {
        assert_eq!(classifier.classify(sql).class, class, "{sql}");
    }
}

#[test]
fn a_name_that_is_none_is_refused_with_what_is_expected() {
    let refused = Classifier::new(&["GET_LOCK".to_owned()]).unwrap_err();
    assert!(refused.contains("expected a stored function"), "{refused}");
    let refused = Classifier::new(&["a b".to_owned()]).unwrap_err();
    assert!(refused.contains("schema.name"), "{refused}");
}

#[test]
fn the_cause_names_the_function() {
    let sql = "SELECT 1, `my_function` (2)";
    let cause = verdict(sql).cause;
    assert_eq!(
        cause.to_string(),
        "`my_function` is not known to be pure: register it in pure_functions if it only reads"
    );
    assert_eq!(
        cause.range().map(|range| &sql[range]),
        Some("`my_function`")
    );
    let long = format!("SELECT {}(1)", "é".repeat(10_000));
    assert!(verdict(&long).cause.to_string().len() < 300);
}
