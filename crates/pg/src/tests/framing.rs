//! Random bytes in the place of messages, before and after the login: a client that behaves is answered meanwhile, and
//! every connection that ends gives its place back.
//!
//! `WATTLAKE_FUZZ_SECONDS` sets how long it takes (1 by default), `WATTLAKE_SEED` the first seed. A failure prints the
//! seed of the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Bounds, fixture_with, one_value, settings, within};

/// How many connections send random bytes at a time.
const SENDERS: usize = 3;
/// How long an answer of the server is waited for: nothing may come after bytes that are not a message.
const SILENCE: Duration = Duration::from_millis(20);
/// For what must happen, however slow the machine is.
const TEST_TIMEOUT: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_affect_no_other_connection() {
    // A place that is not given back is soon missed: the client and the senders fill all of them.
    let bounds = Bounds { connections_max: SENDERS + 2, ..Bounds::default() };
    let fixture = fixture_with(settings(bounds)).await;
    let client = fixture.client("analyst").await;
    let time = testkit::time();
    let next = Arc::new(AtomicU64::new(testkit::first_seed()));
    let (until, stop) = (Instant::now() + time, Arc::new(AtomicBool::new(false)));
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..SENDERS {
        let (next, stop, port) = (Arc::clone(&next), Arc::clone(&stop), fixture.port);
        senders.spawn(async move {
            let mut sent = 0_u64;
            while Instant::now() < until && !stop.load(Ordering::Relaxed) {
                send_random(port, next.fetch_add(1, Ordering::Relaxed)).await;
                sent += 1;
            }
            sent
        });
    }
    while Instant::now() < until {
        let answer = tokio::time::timeout(TEST_TIMEOUT, one_value(&client, "SELECT count(*) FROM measures")).await;
        assert!(answer.is_ok(), "no answer: a seed before {}", next.load(Ordering::Relaxed));
    }
    stop.store(true, Ordering::Relaxed);
    let sent: u64 = senders.join_all().await.into_iter().sum();
    assert!(sent > 0);
    within(TEST_TIMEOUT, async {
        while fixture.server.figures().connections != 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    println!("{sent} connections with random bytes, up to the seed {}", next.load(Ordering::Relaxed));
    assert_eq!(one_value(&client, "SELECT 1").await, "1");
}

/// One connection: its messages are valid up to some point, from there on some are changed.
async fn send_random(port: u16, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let logs_in = random.random_bool(0.6);
    if logs_in && log_in(&mut stream).await.is_none() {
        return;
    }
    let mut messages = if logs_in { session(&mut random) } else { start_up(&mut random) };
    for message in &mut messages {
        if random.random_bool(0.4) {
            change(message, &mut random);
        }
    }
    let bytes = messages.concat();
    // In two parts, since a message may arrive in any number of packets.
    let cut = random.random_range(0..=bytes.len());
    for part in [&bytes[..cut], &bytes[cut..]] {
        if stream.write_all(part).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
    let mut answer = [0; 4096];
    while let Ok(Ok(1..)) = tokio::time::timeout(SILENCE, stream.read(&mut answer)).await {}
}

/// Messages before a login.
fn start_up(random: &mut StdRng) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let request = |code: u32| [&8_u32.to_be_bytes()[..], &code.to_be_bytes()].concat();
    if random.random_bool(0.3) {
        messages.push(request([80_877_103, 80_877_104][random.random_range(0..2)]));
    }
    if random.random_bool(0.1) {
        let cancel = [&16_u32.to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), &[7; 8]].concat();
        messages.push(cancel);
    }
    messages
        .push(with_buffer(|buffer| frontend::startup_message([("user", "analyst"), ("database", "wattlake")], buffer)));
    messages.push(with_buffer(|buffer| frontend::sasl_initial_response(SCRAM_SHA_256, b"n,,n=,r=abc", buffer)));
    messages.push(with_buffer(|buffer| frontend::sasl_response(b"c=biws,r=abc,p=AAAA", buffer)));
    messages
}

/// Messages after a login, in any order.
fn session(random: &mut StdRng) -> Vec<Vec<u8>> {
    let one = || with_buffer(|buffer| frontend::query("SELECT 1", buffer));
    let all: Vec<Vec<u8>> = vec![
        one(),
        with_buffer(|buffer| frontend::parse("s", "SELECT $1::int4 + 1", [23], buffer)),
        with_buffer(|buffer| frontend::parse("", "SELECT name FROM platform.sites WHERE id = $1", [], buffer)),
        with_buffer(|buffer| {
            let put = |value: &[u8], buffer: &mut BytesMut| {
                buffer.extend_from_slice(value);
                Ok(postgres_protocol::IsNull::No)
            };
            frontend::bind("p", "s", [1], [&[0_u8, 0, 0, 7][..]], put, [1], buffer)
                .map_err(|_| std::io::Error::other("bind"))
        }),
        with_buffer(|buffer| frontend::describe(b'S', "s", buffer)),
        with_buffer(|buffer| frontend::describe(b'P', "p", buffer)),
        with_buffer(|buffer| frontend::execute("p", 0, buffer)),
        with_buffer(|buffer| frontend::execute("", 1, buffer)),
        with_buffer(|buffer| frontend::close(b'S', "s", buffer)),
        with_buffer(|buffer| {
            frontend::sync(buffer);
            Ok(())
        }),
        with_buffer(|buffer| frontend::copy_fail("x", buffer)),
        with_buffer(|buffer| {
            frontend::copy_done(buffer);
            Ok(())
        }),
        vec![b'F', 0, 0, 0, 14, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
    ];
    let count = random.random_range(1..12);
    (0..count).filter_map(|_| all.choose(random).cloned()).collect()
}

fn with_buffer(write: impl FnOnce(&mut BytesMut) -> std::io::Result<()>) -> Vec<u8> {
    let mut buffer = BytesMut::new();
    write(&mut buffer).unwrap();
    buffer.to_vec()
}

/// Changes a message: its length, or any of its bytes.
fn change(message: &mut Vec<u8>, random: &mut StdRng) {
    const LENGTHS: [u32; 9] = [0, 1, 3, 4, 5, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 100_000];
    // The length comes first before the login, and after the letter from then on; both are worth trying.
    let at = random.random_range(0..2);
    if random.random_bool(0.3) && message.len() >= at + 4 {
        message[at..at + 4].copy_from_slice(&LENGTHS.choose(random).unwrap_or(&0).to_be_bytes());
    } else {
        testkit::change(message, random);
    }
}

/// Logs in as `analyst`. `None` where the server ended the connection.
async fn log_in(stream: &mut TcpStream) -> Option<()> {
    let start =
        with_buffer(|buffer| frontend::startup_message([("user", "analyst"), ("database", "wattlake")], buffer));
    stream.write_all(&start).await.ok()?;
    read_message(stream).await?;
    let mut scram = ScramSha256::new(b"right", ChannelBinding::unsupported());
    let first = with_buffer(|buffer| frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), buffer));
    stream.write_all(&first).await.ok()?;
    // After the four bytes of the kind of request.
    scram.update(read_message(stream).await?.get(4..)?).ok()?;
    let last = with_buffer(|buffer| frontend::sasl_response(scram.message(), buffer));
    stream.write_all(&last).await.ok()?;
    scram.finish(read_message(stream).await?.get(4..)?).ok()
}

/// The body of the server's next message; `None` at the connection's end.
async fn read_message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes(head[1..].try_into().ok()?);
    let mut body = vec![0; usize::try_from(length).ok()?.checked_sub(4)?];
    stream.read_exact(&mut body).await.ok()?;
    (head[0] == b'R').then_some(body)
}
