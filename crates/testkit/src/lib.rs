//! For tests of what reads other people's bytes: valid input is changed at random, and whatever reads it must return a
//! result or an error. A failure prints a seed that repeats it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Numbers that are wrong where a length or a count is expected.
const NUMBERS: [u32; 8] = [0, 1, 4, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0xFFFF_0000, 100_000];
/// Pieces of text that formats give a meaning.
const PIECES: [&str; 16] =
    ["\"", ";", ",", "\n", "\r\n", "\0", "\u{feff}", "é", "-", "1e999", "NaN", "{", "[[", "]", "../", "%"];

/// A variable of the environment as a number, such as `WATTLAKE_SEED`.
pub fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// How long a test with random input takes: `WATTLAKE_FUZZ_SECONDS`, or a second.
pub fn time() -> Duration {
    Duration::from_secs(number("WATTLAKE_FUZZ_SECONDS").unwrap_or(1))
}

/// The first seed: `WATTLAKE_SEED`, or a random one.
pub fn first_seed() -> u64 {
    number("WATTLAKE_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()))
}

/// Calls `read` with changed copies of the bytes in `valid`, for [`time`], and first with each unchanged.
///
/// # Panics
/// Where `read` panics; the seed is printed before.
pub fn read_changed_bytes(valid: &[&[u8]], read: impl Fn(&[u8])) {
    valid.iter().for_each(|bytes| read(bytes));
    let until = Instant::now() + time();
    let mut seed = first_seed();
    while Instant::now() < until {
        let bytes = changed(valid, seed);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| read(&bytes))) {
            eprintln!("these bytes can be repeated with WATTLAKE_SEED={seed}: {}", bytes.escape_ascii());
            resume_unwind(panic);
        }
        seed = seed.wrapping_add(1);
    }
}

/// A copy of one of the inputs with a few changes.
fn changed(valid: &[&[u8]], seed: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut bytes = valid.choose(&mut random).copied().unwrap_or_default().to_vec();
    for _ in 0..random.random_range(1..6) {
        change(&mut bytes, &mut random);
    }
    bytes
}

/// Changes bytes once: a bit, a byte, a number, a piece more or less, or the end.
pub fn change(bytes: &mut Vec<u8>, random: &mut StdRng) {
    if bytes.is_empty() {
        return bytes.push(random.random());
    }
    let at = random.random_range(0..bytes.len());
    match random.random_range(0..8) {
        0 => bytes[at] ^= 1 << random.random_range(0..8),
        1 => bytes[at] = random.random(),
        2 => {
            let number = NUMBERS.choose(random).unwrap_or(&0).to_be_bytes();
            let end = (at + number.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&number[..end - at]);
        }
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(at..(at + random.random_range(1..20)).min(bytes.len()))),
        5 => {
            let noise: Vec<u8> = (0..random.random_range(1..20)).map(|_| random.random()).collect();
            drop(bytes.splice(at..at, noise));
        }
        6 => {
            let piece = PIECES.choose(random).unwrap_or(&"").bytes();
            drop(bytes.splice(at..at, piece));
        }
        _ => {
            let end = (at + random.random_range(1..60)).min(bytes.len());
            let again = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, again));
        }
    }
}
