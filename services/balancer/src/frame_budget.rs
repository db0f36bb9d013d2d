//! A budget for those frames of an HTTP/2 client that cost work and carry none (RFC 9113, section 10.5): floods of SETTINGS, PING,
//! `RST_STREAM` and their like.
//!
//! It watches the bytes that a client sends, from the connection preface on, and reads only the headers of frames (section 4.1). It is
//! not an HTTP/2 implementation: whatever is wrong there is refused by the one that reads the same bytes. It knows no sockets, and its
//! time comes from outside.
//!
//! Every kind of frame has a token bucket of its own: `burst` frames at once, `per_second` on and on.
//!
//! ```
//! # use balancer::frame_budget::{FrameBudget, Kind, Limits};
//! let mut budget = FrameBudget::new(Limits::default());
//! budget.advance(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0)?;
//! let ping = b"\0\0\x08\x06\0\0\0\0\0ABCDEFGH";
//! for _ in 0..64 {
//!     budget.advance(ping, 0)?;
//! }
//! assert_eq!(Kind::Ping, budget.advance(ping, 0).unwrap_err().kind);
//! # Ok::<(), balancer::frame_budget::Flood>(())
//! ```

use std::fmt;

/// The client connection preface (section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The bytes of a frame's header (section 4.1).
const HEADER_BYTES: usize = 9;
/// `END_STREAM` of DATA (section 6.1).
const END_STREAM: u8 = 0x1;
/// `END_HEADERS` of HEADERS, `PUSH_PROMISE` and CONTINUATION (section 6.2).
const END_HEADERS: u8 = 0x4;
/// A bucket counts thousandths of frames, so that a millisecond brings a whole number of them: as many as a second brings frames.
const TOKEN: u64 = 1_000;
/// Up to how many times their burst `WINDOW_UPDATE` frames can be earned in advance. Data on its way earns before it is read, so a
/// client with much of it on its way may answer all of it at once. Without this bound a long download would pay for a flood.
const EARNED_BURSTS_MAX: u64 = 16;

/// A kind of frame that has a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// SETTINGS, acknowledgements among them (section 6.5).
    Settings,
    /// PING, acknowledgements among them (section 6.7).
    Ping,
    /// PRIORITY (section 6.3), and `PRIORITY_UPDATE` that came after it (RFC 9218, section 7.1).
    Priority,
    /// `RST_STREAM` (section 6.4).
    RstStream,
    /// `WINDOW_UPDATE` (section 6.9).
    WindowUpdate,
    /// CONTINUATION (section 6.10).
    Continuation,
    /// DATA of length 0 without `END_STREAM` (section 6.1). Padding counts as data, as it does for flow control.
    EmptyData,
    /// Everything else that is neither DATA nor HEADERS: types that the RFC has not (section 5.5), GOAWAY, and `PUSH_PROMISE`, which no
    /// client may send.
    Other,
}

impl Kind {
    /// Every one, for the labels of a metric.
    pub const ALL: [Kind; 8] = [
        Kind::Settings,
        Kind::Ping,
        Kind::Priority,
        Kind::RstStream,
        Kind::WindowUpdate,
        Kind::Continuation,
        Kind::EmptyData,
        Kind::Other,
    ];

    /// Its name, for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Settings => "SETTINGS",
            Kind::Ping => "PING",
            Kind::Priority => "PRIORITY",
            Kind::RstStream => "RST_STREAM",
            Kind::WindowUpdate => "WINDOW_UPDATE",
            Kind::Continuation => "CONTINUATION",
            Kind::EmptyData => "empty DATA",
            Kind::Other => "other",
        }
    }
}

/// The budget of one kind of frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How many frames may come at once.
    pub burst: u32,
    /// How many come back in a second.
    pub per_second: u32,
}

/// The budgets of all kinds, for each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of [`Kind::Settings`].
    pub settings: Limit,
    /// Of [`Kind::Ping`].
    pub ping: Limit,
    /// Of [`Kind::Priority`].
    pub priority: Limit,
    /// Of [`Kind::RstStream`].
    pub rst_stream: Limit,
    /// Of [`Kind::WindowUpdate`], beyond what is [earned](FrameBudget::earn_window_updates).
    pub window_update: Limit,
    /// Of [`Kind::Continuation`].
    pub continuation: Limit,
    /// Of [`Kind::EmptyData`].
    pub empty_data: Limit,
    /// Of [`Kind::Other`].
    pub other: Limit,
}

impl Default for Limits {
    fn default() -> Limits {
        let limit = |burst, per_second| Limit { burst, per_second };
        Limits {
            settings: limit(32, 2),
            ping: limit(64, 10),
            // Browsers reorder the images of a page as it scrolls.
            priority: limit(256, 50),
            rst_stream: limit(200, 20),
            window_update: limit(4_000, 2_000),
            continuation: limit(64, 10),
            empty_data: limit(64, 10),
            // Cheap to skip, and a client may send one with each request to see that it is skipped.
            other: limit(256, 50),
        }
    }
}

impl Limits {
    fn of(&self, kind: Kind) -> Limit {
        match kind {
            Kind::Settings => self.settings,
            Kind::Ping => self.ping,
            Kind::Priority => self.priority,
            Kind::RstStream => self.rst_stream,
            Kind::WindowUpdate => self.window_update,
            Kind::Continuation => self.continuation,
            Kind::EmptyData => self.empty_data,
            Kind::Other => self.other,
        }
    }
}

/// A client has sent more frames of a kind than its budget has. The connection should be closed with `ENHANCE_YOUR_CALM` (section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    /// Whose budget is exhausted.
    pub kind: Kind,
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "There are too many {} frames.", self.kind.name())
    }
}

impl std::error::Error for Flood {}

/// What one client has left on one connection.
#[derive(Clone, Debug)]
pub struct FrameBudget {
    place: Place,
    /// Whether a header block has begun and its `END_HEADERS` has not come (section 4.3).
    is_in_block: bool,
    /// Whether the last frame's header was one of DATA.
    is_data: bool,
    buckets: [Bucket; Kind::ALL.len()],
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// In the preface, of which so many bytes have come.
    Preface(usize),
    /// In a frame's header: its bytes so far, and how many.
    Header([u8; HEADER_BYTES], usize),
    /// In a frame's payload, of which so many bytes are missing; never none.
    Payload(u32),
    /// Behind a flood.
    Flooded(Flood),
    /// Behind what is no preface: this is not HTTP/2.
    Ignored,
}

const AT_FRAME: Place = Place::Header([0; HEADER_BYTES], 0);

impl FrameBudget {
    /// At the first byte of a connection, with all budgets full.
    pub fn new(limits: Limits) -> FrameBudget {
        FrameBudget {
            place: Place::Preface(0),
            is_in_block: false,
            is_data: false,
            buckets: Kind::ALL.map(|kind| Bucket::new(limits.of(kind))),
        }
    }

    /// Goes on by `bytes`, the next that the client has sent. `now_ms` is the time in milliseconds, from any beginning; if it goes
    /// back, no time has passed. What is no preface is not watched: HTTP/2 refuses it.
    ///
    /// # Errors
    ///
    /// [`Flood`], as soon as a frame's header has come that its kind's budget has no room for; and so ever after.
    pub fn advance(&mut self, mut bytes: &[u8], now_ms: u64) -> Result<(), Flood> {
        while !bytes.is_empty() {
            bytes = match self.place {
                Place::Preface(len) => self.preface(len, bytes),
                Place::Header(header, len) => self.header(header, len, bytes, now_ms)?,
                Place::Payload(missing) => {
                    let len = bytes.len().min(missing as usize);
                    self.place = payload(missing - len as u32);
                    &bytes[len..]
                }
                Place::Flooded(flood) => return Err(flood),
                Place::Ignored => return Ok(()),
            };
        }
        match self.place {
            Place::Flooded(flood) => Err(flood),
            _ => Ok(()),
        }
    }

    /// Whether the bytes so far end inside the preface, a frame, or a header block (sections 3.4, 4.1 and 4.3). A client that leaves
    /// them so should have a deadline for all the rest of it, not for the next byte.
    pub fn is_inside(&self) -> bool {
        match self.place {
            Place::Preface(len) => len > 0,
            Place::Header(_, len) => len > 0 || self.is_in_block,
            Place::Payload(_) => true,
            Place::Flooded(_) | Place::Ignored => false,
        }
    }

    /// Whether they end inside the content of a DATA frame (section 6.1), which may take its time.
    pub fn is_inside_data(&self) -> bool {
        self.is_data && matches!(self.place, Place::Payload(_))
    }

    /// Adds `frames` to the budget of `WINDOW_UPDATE`, up to sixteen times its burst. To be called with some for each DATA frame that
    /// is sent to the client: it must give back the window of the stream and that of the connection, and may do so in parts.
    pub fn earn_window_updates(&mut self, frames: u32) {
        self.buckets[Kind::WindowUpdate as usize].earn(frames, EARNED_BURSTS_MAX);
    }

    /// Adds `count` to the budget of `RST_STREAM`, up to its burst. To be called for requests that ended well: who mostly waits for
    /// answers may cancel some.
    pub fn earn_resets(&mut self, count: u32) {
        self.buckets[Kind::RstStream as usize].earn(count, 1);
    }

    fn preface<'a>(&mut self, len: usize, bytes: &'a [u8]) -> &'a [u8] {
        let expected = &PREFACE[len..];
        let (taken, rest) = bytes.split_at(expected.len().min(bytes.len()));
        self.place = match (expected.starts_with(taken), len + taken.len()) {
            (false, _) => Place::Ignored,
            (true, len) if len == PREFACE.len() => AT_FRAME,
            (true, len) => Place::Preface(len),
        };
        rest
    }

    #[inline]
    fn header<'a>(
        &mut self,
        mut header: [u8; HEADER_BYTES],
        len: usize,
        bytes: &'a [u8],
        now_ms: u64,
    ) -> Result<&'a [u8], Flood> {
        let missing = &mut header[len..];
        let (taken, rest) = bytes.split_at(missing.len().min(bytes.len()));
        missing[..taken.len()].copy_from_slice(taken);
        let len = len + taken.len();
        self.place = match len == HEADER_BYTES {
            true => self.frame(header, now_ms),
            false => Place::Header(header, len),
        };
        match self.place {
            Place::Flooded(flood) => Err(flood),
            _ => Ok(rest),
        }
    }

    /// Counts a frame; gives what comes behind its header.
    fn frame(&mut self, header: [u8; HEADER_BYTES], now_ms: u64) -> Place {
        let [high, middle, low, kind, flags, ..] = header;
        let len = u32::from_be_bytes([0, high, middle, low]);
        self.is_data = kind == 0x0;
        // HEADERS, PUSH_PROMISE, CONTINUATION.
        if matches!(kind, 0x1 | 0x5 | 0x9) {
            self.is_in_block = flags & END_HEADERS == 0;
        }
        let kind = match kind {
            0x0 if len > 0 || flags & END_STREAM != 0 => None,
            0x0 => Some(Kind::EmptyData),
            0x1 => None,
            0x2 | 0x10 => Some(Kind::Priority),
            0x3 => Some(Kind::RstStream),
            0x4 => Some(Kind::Settings),
            0x6 => Some(Kind::Ping),
            0x8 => Some(Kind::WindowUpdate),
            0x9 => Some(Kind::Continuation),
            _ => Some(Kind::Other),
        };
        match kind {
            Some(kind) if !self.buckets[kind as usize].take(now_ms) => {
                Place::Flooded(Flood { kind })
            }
            _ => payload(len),
        }
    }
}

fn payload(missing: u32) -> Place {
    match missing {
        0 => AT_FRAME,
        missing => Place::Payload(missing),
    }
}

/// Frames that may come, in thousandths. All sums saturate.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: u64,
    burst: u64,
    per_ms: u64,
    /// When it was filled last; before the first time it is full.
    filled_ms: u64,
}

impl Bucket {
    fn new(limit: Limit) -> Bucket {
        let burst = u64::from(limit.burst) * TOKEN;
        Bucket {
            level: burst,
            burst,
            per_ms: u64::from(limit.per_second),
            filled_ms: 0,
        }
    }

    fn take(&mut self, now_ms: u64) -> bool {
        let passed_ms = now_ms.saturating_sub(self.filled_ms);
        self.filled_ms = self.filled_ms.max(now_ms);
        self.add(passed_ms.saturating_mul(self.per_ms), 1);
        match self.level.checked_sub(TOKEN) {
            None => false,
            Some(level) => {
                self.level = level;
                true
            }
        }
    }

    fn earn(&mut self, frames: u32, bursts_max: u64) {
        self.add(u64::from(frames) * TOKEN, bursts_max);
    }

    /// Adds up to so many bursts; what is there beyond them stays.
    fn add(&mut self, amount: u64, bursts_max: u64) {
        let level_max = self.burst.saturating_mul(bursts_max).max(self.level);
        self.level = self.level.saturating_add(amount).min(level_max);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    fn frame(kind: u8, flags: u8, len: u32) -> Vec<u8> {
        let [_, high, middle, low] = len.to_be_bytes();
        let mut frame = vec![high, middle, low, kind, flags, 0, 0, 0, 1];
        frame.resize(HEADER_BYTES + len as usize, 0xff);
        frame
    }

    /// Behind the preface.
    fn begun(limits: Limits) -> FrameBudget {
        let mut budget = FrameBudget::new(limits);
        budget.advance(PREFACE, 0).unwrap();
        budget
    }

    /// How many of a frame are taken at once, up to 10,000.
    fn taken(budget: &mut FrameBudget, frame: &[u8], now_ms: u64) -> usize {
        (0..10_000)
            .take_while(|_| budget.advance(frame, now_ms).is_ok())
            .count()
    }

    const FRAMES: [(u8, u8, u32, Kind); 14] = [
        (0x4, 0, 6, Kind::Settings),
        (0x4, 1, 0, Kind::Settings),
        (0x6, 0, 8, Kind::Ping),
        (0x6, 1, 8, Kind::Ping),
        (0x2, 0, 5, Kind::Priority),
        (0x10, 0, 7, Kind::Priority),
        (0x3, 0, 4, Kind::RstStream),
        (0x8, 0, 4, Kind::WindowUpdate),
        (0x9, 4, 0, Kind::Continuation),
        (0x0, 0, 0, Kind::EmptyData),
        (0x0, 8, 0, Kind::EmptyData),
        (0x7, 0, 8, Kind::Other),
        (0x5, 4, 4, Kind::Other),
        (0xff, 0xff, 0, Kind::Other),
    ];

    #[test]
    fn each_kind_has_its_burst_and_no_more() {
        for (kind, flags, len, expected) in FRAMES {
            let limits = Limits::default();
            let mut budget = begun(limits);
            let frame = frame(kind, flags, len);
            let burst = limits.of(expected).burst as usize;
            assert_eq!(burst, taken(&mut budget, &frame, 0), "{expected:?}");
            let flood = Err(Flood { kind: expected });
            assert_eq!(flood, budget.advance(b"", 0));
            assert_eq!(flood, budget.advance(&frame, u64::MAX), "it is for good");
            assert!(!budget.is_inside());
        }
    }

    #[test]
    fn a_flood_is_told_at_the_header_of_the_frame() {
        let limits = Limits {
            ping: Limit {
                burst: 0,
                per_second: 0,
            },
            ..Limits::default()
        };
        let mut budget = begun(limits);
        let ping = frame(0x6, 0, 8);
        budget.advance(&ping[..8], 0).unwrap();
        let flood = budget.advance(&ping[8..9], 0).unwrap_err();
        assert_eq!("There are too many PING frames.", flood.to_string());
    }

    #[test]
    fn frames_that_carry_something_are_free() {
        let mut budget = begun(Limits::default());
        for frame in [
            frame(0x0, 0, 1),
            frame(0x0, 1, 0),
            frame(0x0, 8, 3),
            frame(0x1, 4, 10),
            frame(0x1, 5, 0),
        ] {
            assert_eq!(10_000, taken(&mut budget, &frame, 0));
        }
    }

    #[test]
    fn time_brings_frames_back_up_to_the_burst() {
        let mut budget = begun(Limits::default());
        let ping = frame(0x6, 0, 8);
        let now_ms = 1_000_000;
        for _ in 0..64 {
            budget.advance(&ping, now_ms).unwrap();
        }
        // Ten in a second is one in 100 ms, and parts of one are kept.
        for passed_ms in [100, 200, 350, 400] {
            budget.advance(&ping, now_ms + passed_ms).unwrap();
        }
        assert_eq!(0, taken(&mut budget.clone(), &ping, now_ms + 499));
        assert_eq!(1, taken(&mut budget.clone(), &ping, now_ms + 500));
        assert_eq!(64, taken(&mut budget.clone(), &ping, now_ms + 3_600_000));
        assert_eq!(64, taken(&mut budget.clone(), &ping, u64::MAX));
        // Back and forth brings nothing.
        assert_eq!(0, taken(&mut budget, &ping, 0));
    }

    #[test]
    fn a_clock_that_goes_back_brings_nothing() {
        let limits = Limits {
            ping: Limit {
                burst: 3,
                per_second: 1,
            },
            ..Limits::default()
        };
        let mut budget = begun(limits);
        let ping = frame(0x6, 0, 8);
        for now_ms in [5_000, 0, 5_000] {
            budget.advance(&ping, now_ms).unwrap();
        }
        assert_eq!(0, taken(&mut budget.clone(), &ping, 0));
        assert_eq!(0, taken(&mut budget.clone(), &ping, 5_999));
        assert_eq!(1, taken(&mut budget.clone(), &ping, 6_000));
    }

    #[test]
    fn kinds_do_not_share_their_budgets() {
        let mut budget = begun(Limits::default());
        for (kind, burst) in [(0x6, 64), (0x4, 32), (0x3, 200), (0x8, 4_000)] {
            for _ in 0..burst {
                budget.advance(&frame(kind, 0, 8), 0).unwrap();
            }
        }
    }

    #[test]
    fn window_updates_are_earned_beyond_the_burst_but_not_without_bound() {
        let update = frame(0x8, 0, 4);
        let mut budget = begun(Limits::default());
        budget.earn_window_updates(1_000);
        assert_eq!(5_000, taken(&mut budget, &update, 0));
        let limits = Limits {
            window_update: Limit {
                burst: 10,
                per_second: 1_000,
            },
            ..Limits::default()
        };
        let mut budget = begun(limits);
        for _ in 0..3 {
            budget.earn_window_updates(u32::MAX);
        }
        // Time takes nothing away.
        budget.advance(&update, 5_000).unwrap();
        assert_eq!(159, taken(&mut budget, &update, 5_000));
    }

    #[test]
    fn resets_are_earned_back_up_to_the_burst() {
        let reset = frame(0x3, 0, 4);
        let mut budget = begun(Limits::default());
        budget.earn_resets(1_000);
        for _ in 0..200 {
            budget.advance(&reset, 0).unwrap();
        }
        budget.earn_resets(7);
        assert_eq!(7, taken(&mut budget.clone(), &reset, 0));
        budget.earn_resets(u32::MAX);
        assert_eq!(200, taken(&mut budget, &reset, 0));
    }

    #[test]
    fn it_is_inside_while_a_frame_or_a_header_block_is_unfinished() {
        let steps: [(&[u8], bool); 12] = [
            (b"", false),
            (&PREFACE[..1], true),
            (&PREFACE[1..23], true),
            (&PREFACE[23..], false),
            (&[0], true),
            (&[0, 2, 0x1, 0x1, 0, 0, 0, 1], true),
            (&[0x82, 0x86], true),
            // A frame that must not be here: it is for HTTP/2 to refuse.
            (&[0, 0, 0, 0x0, 1, 0, 0, 0, 1], true),
            (&[0, 0, 1, 0x9, 0, 0, 0, 0, 1, 0x84], true),
            (&[0, 0, 1, 0x9, 0x4, 0, 0, 0, 1], true),
            (&[0x84], false),
            (&[0, 0, 0, 0x1, 0x5, 0, 0, 0, 3], false),
        ];
        let mut budget = FrameBudget::new(Limits::default());
        for (index, (bytes, is_inside)) in steps.into_iter().enumerate() {
            budget.advance(bytes, 0).unwrap();
            assert_eq!(is_inside, budget.is_inside(), "{index}");
        }
    }

    #[test]
    fn what_is_no_preface_is_not_watched() {
        let ping = frame(0x6, 0, 8).repeat(100);
        for preface in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nXX"] {
            for cut in 0..preface.len() {
                let mut budget = FrameBudget::new(Limits::default());
                budget.advance(&preface[..cut], 0).unwrap();
                budget.advance(&preface[cut..], 0).unwrap();
                budget.advance(&ping, 0).unwrap();
                assert!(!budget.is_inside());
            }
        }
    }

    #[test]
    fn the_longest_payload_is_skipped() {
        let data = frame(0x0, 0, 0xff_ffff);
        let mut budget = begun(Limits::default());
        budget.advance(&data, 0).unwrap();
        assert!(!budget.is_inside());
        budget.advance(&data[1..], 0).unwrap();
        assert!(budget.is_inside());
    }

    #[test]
    fn kinds_are_listed_in_order_and_have_names_of_their_own() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(index, kind as usize);
            let same = Kind::ALL.iter().filter(|other| other.name() == kind.name());
            assert_eq!(1, same.count());
        }
    }

    /// Frames, each with how many milliseconds pass before it.
    fn frames() -> impl Strategy<Value = Vec<(Vec<u8>, u64)>> {
        let frame = (0..0x12_u8, any::<u8>(), 0..20_u32)
            .prop_map(|(kind, flags, len)| frame(kind, flags, len.saturating_sub(8)));
        vec((frame, prop_oneof![Just(0), 0..2_000_u64]), 0..60)
    }

    fn small(burst: u32, per_second: u32) -> Limits {
        let limit = Limit { burst, per_second };
        Limits {
            settings: limit,
            ping: limit,
            priority: limit,
            rst_stream: limit,
            window_update: limit,
            continuation: limit,
            empty_data: limit,
            other: limit,
        }
    }

    proptest! {
        #[test]
        fn frames_cost_the_same_however_they_are_cut(
            frames in frames(), cuts in vec(any::<Index>(), 0..9), burst in 0..9_u32
        ) {
            let bytes = [&PREFACE[..]].into_iter().chain(frames.iter().map(|(frame, _)| &frame[..])).collect::<Vec<_>>().concat();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut whole = FrameBudget::new(small(burst, 1));
            let mut pieces = whole.clone();
            let expected = whole.advance(&bytes, 0);
            let seen = cuts.windows(2).try_for_each(|cut| pieces.advance(&bytes[cut[0]..cut[1]], 0));
            prop_assert_eq!(expected, seen);
            prop_assert_eq!(whole.is_inside(), pieces.is_inside());
        }

        /// The rule of a token bucket, written as it is defined: of a kind there are in no span of time more frames than the burst and
        /// what the span brings, and the first frame that would break this is the flood.
        #[test]
        fn no_span_of_time_has_more_frames_than_burst_and_rate_allow(
            frames in frames(), burst in 0..5_u32, per_second in 0..9_u32
        ) {
            let mut budget = begun(small(burst, per_second));
            let (mut now_ms, mut times) = (0, vec![Vec::new(); Kind::ALL.len()]);
            for (frame, passed_ms) in frames {
                now_ms += passed_ms;
                let kind = match (frame[3], frame.len()) {
                    (0, HEADER_BYTES) if frame[4] & 1 == 0 => Kind::EmptyData,
                    (0 | 1, _) => continue,
                    (kind, _) => FRAMES.iter().find(|(of, ..)| *of == kind).map_or(Kind::Other, |(.., kind)| *kind),
                };
                let times: &mut Vec<u64> = &mut times[kind as usize];
                times.push(now_ms);
                let is_allowed = times.iter().enumerate().all(|(index, since)| {
                    let count = (times.len() - index) as u64;
                    count * 1_000 <= u64::from(burst) * 1_000 + (now_ms - since) * u64::from(per_second)
                });
                let expected = if is_allowed { Ok(()) } else { Err(Flood { kind }) };
                prop_assert_eq!(expected, budget.advance(&frame, now_ms));
                if !is_allowed {
                    break;
                }
            }
        }

        #[test]
        fn whatever_comes_is_taken_without_a_panic(pieces: Vec<(Vec<u8>, u64, u32)>, limits: (u32, u32)) {
            let mut budget = begun(small(limits.0, limits.1));
            for (piece, now_ms, earned) in pieces {
                let _ = budget.advance(&piece, now_ms);
                budget.earn_resets(earned);
                budget.earn_window_updates(earned);
            }
        }
    }
}
