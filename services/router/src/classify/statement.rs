//! The rules: what the tokens of a text say of it, in one pass.
//!
//! Each token is looked at once, with the two before it and the one behind it at hand. What is found weighs by its class; the
//! heaviest decides, and of several the first.

mod tables;
mod verbs;

use super::{
    Class, Session,
    cause::{Cause, Why, name},
    lexer::{Asked, Kind, Lexer, Token},
    registered::{Registered, Written},
    summary::Summary,
    words::{self, Role, any},
};

/// Reads all statements of a text.
pub(super) struct Reader<'a, 'r> {
    lexer: Lexer<'a>,
    registered: &'r Registered,
    summary: Option<&'r mut Summary<'a>>,
    /// The two tokens before the current one, that, and the one behind it; where in the ring the current one is, `turn` says.
    ring: [Token; 4],
    turn: usize,
    /// How many parentheses are open.
    depth: usize,
    /// At which depths a list of common table expressions is open, the innermost last.
    with: Vec<usize>,
    /// The name behind which a list of columns is open, as long as nothing but names and commas came.
    columns: Option<Token>,
    rules: Rules,
    found: Option<(Class, Cause)>,
}

/// Which rules hold for the statement.
#[derive(Clone, Copy)]
struct Rules {
    /// It is one that should only read: whatever does not, counts.
    reads: bool,
    /// Tables of one server count, too.
    tables: bool,
    /// `user@host` is an account.
    accounts: bool,
    /// Session state that is used in it is used when it is called, or its own.
    sealed: bool,
}

/// Of a statement that is not known to be one that reads.
const OTHER: Rules = Rules {
    reads: false,
    tables: false,
    accounts: false,
    sealed: false,
};
const READS: Rules = Rules {
    reads: true,
    tables: true,
    ..OTHER
};
const DESCRIBES: Rules = Rules {
    reads: true,
    ..OTHER
};
const ACCOUNTS: Rules = Rules {
    accounts: true,
    ..OTHER
};
const SEALED: Rules = Rules {
    sealed: true,
    ..OTHER
};

/// What a pass found.
pub(super) struct Found {
    /// `None` where everything in it only reads.
    pub(super) found: Option<(Class, Cause)>,
    pub(super) asked: Asked,
    /// The text could be read to its end.
    pub(super) is_readable: bool,
    /// A part of the text is executed by some servers only.
    pub(super) depends_on_version: bool,
}

impl<'a, 'r> Reader<'a, 'r> {
    pub(super) fn new(
        sql: &'a str,
        server: u32,
        registered: &'r Registered,
        summary: Option<&'r mut Summary<'a>>,
    ) -> Self {
        let mut lexer = Lexer::new(sql, server);
        let ring = [lexer.next(), lexer.next(), Token::END, Token::END];
        Self {
            lexer,
            registered,
            summary,
            ring,
            turn: 0,
            depth: 0,
            with: Vec::new(),
            columns: None,
            rules: OTHER,
            found: None,
        }
    }

    /// Reads the whole text.
    pub(super) fn read(mut self) -> Found {
        let (mut statements, mut is_empty) = (0_usize, true);
        while self.now().kind != Kind::End {
            if self.now().is(b';') {
                // An empty statement counts before another, not behind it.
                statements += usize::from(statements == 0);
                self.go_on();
                continue;
            }
            statements += 1;
            is_empty = false;
            if statements == 2 {
                self.find(Class::Unproven, Why::Several, self.now());
            }
            (self.depth, self.rules) = (0, OTHER);
            self.with.clear();
            self.columns = None;
            self.statement();
            self.rest();
        }
        if let Some(at) = self.lexer.failed {
            self.find_at(Class::Unproven, Why::Unreadable, at..at);
        } else if is_empty {
            self.find_at(Class::Unproven, Why::Empty, 0..0);
        }
        if let Some(at) = self.lexer.dubious {
            self.find_at(Class::Unproven, Why::Ambiguous, at..at);
        }
        Found {
            found: self.found,
            asked: self.lexer.asked,
            is_readable: self.lexer.failed.is_none(),
            depends_on_version: self.lexer.version.is_some(),
        }
    }

    // Moving.

    /// Looks at the current token and goes on to the next, but not beyond the statement.
    fn advance(&mut self) {
        if !self.ended() {
            self.go_on();
        }
    }

    fn go_on(&mut self) {
        self.look();
        let now = self.now();
        if let Some(summary) = &mut self.summary {
            summary.add(&self.lexer, &now);
        }
        self.turn = self.turn.wrapping_add(1);
        let ahead = &mut self.ring[self.turn.wrapping_add(1) % 4];
        self.lexer.read(ahead);
    }

    fn now(&self) -> Token {
        self.ring[self.turn % 4]
    }

    fn ahead(&self) -> Token {
        self.ring[self.turn.wrapping_add(1) % 4]
    }

    fn last(&self) -> Token {
        self.ring[self.turn.wrapping_add(3) % 4]
    }

    fn before_last(&self) -> Token {
        self.ring[self.turn.wrapping_add(2) % 4]
    }

    fn ended(&self) -> bool {
        match self.now().kind {
            Kind::End => true,
            Kind::Symbol(b';') => !self.rules.sealed,
            _ => false,
        }
    }

    /// To the end of the statement.
    fn rest(&mut self) {
        while !self.ended() {
            self.advance();
        }
    }

    fn text(&self, token: &Token) -> &'a str {
        self.lexer.text(token)
    }

    /// The current token is one of these words, unquoted.
    fn at(&self, words: &[&str]) -> bool {
        self.now().kind == Kind::Word && any(self.text(&self.now()), words)
    }

    /// Goes on if the current token is one of these words.
    fn skip(&mut self, words: &[&str]) -> bool {
        let skips = self.at(words);
        if skips {
            self.advance();
        }
        skips
    }

    // Finding.

    fn find(&mut self, class: Class, why: Why, token: Token) {
        self.find_at(class, why, token.range());
    }

    fn find_at(&mut self, class: Class, why: Why, range: std::ops::Range<usize>) {
        let heavier = match &self.found {
            Some((found, _)) => class.weight() > found.weight(),
            None => true,
        };
        if heavier {
            let range = Some(range);
            self.found = Some((class, Cause { why, range }));
        }
    }

    /// As [`Reader::find`], with the token's text; which is copied only if this decides.
    fn find_named(&mut self, class: Class, why: fn(Box<str>) -> Why, token: Token) {
        let lighter = self
            .found
            .as_ref()
            .is_some_and(|(found, _)| found.weight() >= class.weight());
        if !lighter {
            self.find(class, why(name(self.text(&token))), token);
        }
    }

    fn session(&mut self, session: Session, token: Token) {
        self.find(Class::SessionState(session), Why::Session(session), token);
    }

    // Every token.

    fn look(&mut self) {
        let now = self.now();
        if let Some(named) = self.columns {
            self.column(named, now);
        }
        match now.kind {
            Kind::Word => self.word(now),
            Kind::Quoted => self.name(now, Role::Name),
            Kind::DoubleQuoted => {
                // Where `"` quotes names, this would be a call, or a table.
                if self.rules.reads && self.ahead().is(b'(') && self.last().role != Role::As {
                    self.find_named(Class::Unproven, Why::UnknownFunction, now);
                } else if self.rules.tables && self.last().is(b'.') {
                    self.qualified(now);
                }
            }
            Kind::Symbol(b'(') => {
                // Behind the last of a list of common table expressions.
                if self.with.last() == Some(&self.depth) && self.last().is(b')') {
                    self.with.pop();
                }
                self.depth += 1;
            }
            Kind::Symbol(b')') => {
                self.depth = self.depth.saturating_sub(1);
                while self.with.last().is_some_and(|&with| with > self.depth) {
                    self.with.pop();
                }
            }
            Kind::Assignment if !self.rules.sealed && !self.is_assignment_of_system_variable() => {
                self.session(Session::UserVariables, now);
            }
            Kind::UserVariable if !(self.rules.sealed || self.rules.accounts && self.is_host()) => {
                self.session(Session::UserVariables, now);
            }
            Kind::SystemVariable => self.system_variable(now),
            Kind::Text
            | Kind::Number
            | Kind::Symbol(_)
            | Kind::Assignment
            | Kind::UserVariable
            | Kind::End => {}
        }
    }

    /// The next token of what should be a list of columns: if it is none, the name before it is that of a function.
    fn column(&mut self, named: Token, now: Token) {
        match now.kind {
            Kind::Word | Kind::Quoted | Kind::Symbol(b',') => {}
            Kind::Symbol(b'(') if self.last().range() == named.range() => {}
            Kind::Symbol(b')') => self.columns = None,
            _ => {
                self.columns = None;
                self.find_named(Class::Unproven, Why::UnknownFunction, named);
            }
        }
    }

    /// `SET x := 1` sets no user variable.
    fn is_assignment_of_system_variable(&self) -> bool {
        !self.rules.reads && self.last().kind != Kind::UserVariable && self.last().is_name()
    }

    /// The `@host` behind an account's name.
    fn is_host(&self) -> bool {
        match self.last().kind {
            Kind::Text | Kind::DoubleQuoted | Kind::Quoted => true,
            Kind::Word => !self.last().role.is_keyword(),
            _ => false,
        }
    }

    fn system_variable(&mut self, now: Token) {
        if !self.rules.sealed {
            self.variable_of_session(now);
        }
        if self.rules.reads {
            self.find(Class::Unproven, Why::SystemVariable, now);
        }
    }

    /// `@@identity`, or the name behind a scope.
    fn variable_of_session(&mut self, token: Token) {
        let name = self.text(&token).trim_matches('`');
        if words::of_last_statement(name) {
            self.session(Session::LastStatement, token);
        } else if any(name, &["pseudo_thread_id"]) {
            self.session(Session::Settings, token);
        }
    }

    fn word(&mut self, now: Token) {
        match now.role {
            Role::Name => return self.name(now, Role::Name),
            Role::CalcFoundRows if !self.rules.sealed => {
                self.session(Session::LastStatement, now);
            }
            Role::Syntax
            | Role::As
            | Role::Recursive
            | Role::From
            | Role::Join
            | Role::CalcFoundRows => {}
            Role::With => {
                if self.rules.reads && !is_one_of(&self.lexer, &self.ahead(), &["ROLLUP", "QUERY"])
                {
                    self.with.push(self.depth);
                }
                return;
            }
            // A subquery in what describes.
            Role::Select => self.rules.tables |= self.rules.reads,
            Role::Table | Role::Values => {}
            Role::Into if self.rules.reads => self.find(Class::Unproven, Why::Into, now),
            Role::Procedure if self.rules.reads => {
                self.find(Class::Unproven, Why::Procedure, now);
            }
            Role::For
                if self.rules.reads
                    && is_one_of(&self.lexer, &self.ahead(), &["UPDATE", "SHARE"]) =>
            {
                self.find(Class::Locking, Why::Locks, now);
            }
            // `NEXT VALUE FOR`: MySQL has no sequences, its kin has.
            Role::For
                if self.rules.reads
                    && is_one_of(&self.lexer, &self.last(), &["VALUE"])
                    && is_one_of(&self.lexer, &self.before_last(), &["NEXT"]) =>
            {
                self.find_named(Class::Unproven, Why::UnknownFunction, self.before_last());
            }
            Role::Lock if self.rules.reads => self.find(Class::Locking, Why::Locks, now),
            // `FOR UPDATE` locks.
            Role::Update if self.rules.reads && self.last().role != Role::For => {
                self.find_named(Class::Write, Why::Changes, now);
            }
            Role::Delete if self.rules.reads => {
                self.find_named(Class::Write, Why::Changes, now);
            }
            // The functions aside.
            Role::Insert | Role::Replace if self.rules.reads && !self.ahead().is(b'(') => {
                self.find_named(Class::Write, Why::Changes, now);
            }
            Role::Into
            | Role::Procedure
            | Role::For
            | Role::Lock
            | Role::Update
            | Role::Delete
            | Role::Insert
            | Role::Replace => {}
            role => return self.name(now, role),
        }
        // A keyword ends a list of common table expressions.
        if !matches!(now.role, Role::As | Role::Recursive) && self.with.last() == Some(&self.depth)
        {
            self.with.pop();
        }
    }

    /// A name, or a word that may be one.
    fn name(&mut self, now: Token, role: Role) {
        if self.ahead().is(b'(') {
            self.call(now, role);
        } else if self.rules.tables && self.last().is(b'.') {
            self.qualified(now);
        }
        if self.last().is(b'.')
            && self.before_last().kind == Kind::SystemVariable
            && !self.rules.sealed
        {
            self.variable_of_session(now);
        }
    }

    /// A word before a parenthesis.
    fn call(&mut self, now: Token, role: Role) {
        let qualified = self.last().is(b'.');
        let role = match now.kind {
            _ if qualified => Role::Name,
            Kind::Quoted => words::quoted_function(self.text(&now).as_bytes()),
            _ => role,
        };
        let session = match role {
            Role::NamedLock => Session::NamedLocks,
            Role::LastStatement => Session::LastStatement,
            Role::Connection => Session::Settings,
            Role::Server if self.rules.reads => {
                return self.find_named(Class::Unproven, Why::ServerFunction, now);
            }
            Role::Name if self.rules.reads && !self.is_pure(now, qualified) => {
                return self.find_named(Class::Unproven, Why::UnknownFunction, now);
            }
            Role::PureBeforeParenthesis
                if self.rules.reads
                    && self.ahead().behind_comment
                    && !self.is_registered(now, false) =>
            {
                return self.find_named(Class::Unproven, Why::UnknownFunction, now);
            }
            _ => return,
        };
        if !self.rules.sealed {
            self.session(session, now);
        }
    }

    /// A name before a parenthesis that calls nothing, or what is registered.
    fn is_pure(&mut self, now: Token, qualified: bool) -> bool {
        if self.is_syntax(now) || self.is_registered(now, qualified) {
            return true;
        }
        let names_columns = !qualified
            && match self.last().kind {
                // `AS t (a, b)`, `WITH t (a, b) AS (…)`
                Kind::Word => matches!(self.last().role, Role::As | Role::With | Role::Recursive),
                // `(SELECT 1) t (a)`
                Kind::Symbol(b')') => true,
                // `, t (a) AS (…)` in a list of common table expressions.
                Kind::Symbol(b',') => {
                    self.with.last() == Some(&self.depth) && self.before_last().is(b')')
                }
                _ => false,
            };
        if names_columns {
            self.columns = Some(now);
        }
        names_columns
    }

    /// Keywords that older versions do not have, where newer ones want them: `TABLESAMPLE BERNOULLI (10)`, `GROUPING SETS (…)`.
    fn is_syntax(&self, now: Token) -> bool {
        let pair = |first: &str, second: &[&str]| {
            is_one_of(&self.lexer, &self.last(), &[first]) && is_one_of(&self.lexer, &now, second)
        };
        // `{fn (…)}`
        self.last().is(b'{')
            || pair("TABLESAMPLE", &["BERNOULLI", "SYSTEM"])
            || pair("GROUPING", &["SETS"])
    }

    fn is_registered(&self, now: Token, qualified: bool) -> bool {
        let written = |token: &Token| Written {
            text: self.lexer.text(token),
            quoted: token.kind == Kind::Quoted,
        };
        let schema = qualified.then(|| written(&self.before_last()));
        self.registered.has(schema, written(&now))
    }

    /// A name behind a period, where the one before it may be a schema.
    fn qualified(&mut self, now: Token) {
        if !self.before_last().is_name() && self.before_last().kind != Kind::DoubleQuoted {
            return;
        }
        let table = self.text(&now);
        let session = match self.text(&self.before_last()) {
            schema if schema.eq_ignore_ascii_case("information_schema") => {
                if any(table, &["OPTIMIZER_TRACE", "PROFILING"]) {
                    true
                } else if tables::is_of_one_server(table) {
                    false
                } else {
                    return;
                }
            }
            schema if schema.eq_ignore_ascii_case("mysql") && !tables::is_replicated(table) => {
                false
            }
            schema if any(schema, &["performance_schema", "sys"]) => false,
            _ => return,
        };
        if session {
            self.session(Session::LastStatement, now);
        } else {
            self.find_named(Class::Unproven, Why::OneServer, now);
        }
    }
}

/// Whether a token is one of these words, unquoted.
fn is_one_of(lexer: &Lexer<'_>, token: &Token, words: &[&str]) -> bool {
    token.kind == Kind::Word && any(lexer.text(token), words)
}
