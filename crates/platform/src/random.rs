//! Numbers by seed: each process has a stream of its own, so that none depends on another's draws
//! and any day can be made again alone.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

pub(crate) fn stream(seed: u64, process: &str, id: u32, part: u32) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ fnv(process));
    rng.set_stream(u64::from(id) << 32 | u64::from(part));
    rng
}

fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
