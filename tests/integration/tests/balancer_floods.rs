//! A client that sends much and means nothing is ended soon, costs the backends nothing, and nobody else notices.

mod balancer_common;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer_common::frames::{
    ACK, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, HEADERS, PING,
    PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, fields, frame, get, headers, reset,
};
use balancer_common::{Balancer, Conversation, RawBackend, SOON, Taken, World};
use futures::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const GET: &str = "GET /other HTTP/1.1\r\nhost: localhost\r\n\r\n";
const POST: &[(&str, &str)] = &[
    (":method", "POST"),
    (":scheme", "https"),
    (":authority", "localhost"),
    (":path", "/post"),
];

/// Answers at once; what is asked for below `/slow` a little later.
async fn ordinary(mut on: Conversation) -> Result<balancer_common::Next> {
    if on.path().starts_with("/slow") {
        sleep(Duration::from_millis(200)).await;
    }
    on.read_body().await?;
    on.answer("ok").await?;
    on.go_on()
}

/// Requests of a flood that have come through.
fn came_through(backend: &RawBackend) -> usize {
    let heard = backend.heard();
    heard
        .iter()
        .filter(|heard| !heard.line().contains("/other"))
        .count()
}

/// Another client is served, on a connection of before and on a new one, whatever happens meanwhile.
async fn serves_others(balancer: &Balancer, until: impl Future<Output = Result<()>>) -> Result<()> {
    let mut wire = balancer.wire().await?;
    let others = async {
        loop {
            wire.write(GET).await?;
            ensure!(wire.answer().await?.status == 200);
            let mut new = balancer.wire().await?;
            new.write(GET).await?;
            ensure!(new.answer().await?.status == 200);
        }
    };
    tokio::select! {
        ended = until => ended,
        failed = others => failed,
    }?;
    wire.write(GET).await?;
    ensure!(
        wire.answer().await?.status == 200,
        "it serves nobody any more"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_flood_ends_its_connection_with_calm_and_is_counted() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", ordinary)?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let settings = frame(SETTINGS, 0, 0, b"");
    let ping = frame(PING, 0, 0, [7; 8]);
    let pong = frame(PING, ACK, 0, [7; 8]);
    let priority = frame(PRIORITY, 0, 1, [0, 0, 0, 0, 16]);
    let window = frame(WINDOW_UPDATE, 0, 0, 1_u32.to_be_bytes());
    let unknown = frame(0x42, 0, 0, b"?");
    let empty = frame(DATA, 0, 1, b"");
    let padded = frame(DATA, 0x8, 1, [0]);
    let closed = reset(1, CANCEL);
    let begin = headers(1, 0, POST);
    let ended = [get(1, "/ended"), reset(1, CANCEL)].concat();
    for (what, begin, one_of_them) in [
        ("SETTINGS", &[][..], &settings),
        ("PING", &[], &ping),
        ("PING ACK", &[], &pong),
        ("PRIORITY", &[], &priority),
        ("WINDOW_UPDATE", &[], &window),
        ("frames that nobody knows", &[], &unknown),
        ("empty DATA", &begin, &empty),
        ("RST_STREAM on a closed stream", &ended, &closed),
    ] {
        let before = balancer.metric("balancer_http2_floods_total").await?;
        let flood = async {
            let mut frames = balancer.frames().await?;
            let all = [begin, &one_of_them.repeat(20_000)].concat();
            let began = Instant::now();
            let end = frames.flood(all).await.with_context(|| what.to_owned())?;
            // It may be lost in the reset of a connection that is still being written to.
            ensure!(
                matches!(end, None | Some(ENHANCE_YOUR_CALM)),
                "{what}: closed with {end:?}"
            );
            ensure!(began.elapsed() < SOON, "{what}: {:?}", began.elapsed());
            Ok(())
        };
        serves_others(&balancer, flood).await?;
        let counted = balancer.metric("balancer_http2_floods_total").await? - before;
        // Whoever finds it first: HTTP/2's own layer has a limit to empty DATA.
        ensure!(counted == 1, "{what}: {counted} counted");
    }
    ensure!(came_through(&one) <= 2, "{:?}", came_through(&one));
    // Padding counts as data, as it does for flow control: there is a limit to that, too, but it is the windows'.
    let mut frames = balancer.frames().await?;
    frames.write([begin, padded.repeat(100)].concat()).await?;
    ensure!(frames.is_alive(1).await?);
    balancer.wait_for_in_flight(&[1]).await?;
    drop(frames);
    balancer.wait_for_in_flight(&[0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_whose_sender_reads_is_told_to_be_calm() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", ordinary)?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let mut frames = balancer.frames().await?;
    for _ in 0..40 {
        if frames.write(frame(SETTINGS, 0, 0, b"")).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(1)).await;
    }
    ensure!(frames.closed().await? == Some(ENHANCE_YOUR_CALM));
    Ok(())
}

/// The processor time that the balancer has used.
fn processor_time(balancer: &Balancer) -> Result<Duration> {
    let pid = balancer.program.pid().context("no process")?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("no name")?;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>);
    let ticks = ticks.sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_whose_sender_reads_nothing_costs_no_processor() -> Result<()> {
    const FLOODS: u32 = 2;
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async move {
        on.write("HTTP/1.1 200 OK\r\n\r\n").await?;
        loop {
            on.write([b'x'; 65_536]).await?;
        }
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    for count in 1..=FLOODS {
        let mut frames = balancer.frames().await?;
        // All windows are open, and the kernel's are soon full.
        let window = 0x3fff_ffff_u32.to_be_bytes();
        let settings = [&[0, 4][..], &window].concat();
        frames
            .write(
                [
                    frame(SETTINGS, 0, 0, settings),
                    frame(WINDOW_UPDATE, 0, 0, window),
                    get(1, "/"),
                ]
                .concat(),
            )
            .await?;
        one.wait_for_heard(count as usize).await?;
        sleep(Duration::from_millis(500)).await;
        let before = processor_time(&balancer)?;
        frames.write(frame(SETTINGS, 0, 0, b"").repeat(100)).await?;
        sleep(Duration::from_millis(700)).await;
        let used = processor_time(&balancer)? - before;
        ensure!(
            used < Duration::from_millis(250),
            "{used:?} for a connection that is over"
        );
        balancer.wait_for_in_flight(&[0]).await?;
    }
    let counted = balancer.metric("balancer_http2_floods_total").await?;
    ensure!(counted == u64::from(FLOODS), "{counted}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_reset_in_bursts_or_paced_end_soon_and_reach_the_backend_seldom()
-> Result<()> {
    const BOUND: usize = 600;
    let world = World::new()?;
    let one = world.raw_backend("web-1", ordinary)?;
    let balancer = world.balancer_before(&[&one], "").await?;
    for at_once in [1, 10, 100] {
        let before = came_through(&one);
        let flood = async {
            let mut frames = balancer.frames().await?;
            let mut stream = 1;
            let mut sent = 0;
            loop {
                let group: Vec<u8> = (0..at_once)
                    .flat_map(|index| get(stream + 2 * index, &format!("/slow/{at_once}")))
                    .collect();
                let resets: Vec<u8> = (0..at_once)
                    .flat_map(|index| reset(stream + 2 * index, CANCEL))
                    .collect();
                let (group_ping, reset_ping) = (u64::from(stream), u64::from(stream) + 1);
                let is_over = frames.write(group).await.is_err()
                    // So that each has reached the backend before it is given up.
                    || at_once == 10 && !frames.is_alive(group_ping).await?
                    || frames.write(resets).await.is_err()
                    // So that no more is sent than was read.
                    || at_once > 1 && !frames.is_alive(reset_ping).await?;
                if is_over {
                    break;
                }
                sent += at_once as usize;
                stream += 2 * at_once;
                ensure!(sent < 20_000, "{sent} requests were reset, and it goes on");
            }
            let end = frames.closed().await?;
            ensure!(
                matches!(end, None | Some(ENHANCE_YOUR_CALM)),
                "closed with {end:?}"
            );
            Ok(())
        };
        serves_others(&balancer, flood).await?;
        let got = came_through(&one) - before;
        ensure!(
            got <= BOUND,
            "{at_once} at once: the backend has got {got} requests"
        );
    }
    ensure!(balancer.metric("balancer_http2_floods_total").await? >= 1);
    balancer.wait_for_in_flight(&[0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_cancels_now_and_then_is_no_flood() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", ordinary)?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let mut frames = balancer.frames().await?;
    // One in two, far more than a budget without earnings has.
    for index in 0..600 {
        let stream = 4 * index + 1;
        frames
            .write([get(stream, "/kept"), get(stream + 2, "/cancelled")].concat())
            .await?;
        frames.write(reset(stream + 2, CANCEL)).await?;
        loop {
            let frame = frames.next().await?;
            let frame = frame.with_context(|| format!("closed at {index}"))?;
            if frame.stream == stream && frame.flags & END_STREAM != 0 && frame.kind <= HEADERS {
                break;
            }
        }
    }
    ensure!(frames.is_alive(1).await?);
    ensure!(balancer.metric("balancer_http2_floods_total").await? == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_in_small_pieces_whose_windows_are_updated_is_no_flood() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        on.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .await?;
        for _ in 0..400 {
            on.write("4000\r\n").await?;
            on.write([b'x'; 16_384]).await?;
            on.write("\r\n").await?;
        }
        on.write("0\r\n\r\n").await?;
        on.go_on()
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let mut frames = balancer.frames().await?;
    frames.write(get(1, "/")).await?;
    let mut got = 0;
    loop {
        let frame_in = frames.next().await?.context("closed")?;
        if frame_in.kind != DATA {
            continue;
        }
        got += frame_in.payload.len();
        if frame_in.flags & END_STREAM != 0 {
            break;
        }
        // Both windows, in pieces of a KiB.
        let mut updates = Vec::new();
        for piece in frame_in.payload.chunks(1024) {
            let room = (piece.len() as u32).to_be_bytes();
            updates.extend(frame(WINDOW_UPDATE, 0, 0, room));
            updates.extend(frame(WINDOW_UPDATE, 0, 1, room));
        }
        frames.write(updates).await?;
    }
    ensure!(got == 400 * 16_384, "{got} bytes");
    ensure!(balancer.metric("balancer_http2_floods_total").await? == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_without_end_or_a_bomb_of_fields_reaches_nobody() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", ordinary)?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let resident = || -> Result<u64> {
        let pid = balancer.program.pid().context("no process")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
        let pages = status.split(' ').nth(1).context("no such field")?;
        Ok(pages.parse::<u64>()? * 4096)
    };
    let before = resident()?;
    let block = fields(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/bomb"),
    ]);
    let long = "x".repeat(4000);
    // One entry of the table, named again and again: each byte is a field of 4 KB.
    let mut entry = vec![0x40, 1, b'b', 127];
    let mut rest = long.len() - 127;
    while rest >= 128 {
        entry.push((rest % 128) as u8 | 0x80);
        rest /= 128;
    }
    entry.push(rest as u8);
    entry.extend_from_slice(long.as_bytes());
    let bomb = [&block[..], &entry, &[0xbe; 8_000]].concat();
    let endless = |payload: &[u8]| {
        let begin = frame(HEADERS, END_STREAM, 1, &block);
        [begin, frame(CONTINUATION, 0, 1, payload).repeat(20_000)].concat()
    };
    let many: Vec<(String, String)> = (0..2_000)
        .map(|index| (format!("f{index}"), "v".to_owned()))
        .collect();
    let many: Vec<_> = many.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let many = [&block[..], &fields(&many)].concat();
    let many = [
        frame(HEADERS, END_STREAM, 1, &many[..16_000]),
        frame(CONTINUATION, END_HEADERS, 1, &many[16_000..]),
    ]
    .concat();
    for (what, sent, is_cut) in [
        ("empty CONTINUATION", endless(b""), true),
        (
            "CONTINUATION with fields",
            endless(&fields(&[("a", "b")])),
            true,
        ),
        (
            "CONTINUATION with large fields",
            endless(&fields(&[("a", &long)]).repeat(2)),
            true,
        ),
        (
            "a bomb",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb),
            false,
        ),
        ("thousands of fields", many, false),
    ] {
        let flood = async {
            let mut frames = balancer.frames().await?;
            if is_cut {
                frames.flood(sent).await.with_context(|| what.to_owned())?;
                return Ok(());
            }
            frames.write(sent).await?;
            let taken = frames.taken(1).await.with_context(|| what.to_owned())?;
            ensure!(
                matches!(
                    taken,
                    Taken::Answered(431) | Taken::Reset(_) | Taken::Closed(Some(_))
                ),
                "{what}: {taken:?}"
            );
            Ok(())
        };
        serves_others(&balancer, flood).await?;
    }
    ensure!(came_through(&one) == 0, "{:?}", one.heard());
    let grown = resident()?.saturating_sub(before);
    ensure!(grown < 64 << 20, "its memory has grown by {grown} bytes");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn more_streams_than_are_allowed_are_refused_one_by_one() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |on: Conversation| on.hold())?;
    let balancer = world
        .balancer_before(&[&one], "[request]\nhttp2_streams_max = 10\n")
        .await?;
    let mut frames = balancer.frames().await?;
    // Once it is known to the client, what it asks for beyond is its fault.
    frames.wait_for(SETTINGS).await?;
    frames.write(frame(SETTINGS, ACK, 0, b"")).await?;
    let all: Vec<u8> = (0..20).flat_map(|index| get(2 * index + 1, "/")).collect();
    frames.write(all).await?;
    let mut refused = 0;
    while refused < 10 {
        let frame = timeout(SOON, frames.next()).await??;
        let frame = frame.context("closed")?;
        if frame.kind == RST_STREAM {
            ensure!(frame.code() == 0x7 && frame.stream > 20, "{frame:?}");
            refused += 1;
        }
    }
    one.wait_for_heard(10).await?;
    balancer.wait_for_in_flight(&[10]).await?;
    ensure!(one.heard().len() == 10);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_idle_and_slow_connections_keep_nobody_out() -> Result<()> {
    const EACH: usize = 700;
    let world = World::new()?;
    let one = world.raw_backend("web-1", ordinary)?;
    let balancer = world.balancer_before(&[&one], "").await?;
    // Silent before the handshake, in it, after it, and in the middle of a head or a body, by both versions.
    let mut bare = Vec::new();
    for index in 0..2 * EACH {
        let mut stream = TcpStream::connect(("127.0.0.1", balancer.https)).await?;
        if index % 2 == 0 {
            stream.write_all(&[0x16, 3, 1, 2, 0]).await?;
        }
        bare.push(stream);
    }
    let mut wires = Vec::new();
    for _ in 0..EACH / 50 {
        let opened = join_all((0..50).map(|index| {
            let balancer = &balancer;
            async move {
                let mut wire = match index % 2 {
                    0 => balancer.wire().await?,
                    _ => balancer.frames().await?.wire,
                };
                match index % 4 {
                    0 => wire.write("GET / HT").await?,
                    2 => {
                        wire.write(
                            "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nabc",
                        )
                        .await?;
                    }
                    1 => wire.write(frame(HEADERS, 0, 1, fields(POST))).await?,
                    _ => wire.write(headers(1, 0, POST)).await?,
                }
                anyhow::Ok(wire)
            }
        }));
        wires.extend(opened.await.into_iter().collect::<Result<Vec<_>>>()?);
    }
    let connections = balancer.metric("balancer_connections").await?;
    ensure!(
        connections as usize >= 3 * EACH,
        "only {connections} connections are open"
    );
    let began = Instant::now();
    for _ in 0..20 {
        let mut wire = balancer.wire().await?;
        for _ in 0..5 {
            wire.write(GET).await?;
            ensure!(wire.answer().await?.status == 200);
        }
        let mut frames = balancer.frames().await?;
        frames.write(get(1, "/other")).await?;
        ensure!(frames.taken(1).await? == Taken::Answered(200));
    }
    ensure!(began.elapsed() < SOON, "{:?}", began.elapsed());
    drop((bare, wires));
    harness::wait_until("all of them are gone", SOON, async || {
        balancer.metric("balancer_connections").await.unwrap_or(1) == 0
    })
    .await?;
    balancer.wait_for_in_flight(&[0]).await
}
