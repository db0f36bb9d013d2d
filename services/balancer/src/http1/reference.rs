//! A second reader of HTTP/1.1, for tests: slow, plain, and written from the RFCs' grammars without a look at the first one.
//!
//! It shares with the codec the names of the answers and the limits, and no code that decides anything. It reads a section when it is
//! whole; before that, it is refused only for a bare LF, too many lines, or too many bytes.

use crate::http1::{Answering, Framing, Limits};

/// What is to be said of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict<T> {
    /// There are not enough of them.
    Incomplete,
    /// They break a rule.
    Refused,
    /// They mean this, and so many of them were needed to say it.
    Taken(T, usize),
}

/// Name and value, as they were written.
pub(super) type Field = (Vec<u8>, Vec<u8>);

/// What a request means.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) path: String,
    pub(super) authority: String,
    pub(super) version_minor: u8,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
    pub(super) upgrade: Option<String>,
    pub(super) fields: Vec<Field>,
}

/// What a response means.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) reason: Vec<u8>,
    pub(super) version_minor: u8,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
    pub(super) upgrade: Option<String>,
    pub(super) fields: Vec<Field>,
}

/// A request's head at the beginning of `bytes`.
pub(super) fn request(bytes: &[u8], limits: &Limits) -> Verdict<Request> {
    // RFC 9112, 2.2: one empty line is passed over.
    let blank = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let bytes = &bytes[blank..];
    if blank == 2 && matches!(bytes.first(), Some(b'\r' | b'\n')) {
        return Verdict::Refused;
    }
    let lines_max = limits.fields_max + 1;
    match section(bytes, limits.head_bytes_max, lines_max) {
        Verdict::Incomplete => Verdict::Incomplete,
        Verdict::Refused => Verdict::Refused,
        Verdict::Taken(lines, used) => match request_of(&lines, limits) {
            Some(request) => Verdict::Taken(request, blank + used),
            None => Verdict::Refused,
        },
    }
}

/// A response's head at the beginning of `bytes`.
pub(super) fn response(bytes: &[u8], limits: &Limits, answering: Answering) -> Verdict<Response> {
    match section(bytes, limits.head_bytes_max, limits.fields_max + 1) {
        Verdict::Incomplete => Verdict::Incomplete,
        Verdict::Refused => Verdict::Refused,
        Verdict::Taken(lines, used) => match response_of(&lines, answering) {
            Some(response) => Verdict::Taken(response, used),
            None => Verdict::Refused,
        },
    }
}

/// Chunked content at the beginning of `bytes`: its data as far as it goes, and how it ends, which is with these trailers.
pub(super) fn chunks(bytes: &[u8], limits: &Limits) -> (Vec<u8>, Verdict<Vec<Field>>) {
    let mut data = Vec::new();
    let mut at = 0;
    let mut overhead: i128 = 0;
    loop {
        let line = match line(&bytes[at..], limits.chunk_line_bytes_max) {
            Verdict::Incomplete => return (data, Verdict::Incomplete),
            Verdict::Refused => return (data, Verdict::Refused),
            Verdict::Taken(line, used) => {
                at += used;
                line
            }
        };
        let Some(size) = chunk_size(line) else {
            return (data, Verdict::Refused);
        };
        // Not of the RFC, which asks for some bound: 16 bytes and two for each of data are free, and 16 KiB beyond in all.
        overhead = (overhead + line.len() as i128 + 2 - 16 - 2 * i128::from(size)).max(0);
        if overhead > 16_384 {
            return (data, Verdict::Refused);
        }
        if size == 0 {
            break;
        }
        let there = (bytes.len() - at) as u64;
        if there < size {
            data.extend_from_slice(&bytes[at..]);
            return (data, Verdict::Incomplete);
        }
        data.extend_from_slice(&bytes[at..at + size as usize]);
        at += size as usize;
        match &bytes[at..] {
            [] | [b'\r'] => return (data, Verdict::Incomplete),
            [b'\r', b'\n', ..] => at += 2,
            _ => return (data, Verdict::Refused),
        }
    }
    let end = match section(&bytes[at..], limits.trailer_bytes_max, limits.fields_max) {
        Verdict::Incomplete => Verdict::Incomplete,
        Verdict::Refused => Verdict::Refused,
        Verdict::Taken(lines, used) => match fields_of(&lines) {
            Some(fields) if !fields.iter().any(|(name, _)| must_come_first(name)) => {
                Verdict::Taken(fields, at + used)
            }
            _ => Verdict::Refused,
        },
    };
    (data, end)
}

/// The lines before an empty one, without their CR LF.
fn section(bytes: &[u8], bytes_max: usize, lines_max: usize) -> Verdict<Vec<&[u8]>> {
    let mut lines = Vec::new();
    let mut at = 0;
    loop {
        match line(&bytes[at..], bytes_max - at) {
            Verdict::Incomplete => return Verdict::Incomplete,
            Verdict::Refused => return Verdict::Refused,
            Verdict::Taken(line, used) => {
                at += used;
                if line.is_empty() {
                    return Verdict::Taken(lines, at);
                }
                lines.push(line);
                if lines.len() > lines_max {
                    return Verdict::Refused;
                }
            }
        }
    }
}

/// One line, without its CR LF.
fn line(bytes: &[u8], bytes_max: usize) -> Verdict<&[u8]> {
    for (at, byte) in bytes.iter().enumerate() {
        if at >= bytes_max {
            return Verdict::Refused;
        }
        if *byte == b'\n' {
            return match at > 0 && bytes[at - 1] == b'\r' {
                true => Verdict::Taken(&bytes[..at - 1], at + 1),
                false => Verdict::Refused,
            };
        }
    }
    Verdict::Incomplete
}

fn request_of(lines: &[&[u8]], limits: &Limits) -> Option<Request> {
    let (first, rest) = lines.split_first()?;
    let first = ascii(first)?;
    // request-line = method SP request-target SP HTTP-version
    let parts: Vec<&str> = first.split(' ').collect();
    let [method, target, version] = parts[..] else {
        return None;
    };
    let version_minor = minor(version)?;
    if !is_token(method.as_bytes()) || target.len() > limits.target_bytes_max {
        return None;
    }
    let fields = fields_of(rest)?;

    // RFC 9112, 3.2: one Host, which is a valid one. 3.2.1 to 3.2.4: four forms of targets.
    let hosts = values(&fields, "host");
    if hosts.len() > 1 {
        return None;
    }
    let host = match hosts.first() {
        None => None,
        Some(host) => Some(ascii(host).filter(|host| is_authority(host))?),
    };
    let same_host = |authority: &str| host.is_some_and(|host| host.eq_ignore_ascii_case(authority));
    let (target, path, authority) = if method == "CONNECT" {
        let (_, port) = target.rsplit_once(':')?;
        let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        if !is_port || !is_authority(target) || !same_host(target) {
            return None;
        }
        (target.to_owned(), String::new(), target)
    } else if target.starts_with('/') {
        (target.to_owned(), path_of(target)?, host?)
    } else if target == "*" && method == "OPTIONS" {
        ("*".to_owned(), "*".to_owned(), host?)
    } else {
        let (scheme, rest) = target.split_once("://")?;
        if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
            return None;
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if !is_authority(authority) {
            return None;
        }
        // The RFC lets a client of HTTP/1.0 leave Host out, and here it is not needed.
        let may_be_absent = host.is_none() && version_minor == 0;
        if !(same_host(authority) || may_be_absent) {
            return None;
        }
        let target = match rest {
            "" if method == "OPTIONS" => "*".to_owned(),
            rest if rest.starts_with('/') => rest.to_owned(),
            rest => format!("/{rest}"),
        };
        let path = if target == "*" {
            target.clone()
        } else {
            path_of(&target)?
        };
        (target, path, authority)
    };

    let options = options(&fields)?;
    let framing = framing(&fields, version_minor)?;
    let has_content = !matches!(framing, Framing::None | Framing::Length(0));
    if method == "TRACE" && has_content {
        return None;
    }
    let expectations = values(&fields, "expect");
    let is_continue = |value: &&[u8]| value.eq_ignore_ascii_case(b"100-continue");
    if !expectations.iter().all(is_continue) {
        return None;
    }
    Some(Request {
        method: method.to_owned(),
        target,
        path,
        authority: authority.to_owned(),
        version_minor,
        framing,
        keep_alive: keeps(&options, version_minor),
        expects_continue: !expectations.is_empty() && version_minor == 1 && has_content,
        upgrade: upgrade(&fields, &options).filter(|_| version_minor == 1),
        fields,
    })
}

fn response_of(lines: &[&[u8]], answering: Answering) -> Option<Response> {
    let (first, rest) = lines.split_first()?;
    // status-line = HTTP-version SP status-code SP [ reason-phrase ]
    let mut parts = first.splitn(3, |byte| *byte == b' ');
    let version_minor = minor(ascii(parts.next()?)?)?;
    let code = ascii(parts.next()?)?;
    let reason = parts.next()?;
    if code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let status: u16 = code.parse().ok()?;
    if !(100..600).contains(&status) || !is_text(reason) {
        return None;
    }
    let fields = fields_of(rest)?;
    let options = options(&fields)?;

    // RFC 9112, 6.3, in its order.
    let by_fields = framing(&fields, version_minor)?;
    let never_has_content = status < 200 || status == 204;
    if never_has_content && by_fields != Framing::None {
        return None;
    }
    let framing = if never_has_content
        || status == 304
        || answering == Answering::Head
        || answering == Answering::Connect && (200..300).contains(&status)
    {
        Framing::None
    } else if by_fields == Framing::None {
        Framing::UntilClose
    } else {
        by_fields
    };
    Some(Response {
        status,
        reason: reason.to_vec(),
        version_minor,
        framing,
        keep_alive: keeps(&options, version_minor)
            && framing != Framing::UntilClose
            && status != 101,
        upgrade: upgrade(&fields, &options).filter(|_| status == 101),
        fields,
    })
}

/// field-line = field-name ":" OWS field-value OWS
fn fields_of(lines: &[&[u8]]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], without_blanks(&line[colon + 1..]));
        if !is_token(name) || !is_text(value) {
            return None;
        }
        fields.push((name.to_vec(), value.to_vec()));
    }
    Some(fields)
}

/// RFC 9112, 6.1 to 6.3, with all that is doubtful refused.
fn framing(fields: &[Field], version_minor: u8) -> Option<Framing> {
    let lengths = values(fields, "content-length");
    let codings = values(fields, "transfer-encoding");
    match (&lengths[..], &codings[..]) {
        ([], []) => Some(Framing::None),
        ([length], []) => {
            let length = ascii(length)?;
            let are_digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            are_digits.then(|| length.parse().ok().map(Framing::Length))?
        }
        ([], [coding]) if version_minor == 1 && coding.eq_ignore_ascii_case(b"chunked") => {
            Some(Framing::Chunked)
        }
        _ => None,
    }
}

/// What the Connection fields list, in lower case.
fn options(fields: &[Field]) -> Option<Vec<String>> {
    let mut options = Vec::new();
    for value in values(fields, "connection") {
        for option in list(value) {
            if !is_token(option) {
                return None;
            }
            options.push(ascii(option)?.to_ascii_lowercase());
        }
    }
    Some(options)
}

fn keeps(options: &[String], version_minor: u8) -> bool {
    let has = |wanted: &str| options.iter().any(|option| option == wanted);
    !has("close") && (version_minor == 1 || has("keep-alive"))
}

/// protocol = protocol-name ["/" protocol-version], both tokens
fn upgrade(fields: &[Field], options: &[String]) -> Option<String> {
    let upgrades = values(fields, "upgrade");
    let [upgrade] = upgrades[..] else {
        return None;
    };
    let protocols = list(upgrade);
    let are_protocols = !protocols.is_empty()
        && protocols.iter().all(|protocol| {
            let parts: Vec<&[u8]> = protocol.split(|byte| *byte == b'/').collect();
            parts.len() <= 2 && parts.iter().all(|part| is_token(part))
        });
    let is_named = options.iter().any(|option| option == "upgrade");
    (are_protocols && is_named).then(|| ascii(upgrade).map(str::to_owned))?
}

/// chunk-size [ chunk-ext ]
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    if !(1..=16).contains(&digits) || !extensions_end(&line[digits..]) {
        return None;
    }
    u64::from_str_radix(ascii(&line[..digits])?, 16).ok()
}

/// chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] ), up to the line's end
///
/// By trying: whatever follows a name is another extension, or a value and then another extension.
fn extensions_end(rest: &[u8]) -> bool {
    if rest.is_empty() {
        return true;
    }
    let Some((b';', rest)) = skip_blanks(rest).split_first() else {
        return false;
    };
    let rest = skip_blanks(rest);
    let name = rest.iter().take_while(|byte| is_tchar(**byte)).count();
    if name == 0 {
        return false;
    }
    let rest = &rest[name..];
    if extensions_end(rest) {
        return true;
    }
    let Some((b'=', rest)) = skip_blanks(rest).split_first() else {
        return false;
    };
    let rest = skip_blanks(rest);
    let token = rest.iter().take_while(|byte| is_tchar(**byte)).count();
    if token > 0 {
        return extensions_end(&rest[token..]);
    }
    (2..=rest.len()).any(|end| is_quoted_string(&rest[..end]) && extensions_end(&rest[end..]))
}

/// quoted-string = DQUOTE *( qdtext / quoted-pair ) DQUOTE
fn is_quoted_string(bytes: &[u8]) -> bool {
    let [b'"', inner @ .., b'"'] = bytes else {
        return false;
    };
    let mut inner = inner.iter();
    while let Some(byte) = inner.next() {
        match byte {
            b'"' => return false,
            b'\\' => match inner.next() {
                Some(escaped) if is_text(&[*escaped]) => {}
                _ => return false,
            },
            byte if is_text(&[*byte]) => {}
            _ => return false,
        }
    }
    true
}

/// uri-host [ ":" port ], where the host is not empty and the port, if there is one, exists.
fn is_authority(authority: &str) -> bool {
    // A port cannot contain a bracket, and what is in brackets can contain colons.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, ""),
    };
    let port = port.trim_start_matches('0');
    let is_port = port.len() <= 5
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && (port.is_empty() || port.parse().is_ok_and(|port: u32| port < 65_536));
    let inside = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    is_port
        && match inside {
            Some(address) => is_ipv6(address) || is_ip_future(address),
            None => !host.is_empty() && is_reg_name(host),
        }
}

/// reg-name = *( unreserved / pct-encoded / sub-delims )
fn is_reg_name(name: &str) -> bool {
    is_made_of(name, |byte| is_unreserved(byte) || is_sub_delim(byte))
}

/// IPv6address: eight groups of at most four hex digits, one run of which may be left out; the last two may be an IPv4 address.
fn is_ipv6(address: &str) -> bool {
    let groups = |part: &str, may_end_in_ipv4: bool| -> Option<usize> {
        if part.is_empty() {
            return Some(0);
        }
        let pieces: Vec<&str> = part.split(':').collect();
        let mut count = 0;
        for (index, piece) in pieces.iter().enumerate() {
            let is_h16 =
                (1..=4).contains(&piece.len()) && piece.bytes().all(|b| b.is_ascii_hexdigit());
            if is_h16 {
                count += 1;
            } else if may_end_in_ipv4 && index + 1 == pieces.len() && is_ipv4(piece) {
                count += 2;
            } else {
                return None;
            }
        }
        Some(count)
    };
    match address.split_once("::") {
        None => groups(address, true) == Some(8),
        Some((before, after)) => match (groups(before, false), groups(after, true)) {
            (Some(before), Some(after)) => before + after <= 7,
            _ => false,
        },
    }
}

/// IPv4address: four numbers up to 255 without needless zeros.
fn is_ipv4(address: &str) -> bool {
    let numbers: Vec<&str> = address.split('.').collect();
    let is_octet = |number: &&str| {
        !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && (number.len() == 1 || !number.starts_with('0'))
            && number.parse::<u32>().is_ok_and(|number| number < 256)
    };
    numbers.len() == 4 && numbers.iter().all(is_octet)
}

/// IPvFuture = "v" 1*HEXDIG "." 1*( unreserved / sub-delims / ":" )
fn is_ip_future(address: &str) -> bool {
    let Some((version, rest)) = address.split_once('.') else {
        return false;
    };
    let version = version.to_ascii_lowercase();
    let Some(digits) = version.strip_prefix('v') else {
        return false;
    };
    !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && !rest.is_empty()
        && rest
            .bytes()
            .all(|byte| is_unreserved(byte) || is_sub_delim(byte) || byte == b':')
}

/// absolute-path [ "?" query ]; gives the path.
fn path_of(target: &str) -> Option<String> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let is_pchar = |byte| is_unreserved(byte) || is_sub_delim(byte) || byte == b':' || byte == b'@';
    let is_path = path.starts_with('/') && is_made_of(path, |byte| is_pchar(byte) || byte == b'/');
    let is_query = is_made_of(query, |byte| is_pchar(byte) || byte == b'/' || byte == b'?');
    (is_path && is_query).then(|| path.to_owned())
}

/// Only of such bytes, and of `%` with two hex digits.
fn is_made_of(text: &str, is_allowed: impl Fn(u8) -> bool) -> bool {
    let mut parts = text.split('%');
    let first = parts.next().unwrap_or_default();
    first.bytes().all(&is_allowed)
        && parts.all(|part| {
            let bytes = part.as_bytes();
            bytes.len() >= 2
                && bytes[..2].iter().all(u8::is_ascii_hexdigit)
                && bytes[2..].iter().all(|byte| is_allowed(*byte))
        })
}

/// RFC 9110, 6.5.1: framing, routing, modifiers, authentication, control data, the content's format. Here moreover: all that the edge
/// acts upon or tells by itself.
fn must_come_first(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    let names = "
        connection content-length host http2-settings keep-alive proxy-connection te trailer transfer-encoding upgrade
        expect max-forwards range if-match if-modified-since if-none-match if-range if-unmodified-since cache-control pragma
        authentication-info authorization cookie proxy-authenticate proxy-authentication-info proxy-authorization set-cookie
        www-authenticate accept-ranges age alt-svc clear-site-data date expires location retry-after server vary warning
        strict-transport-security x-accel-redirect content-encoding content-range content-type idempotency-key
        sec-websocket-accept sec-websocket-extensions sec-websocket-key sec-websocket-protocol sec-websocket-version
        baggage traceparent traceresponse tracestate forwarded via true-client-ip x-client-ip x-cluster-client-ip x-correlation-id
        x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-prefix x-forwarded-proto x-forwarded-protocol
        x-forwarded-scheme x-forwarded-server x-forwarded-ssl x-original-host x-real-ip x-request-id x-served-by";
    names.split_whitespace().any(|forbidden| forbidden == name)
}

fn minor(version: &str) -> Option<u8> {
    match version {
        "HTTP/1.0" => Some(0),
        "HTTP/1.1" => Some(1),
        _ => None,
    }
}

/// All values of one name.
pub(super) fn values<'a>(fields: &'a [Field], name: &str) -> Vec<&'a [u8]> {
    let of_name = fields
        .iter()
        .filter(|(of, _)| of.eq_ignore_ascii_case(name.as_bytes()));
    of_name.map(|(_, value)| &value[..]).collect()
}

/// The members of a list that are not empty.
pub(super) fn list(value: &[u8]) -> Vec<&[u8]> {
    let members = value.split(|byte| *byte == b',').map(without_blanks);
    members.filter(|member| !member.is_empty()).collect()
}

fn without_blanks(bytes: &[u8]) -> &[u8] {
    let mut bytes = skip_blanks(bytes);
    while let Some((b' ' | b'\t', before)) = bytes.split_last() {
        bytes = before;
    }
    bytes
}

fn skip_blanks(mut bytes: &[u8]) -> &[u8] {
    while let Some((b' ' | b'\t', after)) = bytes.split_first() {
        bytes = after;
    }
    bytes
}

fn ascii(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes)
        .ok()
        .filter(|text| text.is_ascii())
}

/// *( HTAB / SP / VCHAR / obs-text )
fn is_text(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|byte| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f)
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_tchar(*byte))
}

fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".as_bytes().contains(&byte)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || "-._~".as_bytes().contains(&byte)
}

fn is_sub_delim(byte: u8) -> bool {
    "!$&'()*+,;=".as_bytes().contains(&byte)
}
