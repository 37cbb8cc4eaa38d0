//! Which shard a partition key belongs to, as Kinesis computes it: by the MD5 of the key as a number of 128 bits.
//!
//! <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecord.html>

use md5::{Digest, Md5};

/// The number that a partition key stands for.
pub fn hash_key(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

/// The shard of a partition key, of `shards` that have equal ranges of [`hash_key`].
pub fn shard_of(partition_key: &str, shards: u32) -> u32 {
    // The upper half is enough to tell so few shards apart: the product stays within 128 bits.
    let upper = hash_key(partition_key) >> 64;
    ((upper * u128::from(shards)) >> 64) as u32
}

#[cfg(test)]
mod tests {
    use super::{hash_key, shard_of};

    #[test]
    fn shards_have_equal_ranges() {
        // md5("a") = 0cc175b9c0f1b6a831c399e269772661, md5("public.measure.1") by md5sum.
        assert_eq!(hash_key("a"), 0x0cc1_75b9_c0f1_b6a8_31c3_99e2_6977_2661);
        assert_eq!((shard_of("a", 16), shard_of("a", 1)), (0, 0));
        // md5("b") = 92eb5ffee6ae2fec3ad71c777531578f: 0x9 of 16, and the upper half.
        assert_eq!((shard_of("b", 16), shard_of("b", 2)), (9, 1));
    }
}
