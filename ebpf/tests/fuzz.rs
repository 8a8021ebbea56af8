//! Whatever memory says, the walk along frame pointers ends within its bounds and hands over what it read.
//!
//! `PROPTEST_CASES=10000000 cargo test -p nodeprobe-ebpf --test fuzz --release` runs for longer.

use std::cell::RefCell;

use nodeprobe_ebpf::walk::{MAX_FRAMES, Memory, RawFrame, walk};
use proptest::prelude::*;

const BASE: u64 = 0x7fff_0000_0000;
/// A stack has fewer.
const WORDS: u64 = 300;

/// A stack, and the addresses at which it was read.
struct Image {
    words: Vec<u64>,
    reads: RefCell<Vec<(u64, usize)>>,
}

impl Memory for Image {
    fn words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        self.reads.borrow_mut().push((address, N));
        let at = usize::try_from(address.checked_sub(BASE)? / 8).ok()?;
        self.words.get(at..at.checked_add(N)?)?.try_into().ok()
    }
}

/// Makes a word of a stack of a random number: a frame pointer, a tagged pointer, a small integer, anything.
fn word(random: u64) -> u64 {
    let (kind, value) = (random % 16, random / 16);
    match kind {
        0..6 => BASE + value % WORDS * 8,
        6..9 => BASE + value % WORDS * 8 + 1,
        9 => value << 32,
        10 => 0,
        11 => u64::MAX,
        _ => value.rotate_right(4),
    }
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
    fn any_memory_gives_a_bounded_walk_upwards(
        words in prop::collection::vec(any::<u64>(), 0..WORDS as usize),
        pc in any::<u64>(),
        fp in any::<u64>(),
    ) {
        let (words, fp) = (words.into_iter().map(word).collect(), word(fp));
        let image = Image { words, reads: RefCell::default() };
        let mut frames: Vec<RawFrame> = Vec::new();
        let mut in_order = true;
        let count = walk(&image, pc, fp, |index, frame| {
            in_order &= index == frames.len();
            frames.push(frame);
        });
        prop_assert!(in_order);
        prop_assert_eq!(count, frames.len());
        prop_assert!((1..=MAX_FRAMES).contains(&count));
        prop_assert_eq!(frames[0].pc, pc);
        // No return address 0, so no frame that executes there.
        prop_assert!(frames[1..].iter().all(|frame| frame.pc != 0));
        // One read of seven words per frame, each above the one before: no cycle. And one of a function at most.
        let reads = image.reads.into_inner();
        let of_frames: Vec<u64> = reads.iter().filter(|(_, words)| *words == 7).map(|(at, _)| *at).collect();
        prop_assert!(of_frames.is_sorted_by(|below, above| below.wrapping_add(40) < above.wrapping_add(40)));
        prop_assert!(of_frames.len() <= count && reads.len() <= 2 * count);
        // Only what can be JavaScript has words of JavaScript.
        let plain = |frame: &&RawFrame| frame.marker & 3 != 1;
        prop_assert!(frames.iter().filter(plain).all(|frame| frame.shared == [0; 2] && frame.bytecode == 0));
    }
}
