//! Texts that some of MySQL's versions or modes read otherwise, that end too early, or hold what no statement does.

use super::*;

#[test]
fn what_ends_too_early_or_holds_a_nul_goes_to_the_primary() {
    all(
        Class::Unproven,
        &[
            "SELECT 'unfinished",
            "SELECT 'unfinished\\'",
            "SELECT \"unfinished",
            "SELECT /* unfinished",
            "SELECT /*! unfinished",
            "SELECT /*!99999 /* unfinished */",
            "SELECT `unfinished",
            "SELECT `unfinished``",
            "SELECT 1 /* FOR UPDATE",
            "SELECT \0",
            "SELECT 1 -- x\0 FOR UPDATE",
            "SELECT `a\0`",
        ],
    );
    all(
        Class::Write,
        &["DELETE FROM `t", "DELETE FROM t; SELECT 'x"],
    );
    assert_eq!(verdict("SELECT 'x").cause.why(), &Why::Unreadable);
}

#[test]
fn what_versions_read_otherwise_goes_to_the_primary() {
    all(
        Class::Unproven,
        &[
            // A string since 8.1, a name before.
            "SELECT $a$ x $a$",
            "SELECT $$ ' $$",
            // A version of five digits, or of six.
            "SELECT /*!800001+ 1 */",
            "SELECT /*!080000+ 1 */",
            // The server loses this number and goes on behind it.
            "SELECT 1.e, 2",
            "SELECT 1.e+ 2",
            // Some servers execute one of these and not the other.
            "SELECT 1 /*!80100 + 1 */ /*!90100 + 2 */",
        ],
    );
    // What any of them reads as more than a read counts.
    all(Class::Locking, &["SELECT * FROM t /*!90000 FOR SHARE */"]);
    all(
        Class::Write,
        &["/*!90000 DELETE FROM t WHERE */ /*!80000 SELECT */ 1"],
    );
    assert_eq!(verdict("SELECT 1.e, 2").cause.why(), &Why::Ambiguous);
}

#[test]
fn two_dashes_begin_a_comment_only_before_a_blank() {
    all(
        Class::Read,
        &["SELECT 1 --\t@x", "SELECT 1 --\u{7f}@x", "SELECT 1 --"],
    );
    bound(
        Session::UserVariables,
        &["SELECT 1 --@x", "SELECT 1 -- x\n, @x", "SELECT 1 # x\n, @x"],
    );
    // A line ends with a line feed.
    all(Class::Read, &["SELECT 1 -- x\r, @x", "SELECT 1 # x\r, @x"]);
}

#[test]
fn a_comment_ends_at_its_first_end() {
    bound(
        Session::UserVariables,
        &[
            "SELECT /* /* */ @x",
            "SELECT /*/ */ @x",
            "SELECT /*+ QB_NAME(`*/ @x /*`) */ 1",
            "SELECT /*! 1 /* x */ , @x */",
            "SELECT /*!99999 /* x */ */ @x",
        ],
    );
}
