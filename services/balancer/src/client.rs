//! The client's side of an exchange, whatever version of HTTP it speaks.
//!
//! Both directions run at the same time in one task, so everything takes `&self`. What is put is gathered, and goes out with
//! [`Client::flush`] or when it is much, so that a small answer is one write.

use bytes::Bytes;
use http::StatusCode;

use crate::body::Content;
use crate::clock::Alarm;
use crate::http1::{Method, Refusal, RequestHead, ResponseHead, Trailers};
use crate::record::Record;
use crate::stamp::Stamp;
use crate::tunnel::End;

/// Why an exchange cannot go on for the client's sake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFault {
    /// It went away, or gave the request up.
    Gone,
    /// It sent nothing, or too little, for too long.
    SlowSender,
    /// It took nothing, or too little, for too long.
    SlowReader,
    /// Its content is malformed.
    Refused(Refusal),
    /// Its content is larger than is taken.
    TooLarge,
}

/// What is to become of the client's connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Another request may come.
    Keep,
    /// The answer was whole, and is the last.
    Close,
    /// The answer was not whole, and the client must see that.
    Abort,
}

/// An answer of the edge's own.
#[derive(Clone, Debug)]
pub struct OwnAnswer {
    /// The status.
    pub status: StatusCode,
    /// Fields beside the stamp's and the framing's.
    pub fields: Vec<(&'static str, String)>,
    /// The content.
    pub body: Vec<u8>,
}

/// One request's client.
pub trait Client {
    /// For the exchange as a whole.
    fn total(&self) -> &Alarm;

    /// The next piece of the request's content. May be dropped while it waits: nothing is lost.
    fn content(&self) -> impl Future<Output = Result<Content, ClientFault>>;

    /// Waits until the client is gone. May be dropped while it waits: nothing is lost.
    fn gone(&self) -> impl Future<Output = ClientFault>;

    /// Puts an interim answer.
    fn put_interim(&self, head: &ResponseHead);

    /// Puts the head of a backend's answer; `is_last` where no other request may follow it. If not all of the request's content was
    /// read by now, that may be so anyway.
    fn put_head(&self, head: &ResponseHead, stamp: &Stamp<'_>, is_last: bool);

    /// Puts content of the answer.
    fn put_data(&self, data: Bytes) -> impl Future<Output = Result<(), ClientFault>>;

    /// Hands out what was put.
    fn flush(&self) -> impl Future<Output = Result<(), ClientFault>>;

    /// Ends the answer, and hands everything out.
    fn end(&self, trailers: Option<&Trailers>) -> impl Future<Output = Result<(), ClientFault>>;

    /// Puts an answer of the edge's own, the whole of it; `is_last` as above.
    fn put_own(&self, record: &Record, own: OwnAnswer, stamp: &Stamp<'_>, is_last: bool);

    /// Whether another request may follow what was answered.
    fn fate(&self) -> Fate;

    /// The client's end of a tunnel, where its version of HTTP can become one.
    fn tunnel(&self) -> Option<End<'_>>;

    /// Lets the client see that the answer is not whole.
    fn abort(&self);
}

/// Whether an answer to this request has content at all.
pub(crate) fn has_body(head: Option<&RequestHead>) -> bool {
    head.is_none_or(|head| head.method() != Method::Head)
}
