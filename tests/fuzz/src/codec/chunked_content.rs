//! Chunked content: its data, where it ends, and its trailers.

use bytes::BytesMut;

use super::no_limits;
use super::reference::{self, Field, Verdict};
use crate::http1::{Chunked, Limits, Piece, Refusal, write_chunk, write_end_of_chunks};
use crate::shape::Shape;

/// Both readers see the same data and trailers, wherever the bytes are cut, and so does the next reader.
///
/// # Panics
///
/// If this does not hold.
pub fn check(data: &[u8]) {
    let Some((shape, sent)) = Shape::of(data) else {
        return;
    };
    let limits = shape.limits();
    let whole = read(sent, &[sent.len()], &limits);
    let (content, verdict) = reference::chunks(sent, &limits);
    assert_eq!(content, whole.content, "the readers disagree on the data");
    match verdict {
        Verdict::Incomplete => assert_eq!(End::Incomplete, whole.end),
        Verdict::Refused => assert!(matches!(whole.end, End::Refused(_))),
        Verdict::Taken(trailers, used) => {
            assert_eq!(End::Taken(trailers.clone(), used), whole.end);
            sent_on(&content, &trailers, &shape.cuts());
        }
    }

    assert_eq!(whole, read(sent, &shape.cuts(), &limits));
    assert_eq!(whole, read(sent, &[1], &limits));
    // Wherever it is cut once; of what is long, at some places.
    for at in (1..sent.len()).step_by(1 + sent.len() / 64) {
        assert_eq!(whole, read(sent, &[at, sent.len()], &limits), "cut at {at}");
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    content: Vec<u8>,
    end: End,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Incomplete,
    Refused(Refusal),
    /// These trailers, and so many bytes in all.
    Taken(Vec<Field>, usize),
}

/// Reads `sent` as it comes in parts of so many bytes.
fn read(sent: &[u8], cuts: &[usize], limits: &Limits) -> Seen {
    let (mut chunked, mut buffer) = (Chunked::new(), BytesMut::new());
    let (mut content, mut came) = (Vec::new(), 0);
    let mut lens = cuts.iter().cycle();
    loop {
        match chunked.decode(&mut buffer, limits) {
            Ok(Piece::Data(data)) => {
                assert!(!data.is_empty(), "data without a byte");
                content.extend_from_slice(&data);
            }
            Ok(Piece::More) => {
                let room = limits.trailer_bytes_max.max(limits.chunk_line_bytes_max);
                assert!(buffer.len() <= room, "more is asked for than is taken");
                if came == sent.len() {
                    let end = End::Incomplete;
                    return Seen { content, end };
                }
                let len = lens.next().map_or(1, |len| (*len).max(1));
                let end = sent.len().min(came + len);
                buffer.extend_from_slice(&sent[came..end]);
                came = end;
            }
            Ok(Piece::End(trailers)) => {
                let fields = trailers.iter().flat_map(|trailers| trailers.fields());
                let fields = fields.map(|(name, value)| (name.to_vec(), value.to_vec()));
                let end = End::Taken(fields.collect(), came - buffer.len());
                return Seen { content, end };
            }
            Err(refusal) => {
                let end = End::Refused(refusal);
                return Seen { content, end };
            }
        }
    }
}

/// Written in other chunks it must be the same content.
fn sent_on(content: &[u8], trailers: &[Field], lens: &[usize; 2]) {
    let mut out = Vec::new();
    let (mut rest, mut turn) = (content, 0);
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(rest.len().min(lens[turn % 2]));
        write_chunk(part, &mut out);
        rest = behind;
        turn += 1;
    }
    write_chunk(b"", &mut out);
    let mut section = BytesMut::from("0\r\n");
    for (name, value) in trailers {
        section.extend_from_slice(&[name, &b":"[..], value, b"\r\n"].concat());
    }
    section.extend_from_slice(b"\r\n");
    match Chunked::new().decode(&mut section, &no_limits()) {
        Ok(Piece::End(trailers)) => write_end_of_chunks(trailers.as_ref(), &mut out),
        other => panic!("trailers that were taken are refused: {other:?}"),
    }
    let (again, verdict) = reference::chunks(&out, &no_limits());
    assert_eq!(content, again, "other data is sent on");
    assert_eq!(Verdict::Taken(trailers.to_vec(), out.len()), verdict);
}
