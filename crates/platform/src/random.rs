//! Random numbers by a seed. Each process has a stream of its own, so that it does not depend on the numbers of others,
//! and each day can be generated again by itself.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The stream of a process, such as "prices", for one object and one part of it, such as a day.
pub(crate) fn stream(seed: u64, process: &str, id: u32, part: u32) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ fnv(process));
    rng.set_stream(u64::from(id) << 32 | u64::from(part));
    rng
}

fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
