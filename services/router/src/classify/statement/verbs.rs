//! Statements by their first words: which of them read, which change something, and which are about their session.

use super::super::{
    Class, Session,
    cause::{Why, name},
    lexer::{Kind, Token},
    words::{Role, any},
};
use super::{ACCOUNTS, DESCRIBES, OTHER, READS, Reader, Rules, SEALED, is_one_of};

impl Reader<'_, '_> {
    /// Reads the first words of a statement, and sets the rules for the rest of it.
    pub(super) fn statement(&mut self) {
        let first = self.now();
        while self.now().is(b'(') {
            self.advance();
        }
        let verb = self.now();
        let in_parentheses = verb.range() != first.range();
        match verb.role {
            Role::Select | Role::Table | Role::Values | Role::With => {
                self.rules = READS;
                return;
            }
            Role::Insert | Role::Replace | Role::Update | Role::Delete if !in_parentheses => {
                return self.find_named(Class::Write, Why::Changes, verb);
            }
            _ => {}
        }
        if verb.kind != Kind::Word || in_parentheses {
            return self.find(Class::Unproven, Why::NotAStatement, verb);
        }
        let verb_text = self.text(&verb);
        if any(verb_text, &["SHOW"]) {
            self.advance();
            self.show(verb);
        } else if any(verb_text, &["EXPLAIN", "DESCRIBE", "DESC"]) {
            self.advance();
            self.explain();
        } else if any(verb_text, &["HELP", "CHECKSUM"]) {
            self.find_named(Class::Unproven, Why::OneServer, verb);
        } else if let Some(session) = self.session_verb(verb_text) {
            self.session(session, verb);
        } else if is_change(verb_text) {
            self.find_named(Class::Write, Why::Changes, verb);
            self.rules = self.rules_of_change(verb_text);
        } else {
            self.find(Class::Unproven, Why::NotAStatement, verb);
        }
    }

    /// The session state that a statement with this verb is about. Nothing is consumed but what cannot be told without.
    fn session_verb(&mut self, verb: &str) -> Option<Session> {
        let next = self.ahead();
        let next_is = |words: &[&str]| is_one_of(&self.lexer, &next, words);
        if any(
            verb,
            &["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "XA"],
        ) {
            Some(Session::Transactions)
        } else if any(verb, &["START"]) {
            next_is(&["TRANSACTION"]).then_some(Session::Transactions)
        } else if any(
            verb,
            &[
                "USE",
                "PREPARE",
                "EXECUTE",
                "DEALLOCATE",
                "LOCK",
                "UNLOCK",
                "HANDLER",
            ],
        ) {
            Some(Session::Settings)
        } else if any(verb, &["CREATE", "DROP"]) {
            next_is(&["TEMPORARY", "PREPARE"]).then_some(Session::Settings)
        } else if any(verb, &["GET"]) {
            Some(Session::LastStatement)
        } else if any(verb, &["SET"]) {
            self.set()
        } else if any(verb, &["FLUSH"]) {
            self.flush()
        } else {
            None
        }
    }

    /// SET, which is of the session unless every assignment in it says otherwise.
    fn set(&mut self) -> Option<Session> {
        self.advance();
        if self.at(&["PASSWORD"])
            || self.at(&["DEFAULT"]) && is_one_of(&self.lexer, &self.ahead(), &["ROLE"])
        {
            self.rules = ACCOUNTS;
            return None;
        }
        if self.skip(&["RESOURCE"]) && self.skip(&["GROUP"]) {
            // That of other threads, or its own.
            while !self.ended() && !self.at(&["FOR"]) {
                self.advance();
            }
            return self.ended().then_some(Session::Settings);
        }
        let mut begins = true;
        while !self.ended() {
            if begins && self.now().kind == Kind::UserVariable {
                return Some(Session::UserVariables);
            }
            let global = self.at(&["GLOBAL", "PERSIST", "PERSIST_ONLY"])
                || self.now().kind == Kind::SystemVariable
                    && self.ahead().is(b'.')
                    && any(
                        self.text(&self.now()),
                        &["GLOBAL", "PERSIST", "PERSIST_ONLY"],
                    );
            if begins && !global {
                return Some(Session::Settings);
            }
            begins = self.depth == 0 && self.now().is(b',');
            self.advance();
        }
        None
    }

    /// FLUSH, which can hold locks until the session ends.
    fn flush(&mut self) -> Option<Session> {
        while !self.ended() {
            if self.skip(&["WITH"]) && self.at(&["READ"])
                || self.skip(&["FOR"]) && self.at(&["EXPORT"])
            {
                return Some(Session::Settings);
            }
            if !self.ended() {
                self.advance();
            }
        }
        None
    }

    fn rules_of_change(&mut self, verb: &str) -> Rules {
        if any(verb, &["LOAD"]) {
            // Its variables are columns of the file.
            return SEALED;
        }
        if any(verb, &["CREATE", "ALTER"]) && self.defines_a_routine() {
            return SEALED;
        }
        if any(
            verb,
            &[
                "CREATE", "ALTER", "DROP", "GRANT", "REVOKE", "RENAME", "SET", "CHANGE", "START",
            ],
        ) {
            return ACCOUNTS;
        }
        OTHER
    }

    /// It has a body, whose statements are executed when it is called.
    fn defines_a_routine(&mut self) -> bool {
        self.rules = ACCOUNTS;
        self.advance();
        loop {
            if self.at(&["PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "LIBRARY"]) {
                return true;
            }
            if self.skip(&["OR", "REPLACE", "AGGREGATE"]) {
                continue;
            }
            if !self.skip(&["DEFINER"]) {
                return false;
            }
            while self.now().is(b'=') || self.now().is(b'(') || self.now().is(b')') {
                self.advance();
            }
            self.advance();
            while self.now().kind == Kind::UserVariable
                || self.now().is(b'(')
                || self.now().is(b')')
            {
                self.advance();
            }
        }
    }

    /// SHOW of definitions reads them; all else tells of one server or of the statement before.
    fn show(&mut self, verb: Token) {
        while self.skip(&["FULL", "EXTENDED"]) {}
        if self.at(&["WARNINGS", "ERRORS", "PROFILE", "PROFILES", "COUNT"]) {
            return self.session(Session::LastStatement, self.now());
        }
        let accounts = if self.skip(&["CREATE"]) {
            if self.at(&["USER"]) {
                Some(true)
            } else {
                self.at(&[
                    "TABLE",
                    "VIEW",
                    "DATABASE",
                    "SCHEMA",
                    "PROCEDURE",
                    "FUNCTION",
                    "TRIGGER",
                    "LIBRARY",
                ])
                .then_some(false)
            }
        } else if self.skip(&["TABLE", "PROCEDURE", "FUNCTION", "LIBRARY"]) {
            self.at(&["STATUS"]).then_some(false)
        } else if self.skip(&["CHARACTER"]) {
            self.at(&["SET"]).then_some(false)
        } else if self.skip(&["GRANTS"]) {
            // Those of an account; one's own depend on the session's roles.
            self.at(&["FOR"]).then_some(true)
        } else {
            self.at(&[
                "TABLES",
                "COLUMNS",
                "FIELDS",
                "INDEX",
                "INDEXES",
                "KEYS",
                "DATABASES",
                "SCHEMAS",
                "COLLATION",
                "CHARSET",
                "TRIGGERS",
            ])
            .then_some(false)
        };
        let Some(accounts) = accounts else {
            let (text, range) = self.lexer.span(&verb, &self.now());
            return self.find_at(Class::Unproven, Why::OneServer(name(text)), range);
        };
        self.advance();
        // What follows LIKE and WHERE may call functions.
        self.rules = Rules {
            accounts,
            ..DESCRIBES
        };
    }

    /// EXPLAIN of a read reads; with ANALYZE it executes what it explains.
    fn explain(&mut self) {
        let first = self.now().range();
        let mut executes = false;
        loop {
            if self.skip(&["ANALYZE"]) {
                executes = true;
            } else if self.at(&["FORMAT"]) && self.ahead().is(b'=') {
                self.advance();
                self.advance();
                self.advance();
            } else if self.now().role == Role::Into {
                self.find(Class::Unproven, Why::Into, self.now());
                self.advance();
                self.advance();
            } else if self.at(&["FOR"]) {
                let what = self.ahead();
                self.advance();
                if !self.skip(&["SCHEMA", "DATABASE"]) {
                    return self.find_named(Class::Unproven, Why::OneServer, what);
                }
                self.advance();
            } else if !self.skip(&["EXTENDED", "PARTITIONS"]) {
                break;
            }
        }
        let opens = self.now();
        while self.now().is(b'(') {
            self.advance();
        }
        let verb = self.now();
        match verb.role {
            Role::Select | Role::Table | Role::Values | Role::With => self.rules = READS,
            Role::Insert | Role::Replace | Role::Update | Role::Delete if executes => {
                self.find_named(Class::Write, Why::Changes, verb);
            }
            Role::Insert | Role::Replace | Role::Update | Role::Delete => {
                self.find(Class::Unproven, Why::ExplainsAChange, verb);
            }
            // DESCRIBE of a table, with a column or a pattern.
            _ if verb.is_name() && verb.range() == first => {
                self.rules = DESCRIBES;
                self.advance();
                while self.now().is(b'.') {
                    self.advance();
                    self.advance();
                }
                if self.now().is_name()
                    || self.now().kind == Kind::Text
                    || self.now().kind == Kind::DoubleQuoted
                {
                    self.advance();
                }
                if !self.ended() {
                    self.find(Class::Unproven, Why::NotAStatement, verb);
                }
            }
            _ => self.find(Class::Unproven, Why::NotAStatement, opens),
        }
    }
}

/// Statements that change data, definitions, accounts or the server, or call what may.
fn is_change(verb: &str) -> bool {
    any(
        verb,
        &[
            "ALTER",
            "ANALYZE",
            "BINLOG",
            "CACHE",
            "CALL",
            "CHANGE",
            "CHECK",
            "CLONE",
            "CREATE",
            "DO",
            "DROP",
            "FLUSH",
            "GRANT",
            "IMPORT",
            "INSTALL",
            "KILL",
            "LOAD",
            "OPTIMIZE",
            "PURGE",
            "RENAME",
            "REPAIR",
            "RESET",
            "RESIGNAL",
            "RESTART",
            "REVOKE",
            "SET",
            "SHUTDOWN",
            "SIGNAL",
            "START",
            "STOP",
            "TRUNCATE",
            "UNINSTALL",
        ],
    )
}
