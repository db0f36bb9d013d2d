//! MySQL's words, and what each means to the rules: one table, made by the compiler and looked up without a copy of the word.
//!
//! A keyword of the grammar can never be the name of a stored function that is called without quotes, so a parenthesis behind one is
//! no call; a built-in function's name always means the built-in, unless a schema stands before it. What is in none of the lists is
//! somebody's name, and a parenthesis behind it calls what nobody here knows.

/// What a word means where it stands unquoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Role {
    /// None of MySQL's words that matter here.
    Name,
    /// A keyword that may stand before a parenthesis without a call.
    Syntax,
    /// A built-in function that depends on its arguments and the data (on the time, on chance, on who asks). Quotes change nothing.
    Pure,
    /// As [`Role::Pure`], but a keyword: in quotes it is the name of a stored function.
    PureKeyword,
    /// As [`Role::PureKeyword`], but a keyword only where nothing else than blanks stands before the parenthesis.
    PureBeforeParenthesis,
    /// A built-in that asks or waits for one server, or takes a while of it.
    Server,
    /// A built-in for named locks.
    NamedLock,
    /// A built-in that tells of the statement before.
    LastStatement,
    /// A built-in that names its connection.
    Connection,
    As,
    CalcFoundRows,
    Delete,
    For,
    From,
    Insert,
    Into,
    Join,
    Lock,
    Procedure,
    Recursive,
    Replace,
    Select,
    Table,
    Update,
    Values,
    With,
}

impl Role {
    /// A call of it without a schema can only be of the built-in.
    pub(super) fn is_impure_built_in(self) -> bool {
        matches!(
            self,
            Self::Server | Self::NamedLock | Self::LastStatement | Self::Connection
        )
    }

    /// A word that no account has without quotes.
    pub(super) fn is_keyword(self) -> bool {
        matches!(
            self,
            Self::Syntax
                | Self::As
                | Self::CalcFoundRows
                | Self::Delete
                | Self::For
                | Self::From
                | Self::Insert
                | Self::Into
                | Self::Join
                | Self::Lock
                | Self::Procedure
                | Self::Recursive
                | Self::Replace
                | Self::Select
                | Self::Table
                | Self::Update
                | Self::Values
                | Self::With
        )
    }
}

/// Each list is of words between blanks.
const LISTS: [(&str, Role); 26] = [
    (SYNTAX, Role::Syntax),
    (PURE, Role::Pure),
    (PURE_GEOMETRY, Role::Pure),
    (PURE_KEYWORDS, Role::PureKeyword),
    (PURE_BEFORE_PARENTHESIS, Role::PureBeforeParenthesis),
    (SERVER, Role::Server),
    (
        "GET_LOCK RELEASE_LOCK RELEASE_ALL_LOCKS IS_FREE_LOCK IS_USED_LOCK SERVICE_GET_READ_LOCKS SERVICE_GET_WRITE_LOCKS \
         SERVICE_RELEASE_LOCKS",
        Role::NamedLock,
    ),
    ("LAST_INSERT_ID FOUND_ROWS ROW_COUNT", Role::LastStatement),
    ("CONNECTION_ID PS_CURRENT_THREAD_ID", Role::Connection),
    ("AS", Role::As),
    ("SQL_CALC_FOUND_ROWS", Role::CalcFoundRows),
    ("DELETE", Role::Delete),
    ("FOR", Role::For),
    ("FROM", Role::From),
    ("INSERT", Role::Insert),
    ("INTO", Role::Into),
    ("JOIN STRAIGHT_JOIN", Role::Join),
    ("LOCK", Role::Lock),
    ("PROCEDURE", Role::Procedure),
    ("RECURSIVE", Role::Recursive),
    ("REPLACE", Role::Replace),
    ("SELECT", Role::Select),
    ("TABLE", Role::Table),
    ("UPDATE", Role::Update),
    ("VALUES", Role::Values),
    ("WITH", Role::With),
];

/// Keywords of every version since 8.0, reserved or not, and the types of CAST and JSON_TABLE.
const SYNTAX: &str = "\
    AGAINST ALL ANALYZE AND ANY ARRAY ASC AT BETWEEN BINARY BIT BLOB BOTH BY CASE CHARACTER COLLATE COLUMNS CROSS CUBE DEC DECIMAL DESC \
    DESCRIBE DISTINCT DISTINCTROW DIV DATETIME DOUBLE DUAL ELSE EMPTY END ENUM ERROR ESCAPE EXCEPT EXISTS EXPLAIN FALSE FIRST FIXED FLOAT \
    FOLLOWING FORCE FULL GROUP GROUPS HAVING HIGH_PRIORITY IGNORE IN INDEX INNER INT INTEGER INTERSECT IS JSON KEY LANGUAGE LATERAL \
    LEADING LIKE LIMIT MATCH MEMBER MODE NATIONAL NATURAL NCHAR NESTED NOT NULL NULLS NUMERIC NVARCHAR OF OFFSET OJ ON OR ORDER ORDINALITY \
    OUTER OVER PARTITION PATH PRECEDING RANGE REAL REGEXP RLIKE ROLLUP ROW ROWS SEPARATOR SET SIGNED SMALLINT SOME SOUNDS \
    SQL_BIG_RESULT SQL_BUFFER_RESULT SQL_NO_CACHE SQL_SMALL_RESULT TEXT THEN TINYINT TRAILING TRUE UNBOUNDED UNION UNSIGNED USE USING \
    VARBINARY VARCHAR VARYING WHEN WHERE WINDOW XOR BIGINT MEDIUMINT";

/// Built-in functions whose names are no keywords.
const PURE: &str = "\
    ABS ACOS ADDTIME AES_DECRYPT AES_ENCRYPT ANY_VALUE ASIN ATAN ATAN2 BIN BIN_TO_UUID BIT_COUNT BIT_LENGTH CEIL CEILING \
    CHARACTER_LENGTH CHAR_LENGTH COERCIBILITY COMPRESS CONCAT CONCAT_WS CONV CONVERT_TZ COS COT CRC32 CURRENT_USER_IN DATEDIFF DATE_FORMAT DAYNAME \
    DAYOFMONTH DAYOFWEEK DAYOFYEAR DEGREES ELT ETAG EXP EXPORT_SET EXTRACTVALUE FIELD FIND_IN_SET FLOOR FORMAT_BYTES \
    FORMAT_PICO_TIME FROM_BASE64 FROM_DAYS FROM_UNIXTIME FROM_VECTOR GREATEST GTID_SUBSET GTID_SUBTRACT HEX ICU_VERSION IFNULL \
    INET6_ATON INET6_NTOA INET_ATON INET_NTOA INSTR ISNULL IS_IPV4 IS_IPV4_COMPAT IS_IPV4_MAPPED IS_IPV6 IS_UUID JSON_ARRAY \
    JSON_ARRAY_APPEND JSON_ARRAY_INSERT JSON_CONTAINS JSON_CONTAINS_PATH JSON_DEPTH JSON_EXTRACT JSON_INSERT JSON_KEYS JSON_LENGTH \
    JSON_MERGE JSON_MERGE_PATCH JSON_MERGE_PRESERVE JSON_OBJECT JSON_OVERLAPS JSON_PRETTY JSON_QUOTE JSON_REMOVE JSON_REPLACE \
    JSON_SCHEMA_VALID JSON_SCHEMA_VALIDATION_REPORT JSON_SEARCH JSON_SET JSON_STORAGE_FREE JSON_STORAGE_SIZE JSON_TYPE JSON_UNQUOTE \
    JSON_VALID LAST_DAY LCASE LEAST LENGTH LN LOCATE LOG10 LOG2 LOWER LPAD LTRIM MAKEDATE MAKETIME MAKE_SET MD5 MONTHNAME \
    NAME_CONST NULLIF OCT OCTET_LENGTH ORD PERIOD_ADD PERIOD_DIFF PI POW POWER QUOTE RADIANS RAND RANDOM_BYTES REGEXP_INSTR \
    REGEXP_LIKE REGEXP_REPLACE REGEXP_SUBSTR ROUND RPAD RTRIM SEC_TO_TIME SHA SHA1 SHA2 SIGN SIN SOUNDEX SPACE SQRT STATEMENT_DIGEST \
    STATEMENT_DIGEST_TEXT STRCMP STRING_TO_VECTOR STR_TO_DATE SUBSTRING_INDEX SUBTIME TAN TIMEDIFF TIME_FORMAT TIME_TO_SEC TO_BASE64 \
    TO_DAYS TO_SECONDS TO_VECTOR UCASE UNCOMPRESS UNCOMPRESSED_LENGTH UNHEX UNIX_TIMESTAMP UPDATEXML UPPER UUID UUID_TO_BIN \
    VECTOR_DIM VECTOR_TO_STRING VERSION WEEKDAY WEEKOFYEAR YEARWEEK";

const PURE_GEOMETRY: &str = "\
    MBRCONTAINS MBRCOVEREDBY MBRCOVERS MBRDISJOINT MBREQUALS MBRINTERSECTS MBROVERLAPS MBRTOUCHES MBRWITHIN ST_AREA ST_ASBINARY \
    ST_ASGEOJSON ST_ASTEXT ST_ASWKB ST_ASWKT ST_BUFFER ST_BUFFER_STRATEGY ST_CENTROID ST_CONTAINS ST_CONVEXHULL ST_CROSSES \
    ST_DIFFERENCE ST_DIMENSION ST_DISJOINT ST_DISTANCE ST_DISTANCE_SPHERE ST_ENDPOINT ST_ENVELOPE ST_EQUALS ST_EXTERIORRING \
    ST_FRECHETDISTANCE ST_GEOHASH ST_GEOMCOLLFROMTEXT ST_GEOMCOLLFROMTXT ST_GEOMCOLLFROMWKB ST_GEOMETRYCOLLECTIONFROMTEXT \
    ST_GEOMETRYCOLLECTIONFROMWKB ST_GEOMETRYFROMTEXT ST_GEOMETRYFROMWKB ST_GEOMETRYN ST_GEOMETRYTYPE ST_GEOMFROMGEOJSON \
    ST_GEOMFROMTEXT ST_GEOMFROMWKB ST_HAUSDORFFDISTANCE ST_INTERIORRINGN ST_INTERSECTION ST_INTERSECTS ST_ISCLOSED ST_ISEMPTY \
    ST_ISSIMPLE ST_ISVALID ST_LATFROMGEOHASH ST_LATITUDE ST_LENGTH ST_LINEFROMTEXT ST_LINEFROMWKB ST_LINEINTERPOLATEPOINT \
    ST_LINEINTERPOLATEPOINTS ST_LINESTRINGFROMTEXT ST_LINESTRINGFROMWKB ST_LONGFROMGEOHASH ST_LONGITUDE ST_MAKEENVELOPE \
    ST_MLINEFROMTEXT ST_MLINEFROMWKB ST_MPOINTFROMTEXT ST_MPOINTFROMWKB ST_MPOLYFROMTEXT ST_MPOLYFROMWKB ST_MULTILINESTRINGFROMTEXT \
    ST_MULTILINESTRINGFROMWKB ST_MULTIPOINTFROMTEXT ST_MULTIPOINTFROMWKB ST_MULTIPOLYGONFROMTEXT ST_MULTIPOLYGONFROMWKB \
    ST_NUMGEOMETRIES ST_NUMINTERIORRING ST_NUMINTERIORRINGS ST_NUMPOINTS ST_OVERLAPS ST_POINTATDISTANCE ST_POINTFROMGEOHASH \
    ST_POINTFROMTEXT ST_POINTFROMWKB ST_POINTN ST_POLYFROMTEXT ST_POLYFROMWKB ST_POLYGONFROMTEXT ST_POLYGONFROMWKB ST_SIMPLIFY \
    ST_SRID ST_STARTPOINT ST_SWAPXY ST_SYMDIFFERENCE ST_TOUCHES ST_TRANSFORM ST_UNION ST_VALIDATE ST_WITHIN ST_X ST_Y";

const PURE_KEYWORDS: &str = "\
    ASCII AVG CHAR CHARSET COALESCE COLLATION CONVERT CUME_DIST CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP CURRENT_USER DATABASE \
    DATE DAY DEFAULT DENSE_RANK FIRST_VALUE FORMAT GEOMCOLLECTION GEOMETRYCOLLECTION GET_FORMAT GROUPING HOUR IF INTERVAL \
    JSON_TABLE JSON_VALUE LAG LAST_VALUE LEAD LEFT LINESTRING LOCALTIME LOCALTIMESTAMP MICROSECOND MINUTE MOD MONTH MULTILINESTRING \
    MULTIPOINT MULTIPOLYGON NTH_VALUE NTILE PERCENT_RANK POINT POLYGON QUARTER RANK REPEAT REVERSE RIGHT ROW_NUMBER SCHEMA SECOND \
    TIME TIMESTAMP TIMESTAMPADD TIMESTAMPDIFF TRUNCATE USER UTC_DATE UTC_TIME UTC_TIMESTAMP WEEK WEIGHT_STRING YEAR LOG";

const PURE_BEFORE_PARENTHESIS: &str = "\
    ADDDATE BIT_AND BIT_OR BIT_XOR CAST COUNT CURDATE CURTIME DATE_ADD DATE_SUB EXTRACT GROUP_CONCAT JSON_ARRAYAGG JSON_OBJECTAGG \
    MAX MID MIN NOW POSITION SESSION_USER STD STDDEV STDDEV_POP STDDEV_SAMP ST_COLLECT SUBDATE SUBSTR SUBSTRING SUM SYSDATE \
    SYSTEM_USER TRIM VARIANCE VAR_POP VAR_SAMP";

const SERVER: &str = "\
    BENCHMARK CURRENT_ROLE CURRENT_ROLE_IN LOAD_FILE MASTER_POS_WAIT PS_THREAD_ID ROLES_GRAPHML SLEEP SOURCE_POS_WAIT UUID_SHORT \
    VALIDATE_PASSWORD_STRENGTH WAIT_FOR_EXECUTED_GTID_SET WAIT_UNTIL_SQL_THREAD_AFTER_GTIDS";

/// A power of two, some three times the number of words.
const SLOTS: usize = 2048;

#[derive(Clone, Copy)]
struct Slot {
    word: &'static [u8],
    role: Role,
}

static TABLE: [Slot; SLOTS] = table();

/// The role of an unquoted word, whatever its case.
pub(super) fn role(word: &[u8]) -> Role {
    let mut at = slot(word);
    loop {
        let slot = &TABLE[at];
        if slot.word.is_empty() {
            return Role::Name;
        }
        if slot.word.eq_ignore_ascii_case(word) {
            return slot.role;
        }
        at = (at + 1) % SLOTS;
    }
}

/// The role that a name in quotes has as a function.
pub(super) fn quoted_function(name: &[u8]) -> Role {
    match role(name) {
        role @ (Role::Pure
        | Role::Server
        | Role::NamedLock
        | Role::LastStatement
        | Role::Connection) => role,
        // A keyword, and a built-in beside that.
        _ if name.eq_ignore_ascii_case(b"LOG") || name.eq_ignore_ascii_case(b"REVERSE") => {
            Role::Pure
        }
        _ => Role::Name,
    }
}

/// Where a word is looked for first: of its length, its first eight and its last eight bytes, without their case.
const fn slot(word: &[u8]) -> usize {
    let mut first = 0_u64;
    let mut at = 0;
    while at < word.len() && at < 8 {
        first = first << 8 | (word[at] | 0x20) as u64;
        at += 1;
    }
    let mut last = 0_u64;
    if word.len() > 8 {
        at = word.len() - 8;
        while at < word.len() {
            last = last << 8 | (word[at] | 0x20) as u64;
            at += 1;
        }
    }
    let mixed =
        (first ^ last.rotate_left(23) ^ word.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 53) as usize
}

const fn table() -> [Slot; SLOTS] {
    let mut table = [Slot {
        word: b"",
        role: Role::Name,
    }; SLOTS];
    let mut list = 0;
    while list < LISTS.len() {
        let (text, role) = LISTS[list];
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let mut end = 0;
            while end < rest.len() && rest[end] != b' ' {
                end += 1;
            }
            let (word, behind) = rest.split_at(end);
            rest = behind;
            while let [b' ', behind @ ..] = rest {
                rest = behind;
            }
            if word.is_empty() {
                continue;
            }
            let mut at = slot(word);
            while !table[at].word.is_empty() {
                at = (at + 1) % SLOTS;
            }
            table[at] = Slot { word, role };
        }
        list += 1;
    }
    table
}

/// System variables that the statement before has set.
pub(super) fn of_last_statement(name: &str) -> bool {
    any(
        name,
        &[
            "identity",
            "last_insert_id",
            "insert_id",
            "warning_count",
            "error_count",
        ],
    )
}

/// Whether a name is one of these, whatever its case.
pub(super) fn any(name: &str, of: &[&str]) -> bool {
    of.iter().any(|one| one.eq_ignore_ascii_case(name))
}

#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = (&'static str, Role)> {
    LISTS
        .iter()
        .flat_map(|(text, role)| text.split_whitespace().map(|word| (word, *role)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found_in_any_case_and_stands_in_one_list() {
        for (word, listed) in all() {
            assert_eq!(role(word.as_bytes()), listed, "{word}");
            assert_eq!(role(word.to_ascii_lowercase().as_bytes()), listed, "{word}");
        }
        for name in [
            "",
            "x",
            "selec",
            "selects",
            "entries",
            "SÉLECT",
            "st_",
            "a_name_that_is_longer_than_any_word_of_theirs",
        ] {
            assert_eq!(role(name.as_bytes()), Role::Name, "{name}");
        }
    }

    #[test]
    fn a_keyword_in_quotes_is_no_built_in_function() {
        for (name, expected) in [
            ("abs", Role::Pure),
            ("log", Role::Pure),
            ("get_lock", Role::NamedLock),
            ("count", Role::Name),
            ("if", Role::Name),
            ("select", Role::Name),
        ] {
            assert_eq!(quoted_function(name.as_bytes()), expected, "{name}");
        }
    }
}
