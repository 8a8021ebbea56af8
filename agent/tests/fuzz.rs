//! Whatever comes through the ring buffer, decoding a sample gives one that agrees with itself, or none.

use nodeprobe::readout::sample::decode;
use nodeprobe_ebpf::{
    RawFrame, SampleHeader,
    sample::{IMAGE_BYTES, PAYLOAD_BYTES},
    walk::MAX_FRAMES,
};
use proptest::prelude::*;

const HEADER_BYTES: usize = size_of::<SampleHeader>();

/// Bytes whose counts in the header, before its last word, are often plausible.
fn record() -> impl Strategy<Value = Vec<u8>> {
    let count = || prop_oneof![3 => 0..200_u32, 1 => any::<u32>()];
    let image = prop_oneof![2 => Just(0), 3 => 0..20_000_u32, 1 => any::<u32>()];
    let payload = prop_oneof![0..PAYLOAD_BYTES + 16, 0..2 * MAX_FRAMES];
    (any::<[u8; HEADER_BYTES]>(), count(), image, payload, any::<u8>(), 0..HEADER_BYTES + 1).prop_map(
        |(head, frames, image_bytes, payload, fill, keep)| {
            let mut bytes = head.to_vec();
            bytes[HEADER_BYTES - 16..HEADER_BYTES - 12].copy_from_slice(&frames.to_ne_bytes());
            bytes[HEADER_BYTES - 12..HEADER_BYTES - 8].copy_from_slice(&image_bytes.to_ne_bytes());
            // Now and then not even a whole header.
            bytes.truncate(if keep < 4 { keep } else { HEADER_BYTES });
            bytes.resize(bytes.len() + if keep < 4 { 0 } else { payload }, fill);
            bytes
        },
    )
}

fn config() -> ProptestConfig {
    let asked_for = std::env::var_os("PROPTEST_CASES").is_some();
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: if asked_for { default.cases } else { 1_000 },
        failure_persistence: None,
        ..default
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_record_gives_a_sample_that_agrees_with_itself_or_none(bytes in record()) {
        let Some(sample) = decode(&bytes) else { return Ok(()) };
        prop_assert_eq!(sample.frames.len(), sample.header.frames as usize);
        prop_assert_eq!(sample.image.len(), sample.header.image_bytes as usize);
        prop_assert!(sample.frames.len() <= MAX_FRAMES && sample.image.len() <= IMAGE_BYTES);
        let used = HEADER_BYTES + sample.frames.len() * size_of::<RawFrame>() + sample.image.len();
        prop_assert!(used <= bytes.len());
    }
}
