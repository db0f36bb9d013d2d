//! What must hold of any bytes whatever, checked against the reference reader: the proof that tests and fuzz targets share.
//!
//! Of a connection's bytes both readers must make the same messages, however they are cut; and what is sent on of them must be, to the
//! reference reader, the same messages again. That last one is what request smuggling would break.

use bytes::BytesMut;

use super::reference::{self, Field, Request, Response, Verdict};
use crate::http1::{
    Answering, Chunked, Connection, Framing, Limits, Piece, Refusal, RequestHead, ResponseHead,
    Trailers, end_head, write_chunk, write_end_of_chunks, write_request_head, write_response_head,
};

/// A whole connection, as one reader sees it: messages with their content, and how it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen<H> {
    messages: Vec<Message<H>>,
    end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Message<H> {
    head: H,
    content: Vec<u8>,
    trailers: Vec<Field>,
    is_whole: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Incomplete,
    Refused,
}

/// What a kind of message has that is not the same in the other kind.
trait Kind: Clone {
    /// What the reference reader makes of a head.
    type Meaning: Clone + std::fmt::Debug + PartialEq;

    fn parse(
        buffer: &mut BytesMut,
        limits: &Limits,
        answering: Answering,
        reuse: Option<Self>,
    ) -> Result<Option<Self>, Refusal>;
    fn reference(bytes: &[u8], limits: &Limits, answering: Answering) -> Verdict<Self::Meaning>;
    fn meaning(&self) -> Self::Meaning;
    fn framing(&self) -> Framing;
    fn framing_of(meaning: &Self::Meaning) -> Framing;
    /// Writes the head as it is sent on, and gives its framing there.
    fn write(&self, connection: Connection, out: &mut Vec<u8>) -> Framing;
    /// What is sent on must mean.
    fn sent_on(meaning: &Self::Meaning, connection: Connection) -> Self::Meaning;
}

/// Checks requests: `bytes` are all that comes on a connection, `cuts` where they are cut on their way, again and again.
pub(super) fn check_requests(bytes: &[u8], cuts: &[usize], limits: &Limits) {
    check::<RequestHead>(bytes, cuts, limits, Answering::Other);
}

/// Checks responses, all of which answer the same.
pub(super) fn check_responses(bytes: &[u8], cuts: &[usize], limits: &Limits, answering: Answering) {
    check::<ResponseHead>(bytes, cuts, limits, answering);
}

/// What the codec alone makes of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Why it stopped, if it did.
    pub(super) refusal: Option<Refusal>,
    /// Whether there were messages and nothing is missing of the last one.
    pub(super) is_whole: bool,
}

/// What the codec makes of the requests on a connection.
pub(super) fn requests(bytes: &[u8], limits: &Limits) -> Outcome {
    outcome::<RequestHead>(bytes, limits, Answering::Other)
}

/// What the codec makes of the responses on a connection.
pub(super) fn responses(bytes: &[u8], limits: &Limits, answering: Answering) -> Outcome {
    outcome::<ResponseHead>(bytes, limits, answering)
}

fn outcome<K: Kind>(bytes: &[u8], limits: &Limits, answering: Answering) -> Outcome {
    let (seen, refusal, _) = by_codec::<K>(bytes, &[], limits, answering);
    let is_whole = seen.messages.last().is_some_and(|message| message.is_whole);
    Outcome { refusal, is_whole }
}

fn check<K: Kind>(bytes: &[u8], cuts: &[usize], limits: &Limits, answering: Answering) {
    let expected = by_reference::<K>(bytes, limits, answering);
    let (whole, refusal, heads) = by_codec::<K>(bytes, &[], limits, answering);
    assert_eq!(expected, whole, "the readers disagree ({refusal:?})");
    let (cut, cut_refusal, _) = by_codec::<K>(bytes, cuts, limits, answering);
    assert_eq!(whole, cut, "it depends on how the bytes arrive");
    assert_eq!(
        refusal, cut_refusal,
        "the reason depends on how the bytes arrive"
    );
    for connection in [Connection::Keep, Connection::Upgrade] {
        check_sent_on(&whole.messages, &heads, limits, answering, connection);
    }
}

fn check_sent_on<K: Kind>(
    messages: &[Message<K::Meaning>],
    heads: &[K],
    limits: &Limits,
    answering: Answering,
    connection: Connection,
) {
    let (mut out, mut expected) = (Vec::new(), Vec::new());
    for (message, head) in messages.iter().zip(heads) {
        if !message.is_whole {
            break;
        }
        let framing = head.write(connection, &mut out);
        end_head(&mut out);
        match framing {
            Framing::Chunked => {
                message
                    .content
                    .chunks(3)
                    .for_each(|data| write_chunk(data, &mut out));
                write_end_of_chunks(trailers(&message.trailers).as_ref(), &mut out);
            }
            _ => out.extend_from_slice(&message.content),
        }
        expected.push(Message {
            head: K::sent_on(&message.head, connection),
            ..message.clone()
        });
    }
    // Room for what is written anew: the limits are not what is asked about here.
    let limits = Limits {
        head_bytes_max: limits.head_bytes_max + 1_000,
        fields_max: limits.fields_max + 3,
        target_bytes_max: limits.target_bytes_max + 1,
        trailer_bytes_max: limits.trailer_bytes_max + 1_000,
        ..limits.clone()
    };
    let again = by_reference::<K>(&out, &limits, answering);
    assert_eq!(
        expected,
        again.messages,
        "what is sent on means something else: {:?}",
        String::from_utf8_lossy(&out)
    );
    assert_eq!(
        End::Incomplete,
        again.end,
        "what is sent on is more than was meant"
    );
}

fn by_reference<K: Kind>(bytes: &[u8], limits: &Limits, answering: Answering) -> Seen<K::Meaning> {
    let mut messages = Vec::new();
    let mut rest = bytes;
    loop {
        let head = match K::reference(rest, limits, answering) {
            Verdict::Incomplete => {
                return Seen {
                    messages,
                    end: End::Incomplete,
                };
            }
            Verdict::Refused => {
                return Seen {
                    messages,
                    end: End::Refused,
                };
            }
            Verdict::Taken(head, used) => {
                rest = &rest[used..];
                head
            }
        };
        let (mut trailers, mut is_whole, mut end) = (Vec::new(), true, None);
        let content = match K::framing_of(&head) {
            Framing::None => Vec::new(),
            Framing::UntilClose => std::mem::take(&mut rest).to_vec(),
            Framing::Length(length) => {
                let there = rest
                    .len()
                    .min(usize::try_from(length).unwrap_or(usize::MAX));
                let (content, after) = rest.split_at(there);
                rest = after;
                is_whole = there as u64 == length;
                content.to_vec()
            }
            Framing::Chunked => {
                let (content, verdict) = reference::chunks(rest, limits);
                match verdict {
                    Verdict::Incomplete => end = Some(End::Incomplete),
                    Verdict::Refused => end = Some(End::Refused),
                    Verdict::Taken(fields, used) => {
                        trailers = fields;
                        rest = &rest[used..];
                    }
                }
                is_whole = end.is_none();
                content
            }
        };
        messages.push(Message {
            head,
            content,
            trailers,
            is_whole,
        });
        if let Some(end) = end {
            return Seen { messages, end };
        }
        if rest.is_empty() {
            return Seen {
                messages,
                end: End::Incomplete,
            };
        }
    }
}

fn by_codec<K: Kind>(
    bytes: &[u8],
    cuts: &[usize],
    limits: &Limits,
    answering: Answering,
) -> (Seen<K::Meaning>, Option<Refusal>, Vec<K>) {
    let mut reader = Reader::<K>::default();
    let (mut rest, mut turn) = (bytes, 0);
    let mut buffer = BytesMut::new();
    let refusal = loop {
        if let Err(refusal) = reader.read(&mut buffer, limits, answering) {
            break Some(refusal);
        }
        if rest.is_empty() {
            break None;
        }
        let len = cuts
            .get(turn % cuts.len().max(1))
            .map_or(rest.len(), |cut| *cut);
        let (part, after) = rest.split_at(len.clamp(1, rest.len()));
        buffer.extend_from_slice(part);
        rest = after;
        turn += 1;
    };
    let end = refusal.map_or(End::Incomplete, |_| End::Refused);
    (
        Seen {
            messages: reader.messages,
            end,
        },
        refusal,
        reader.heads,
    )
}

/// Reads a connection as the edge does.
struct Reader<K: Kind> {
    messages: Vec<Message<K::Meaning>>,
    heads: Vec<K>,
    content: Option<Content>,
}

enum Content {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

impl<K: Kind> Default for Reader<K> {
    fn default() -> Self {
        Reader {
            messages: Vec::new(),
            heads: Vec::new(),
            content: None,
        }
    }
}

impl<K: Kind> Reader<K> {
    /// Goes as far as the bytes go.
    fn read(
        &mut self,
        buffer: &mut BytesMut,
        limits: &Limits,
        answering: Answering,
    ) -> Result<(), Refusal> {
        loop {
            let message = self.messages.last_mut();
            match (&mut self.content, message) {
                (Some(Content::Chunked(chunked)), Some(message)) => {
                    match chunked.decode(buffer, limits)? {
                        Piece::More => return Ok(()),
                        Piece::Data(data) => {
                            assert!(!data.is_empty());
                            message.content.extend_from_slice(&data);
                        }
                        Piece::End(trailers) => {
                            message.trailers = trailers.iter().flat_map(fields).collect();
                            message.is_whole = true;
                            self.content = None;
                        }
                    }
                }
                (Some(Content::UntilClose), Some(message)) => {
                    message.content.extend_from_slice(&buffer.split());
                    return Ok(());
                }
                (Some(Content::Length(missing)), Some(message)) => {
                    let there = buffer
                        .len()
                        .min(usize::try_from(*missing).unwrap_or(usize::MAX));
                    message.content.extend_from_slice(&buffer.split_to(there));
                    *missing -= there as u64;
                    if *missing > 0 {
                        return Ok(());
                    }
                    message.is_whole = true;
                    self.content = None;
                }
                _ => {
                    // As the edge does, with the room of the last one.
                    let reuse = self.heads.last().cloned();
                    let Some(head) = K::parse(buffer, limits, answering, reuse)? else {
                        return Ok(());
                    };
                    self.content = match head.framing() {
                        Framing::None | Framing::Length(0) => None,
                        Framing::Length(length) => Some(Content::Length(length)),
                        Framing::Chunked => Some(Content::Chunked(Chunked::new())),
                        Framing::UntilClose => Some(Content::UntilClose),
                    };
                    self.messages.push(Message {
                        head: head.meaning(),
                        content: Vec::new(),
                        trailers: Vec::new(),
                        is_whole: matches!(self.content, None | Some(Content::UntilClose)),
                    });
                    self.heads.push(head);
                }
            }
        }
    }
}

fn fields(trailers: &Trailers) -> Vec<Field> {
    trailers
        .fields()
        .map(|(name, value)| (name.to_vec(), value.to_vec()))
        .collect()
}

/// The codec's own trailers, by way of its decoder.
fn trailers(fields: &[Field]) -> Option<Trailers> {
    let mut section = BytesMut::from("0\r\n");
    for (name, value) in fields {
        section.extend_from_slice(&[name, &b":"[..], value, b"\r\n"].concat());
    }
    section.extend_from_slice(b"\r\n");
    let roomy = Limits {
        trailer_bytes_max: usize::MAX,
        ..Limits::default()
    };
    match Chunked::new().decode(&mut section, &roomy) {
        Ok(Piece::End(trailers)) => trailers,
        other => panic!("trailers that were taken are refused: {other:?}"),
    }
}

impl Kind for RequestHead {
    type Meaning = Request;

    fn parse(
        buffer: &mut BytesMut,
        limits: &Limits,
        _: Answering,
        reuse: Option<Self>,
    ) -> Result<Option<Self>, Refusal> {
        RequestHead::parse(buffer, limits, reuse)
    }

    fn reference(bytes: &[u8], limits: &Limits, _: Answering) -> Verdict<Request> {
        reference::request(bytes, limits)
    }

    fn meaning(&self) -> Request {
        Request {
            method: self.method_str().to_owned(),
            target: String::from_utf8_lossy(self.target()).into_owned(),
            path: self.path().to_owned(),
            authority: self.authority().to_owned(),
            version_minor: self.version_minor(),
            framing: RequestHead::framing(self),
            keep_alive: self.keep_alive(),
            expects_continue: self.expects_continue(),
            upgrade: self.upgrade().map(str::to_owned),
            fields: RequestHead::fields(self)
                .map(|(_, name, value)| (name.to_vec(), value.to_vec()))
                .collect(),
        }
    }

    fn framing(&self) -> Framing {
        RequestHead::framing(self)
    }

    fn framing_of(meaning: &Request) -> Framing {
        meaning.framing
    }

    fn write(&self, connection: Connection, out: &mut Vec<u8>) -> Framing {
        write_request_head(self, connection, |_| false, out);
        RequestHead::framing(self)
    }

    fn sent_on(meaning: &Request, connection: Connection) -> Request {
        let upgrade = meaning
            .upgrade
            .clone()
            .filter(|_| connection == Connection::Upgrade);
        let mut fields = vec![field("host", &meaning.authority)];
        fields.extend(end_to_end(&meaning.fields, &["host"]));
        fields.extend(of_this_hop(upgrade.as_deref(), meaning.framing));
        let expects = !reference::values(&meaning.fields, "expect").is_empty();
        Request {
            version_minor: 1,
            keep_alive: true,
            expects_continue: expects
                && !matches!(meaning.framing, Framing::None | Framing::Length(0)),
            upgrade,
            fields,
            ..meaning.clone()
        }
    }
}

impl Kind for ResponseHead {
    type Meaning = Response;

    fn parse(
        buffer: &mut BytesMut,
        limits: &Limits,
        answering: Answering,
        reuse: Option<Self>,
    ) -> Result<Option<Self>, Refusal> {
        ResponseHead::parse(buffer, limits, answering, reuse)
    }

    fn reference(bytes: &[u8], limits: &Limits, answering: Answering) -> Verdict<Response> {
        reference::response(bytes, limits, answering)
    }

    fn meaning(&self) -> Response {
        Response {
            status: self.status().as_u16(),
            reason: self.reason().to_vec(),
            version_minor: self.version_minor(),
            framing: ResponseHead::framing(self),
            keep_alive: self.keep_alive(),
            upgrade: self.upgrade().map(str::to_owned),
            fields: ResponseHead::fields(self)
                .map(|(_, name, value)| (name.to_vec(), value.to_vec()))
                .collect(),
        }
    }

    fn framing(&self) -> Framing {
        ResponseHead::framing(self)
    }

    fn framing_of(meaning: &Response) -> Framing {
        meaning.framing
    }

    fn write(&self, connection: Connection, out: &mut Vec<u8>) -> Framing {
        write_response_head(self, self.framing_to(1), connection, |_| false, out);
        self.framing_to(1)
    }

    fn sent_on(meaning: &Response, connection: Connection) -> Response {
        let upgrade = meaning
            .upgrade
            .clone()
            .filter(|_| connection == Connection::Upgrade);
        let framing = match meaning.framing {
            Framing::UntilClose => Framing::Chunked,
            framing => framing,
        };
        // A length that describes no content that follows goes on.
        let length = reference::values(&meaning.fields, "content-length");
        let length = length
            .first()
            .map(|length| String::from_utf8_lossy(length).parse());
        let written = match (framing, length) {
            (Framing::None, Some(Ok(length))) => Framing::Length(length),
            _ => framing,
        };
        let mut fields = end_to_end(&meaning.fields, &[]);
        fields.extend(of_this_hop(upgrade.as_deref(), written));
        Response {
            version_minor: 1,
            keep_alive: meaning.status != 101,
            framing,
            upgrade,
            fields,
            ..meaning.clone()
        }
    }
}

fn field(name: &str, value: &str) -> Field {
    (name.as_bytes().to_vec(), value.as_bytes().to_vec())
}

fn of_this_hop(upgrade: Option<&str>, framing: Framing) -> Vec<Field> {
    let mut fields = Vec::new();
    if let Some(upgrade) = upgrade {
        fields.extend([field("connection", "upgrade"), field("upgrade", upgrade)]);
    }
    match framing {
        Framing::Length(length) => fields.push(field("content-length", &length.to_string())),
        Framing::Chunked => fields.push(field("transfer-encoding", "chunked")),
        Framing::None | Framing::UntilClose => {}
    }
    fields
}

/// RFC 9110, 7.6.1; what the edge knows by name cannot be taken out by naming it.
fn end_to_end(fields: &[Field], but: &[&str]) -> Vec<Field> {
    let hop = "connection keep-alive proxy-connection te transfer-encoding upgrade http2-settings content-length";
    let named: Vec<Vec<u8>> = reference::values(fields, "connection")
        .into_iter()
        .flat_map(reference::list)
        .map(<[u8]>::to_ascii_lowercase)
        .collect();
    let goes_on = |(name, _): &&Field| {
        let name = name.to_ascii_lowercase();
        let is_hop = hop.split(' ').any(|hop| hop.as_bytes() == name);
        let is_named =
            named.contains(&name) && crate::http1::Known::of(&name) == crate::http1::Known::Other;
        !is_hop && !is_named && !but.iter().any(|but| but.as_bytes() == name)
    };
    fields.iter().filter(goes_on).cloned().collect()
}
