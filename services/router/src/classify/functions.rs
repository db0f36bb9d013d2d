//! Words that may stand before a parenthesis: syntax, pure functions, and functions of the session.

use super::Session;

/// Keywords that a parenthesis may follow without a call, types of CAST and JSON_TABLE included.
pub(super) fn syntax(upper: &str) -> bool {
    matches!(
        upper,
        "ALL" | "AND" | "ANY" | "AS" | "BETWEEN" | "BY" | "CASE" | "COLUMNS" | "CROSS" | "DISTINCT" | "DISTINCTROW" | "DIV"
            | "ELSE" | "ESCAPE" | "EXCEPT" | "EXISTS" | "FROM" | "GROUP" | "HAVING" | "IGNORE" | "IN" | "INDEX" | "INNER"
            | "INTERSECT" | "IS" | "JOIN" | "KEY" | "LATERAL" | "LEFT_JOIN" | "LIKE" | "LIMIT" | "MATCH" | "MEMBER" | "NOT"
            | "OF" | "OFFSET" | "ON" | "OR" | "ORDER" | "OVER" | "PARTITION" | "PATH" | "RANGE" | "REGEXP" | "RLIKE" | "ROW"
            | "ROWS" | "SELECT" | "SOME" | "STRAIGHT_JOIN" | "THEN" | "UNION" | "USING" | "VALUES" | "WHEN" | "WHERE"
            | "WINDOW" | "XOR" | "AGAINST" | "NULL" | "OUTER"
            // Types.
            | "BINARY" | "BIT" | "CHAR" | "CHARACTER" | "DATE" | "DATETIME" | "DECIMAL" | "DOUBLE" | "FLOAT" | "INT"
            | "INTEGER" | "BIGINT" | "NCHAR" | "NUMERIC" | "REAL" | "SMALLINT" | "TIME" | "TIMESTAMP" | "TINYINT"
            | "VARBINARY" | "VARCHAR" | "VECTOR" | "YEAR" | "DEC" | "FIXED"
    )
}

/// Built-in functions that depend on their arguments and the data alone (and on the time, on chance, on who asks).
pub(super) fn pure(upper: &str) -> bool {
    matches!(
        upper,
        // Control flow and comparison.
        "COALESCE" | "GREATEST" | "IF" | "IFNULL" | "INTERVAL" | "ISNULL" | "LEAST" | "NULLIF" | "STRCMP"
            // Aggregates and windows.
            | "ANY_VALUE" | "AVG" | "BIT_AND" | "BIT_OR" | "BIT_XOR" | "COUNT" | "CUME_DIST" | "DENSE_RANK" | "FIRST_VALUE"
            | "GROUPING" | "GROUP_CONCAT" | "JSON_ARRAYAGG" | "JSON_OBJECTAGG" | "LAG" | "LAST_VALUE" | "LEAD" | "MAX" | "MIN"
            | "NTH_VALUE" | "NTILE" | "PERCENT_RANK" | "RANK" | "ROW_NUMBER" | "STD" | "STDDEV" | "STDDEV_POP" | "STDDEV_SAMP"
            | "SUM" | "VARIANCE" | "VAR_POP" | "VAR_SAMP"
            // Numbers.
            | "ABS" | "ACOS" | "ASIN" | "ATAN" | "ATAN2" | "BIT_COUNT" | "CEIL" | "CEILING" | "CONV" | "COS" | "COT" | "CRC32"
            | "DEGREES" | "EXP" | "FLOOR" | "LN" | "LOG" | "LOG10" | "LOG2" | "MOD" | "PI" | "POW" | "POWER" | "RADIANS" | "RAND"
            | "ROUND" | "SIGN" | "SIN" | "SQRT" | "TAN" | "TRUNCATE"
            // Text.
            | "ASCII" | "BIN" | "BIT_LENGTH" | "CHARACTER_LENGTH" | "CHARSET" | "CHAR_LENGTH" | "COERCIBILITY" | "COLLATION"
            | "CONCAT" | "CONCAT_WS" | "ELT" | "EXPORT_SET" | "FIELD" | "FIND_IN_SET" | "FORMAT" | "FROM_BASE64" | "HEX" | "INSERT"
            | "INSTR" | "LCASE" | "LEFT" | "LENGTH" | "LOCATE" | "LOWER" | "LPAD" | "LTRIM" | "MAKE_SET" | "MID" | "OCT"
            | "OCTET_LENGTH" | "ORD" | "POSITION" | "QUOTE" | "REGEXP_INSTR" | "REGEXP_LIKE" | "REGEXP_REPLACE"
            | "REGEXP_SUBSTR" | "REPEAT" | "REPLACE" | "REVERSE" | "RIGHT" | "RPAD" | "RTRIM" | "SOUNDEX" | "SPACE" | "SUBSTR"
            | "SUBSTRING" | "SUBSTRING_INDEX" | "TO_BASE64" | "TRIM" | "UCASE" | "UNHEX" | "UPPER" | "WEIGHT_STRING"
            // Times.
            | "ADDDATE" | "ADDTIME" | "CONVERT_TZ" | "CURDATE" | "CURRENT_DATE" | "CURRENT_TIME" | "CURRENT_TIMESTAMP"
            | "CURTIME" | "DATEDIFF" | "DATE_ADD" | "DATE_FORMAT" | "DATE_SUB" | "DAY" | "DAYNAME" | "DAYOFMONTH" | "DAYOFWEEK"
            | "DAYOFYEAR" | "EXTRACT" | "FROM_DAYS" | "FROM_UNIXTIME" | "GET_FORMAT" | "HOUR" | "LAST_DAY" | "LOCALTIME"
            | "LOCALTIMESTAMP" | "MAKEDATE" | "MAKETIME" | "MICROSECOND" | "MINUTE" | "MONTH" | "MONTHNAME" | "NOW"
            | "PERIOD_ADD" | "PERIOD_DIFF" | "QUARTER" | "SECOND" | "SEC_TO_TIME" | "STR_TO_DATE" | "SUBDATE" | "SUBTIME"
            | "SYSDATE" | "TIMEDIFF" | "TIMESTAMPADD" | "TIMESTAMPDIFF" | "TIME_FORMAT" | "TIME_TO_SEC" | "TO_DAYS"
            | "TO_SECONDS" | "UNIX_TIMESTAMP" | "UTC_DATE" | "UTC_TIME" | "UTC_TIMESTAMP" | "WEEK" | "WEEKDAY" | "WEEKOFYEAR"
            | "YEARWEEK"
            // Casts and digests.
            | "AES_DECRYPT" | "AES_ENCRYPT" | "CAST" | "COMPRESS" | "CONVERT" | "MD5" | "RANDOM_BYTES" | "SHA" | "SHA1" | "SHA2"
            | "STATEMENT_DIGEST" | "STATEMENT_DIGEST_TEXT" | "UNCOMPRESS" | "UNCOMPRESSED_LENGTH"
            // JSON, XML, vectors.
            | "EXTRACTVALUE" | "JSON_ARRAY" | "JSON_ARRAY_APPEND" | "JSON_ARRAY_INSERT" | "JSON_CONTAINS" | "JSON_CONTAINS_PATH"
            | "JSON_DEPTH" | "JSON_EXTRACT" | "JSON_INSERT" | "JSON_KEYS" | "JSON_LENGTH" | "JSON_MERGE" | "JSON_MERGE_PATCH"
            | "JSON_MERGE_PRESERVE" | "JSON_OBJECT" | "JSON_OVERLAPS" | "JSON_PRETTY" | "JSON_QUOTE" | "JSON_REMOVE"
            | "JSON_REPLACE" | "JSON_SCHEMA_VALID" | "JSON_SCHEMA_VALIDATION_REPORT" | "JSON_SEARCH" | "JSON_SET"
            | "JSON_STORAGE_FREE" | "JSON_STORAGE_SIZE" | "JSON_TABLE" | "JSON_TYPE" | "JSON_UNQUOTE" | "JSON_VALID" | "JSON_VALUE"
            | "STRING_TO_VECTOR" | "TO_VECTOR" | "UPDATEXML" | "VECTOR_DIM" | "VECTOR_TO_STRING" | "FROM_VECTOR"
            // Ids, addresses, GTID arithmetic, who and where.
            | "BIN_TO_UUID" | "CURRENT_ROLE" | "CURRENT_USER" | "DATABASE" | "GTID_SUBSET" | "GTID_SUBTRACT" | "INET6_ATON"
            | "INET6_NTOA" | "INET_ATON" | "INET_NTOA" | "IS_IPV4" | "IS_IPV4_COMPAT" | "IS_IPV4_MAPPED" | "IS_IPV6" | "IS_UUID"
            | "SCHEMA" | "SESSION_USER" | "SYSTEM_USER" | "USER" | "UUID" | "UUID_TO_BIN" | "FORMAT_BYTES" | "FORMAT_PICO_TIME"
            | "DEFAULT" | "NAME_CONST"
            // Geometry.
            | "GEOMCOLLECTION" | "GEOMETRYCOLLECTION" | "LINESTRING" | "MBRCONTAINS" | "MBRCOVEREDBY" | "MBRCOVERS"
            | "MBRDISJOINT" | "MBREQUALS" | "MBRINTERSECTS" | "MBROVERLAPS" | "MBRTOUCHES" | "MBRWITHIN" | "MULTILINESTRING"
            | "MULTIPOINT" | "MULTIPOLYGON" | "POINT" | "POLYGON"
    ) || (upper.starts_with("ST_") && !matches!(upper, "ST_"))
}

/// Functions that use or change the session's state; a leading blank, a comment or backquotes do not hide them.
pub(super) fn session_function(name: &str) -> Option<Session> {
    match name.to_ascii_uppercase().as_str() {
        "GET_LOCK"
        | "RELEASE_LOCK"
        | "RELEASE_ALL_LOCKS"
        | "IS_FREE_LOCK"
        | "IS_USED_LOCK"
        | "SERVICE_GET_READ_LOCKS"
        | "SERVICE_GET_WRITE_LOCKS"
        | "SERVICE_RELEASE_LOCKS" => Some(Session::NamedLocks),
        "LAST_INSERT_ID" | "FOUND_ROWS" | "ROW_COUNT" => Some(Session::LastStatement),
        "CONNECTION_ID" | "PS_CURRENT_THREAD_ID" => Some(Session::Settings),
        _ => None,
    }
}

/// System variables that the statement before has set.
pub(super) fn session_variable(name: &str) -> bool {
    matches!(
        name.to_ascii_lowercase().as_str(),
        "identity" | "last_insert_id" | "warning_count" | "error_count" | "insert_id"
    )
}
