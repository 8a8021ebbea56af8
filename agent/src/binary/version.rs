//! Versions of Node and V8, read from the file's data.

use std::fmt;

use memchr::memmem::Finder;

use super::{
    BinaryError, VirtualAddress,
    elf::{Elf, Region, Sections},
};

const WINDOW_BYTES: u64 = 1 << 20;
const OVERLAP_BYTES: u64 = 64;
/// The largest Node build has 58 MB of `.rodata`.
const MAX_SEARCH_BYTES: u64 = 512 << 20;

/// V8's own version numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V8Version {
    pub major: u32,
    pub minor: u32,
    pub build: u32,
    pub patch: u32,
}

impl fmt::Display for V8Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { major, minor, build, patch } = self;
        write!(formatter, "{major}.{minor}.{build}.{patch}")
    }
}

/// Reads V8's version from its four `int` constants (`v8::internal::Version::major_` and so on).
/// `None`: some are missing, not stored in the file, or no version numbers.
pub(super) fn v8_version(elf: &Elf<'_>, parts: [Option<VirtualAddress>; 4]) -> Option<V8Version> {
    let number = |address: Option<VirtualAddress>| {
        let mut bytes = [0; 4];
        elf.read_at(address?, &mut bytes, "V8's version").ok()?;
        Some(u32::from_le_bytes(bytes)).filter(|number| *number < 1 << 16)
    };
    let [major, minor, build, patch] = parts;
    Some(V8Version {
        major: number(major).filter(|major| *major > 0)?,
        minor: number(minor)?,
        build: number(build)?,
        // In some builds the patch level is 0 and therefore in .bss.
        patch: number(patch).unwrap_or(0),
    })
}

/// Node's version without the leading `v`.
///
/// Searched in `.rodata`: `node.js/v24.21.0`, the product name Node reports to the inspector (in every examined
/// build), else the address of the headers' archive, `https://nodejs.org/download/release/v24.21.0`.
pub(super) fn node_version(elf: &Elf<'_>, sections: &Sections) -> Result<Option<String>, BinaryError> {
    const WHAT: &str = "the constant data";
    let product = Finder::new("node.js/v");
    let release = Finder::new("https://nodejs.org/download/release/v");
    let regions: Vec<Region> =
        sections.rodata.map_or_else(|| elf.read_only_regions().collect(), |rodata| vec![rodata]);
    let mut budget = MAX_SEARCH_BYTES;
    let mut by_product = None;
    let mut by_release = None;
    for region in regions {
        budget = budget.checked_sub(region.size).ok_or(BinaryError::TooLarge {
            what: WHAT,
            size: region.size,
            limit: MAX_SEARCH_BYTES,
        })?;
        elf.windows(region, WINDOW_BYTES, OVERLAP_BYTES, WHAT, |_, bytes| {
            by_product = find_version(&product, bytes);
            if by_release.is_none() {
                by_release = find_version(&release, bytes);
            }
            by_product.is_some()
        })?;
        if by_product.is_some() {
            break;
        }
    }
    Ok(by_product.or(by_release))
}

/// The version that follows the first match which a version follows.
fn find_version(finder: &Finder<'_>, bytes: &[u8]) -> Option<String> {
    finder.find_iter(bytes).find_map(|at| leading_version(&bytes[at + finder.needle().len()..]))
}

/// `24.21.0` of `24.21.0Protocol-Version`. Three numbers of at most five digits.
fn leading_version(bytes: &[u8]) -> Option<String> {
    let mut rest = bytes;
    let mut numbers = [0u32; 3];
    for (place, number) in numbers.iter_mut().enumerate() {
        if place > 0 {
            rest = rest.strip_prefix(b".")?;
        }
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=5).contains(&digits) {
            return None;
        }
        *number = rest[..digits].iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
        rest = &rest[digits..];
    }
    let [major, minor, patch] = numbers;
    Some(format!("{major}.{minor}.{patch}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_ends_where_its_third_number_ends() {
        assert_eq!(leading_version(b"24.21.0Protocol").as_deref(), Some("24.21.0"));
        assert_eq!(leading_version(b"16.20.2").as_deref(), Some("16.20.2"));
    }

    #[test]
    fn what_is_no_version_is_none() {
        for text in ["", "24", "24.", "24.1", "24.1.", ".1.2", "24.x.1", "123456.0.0", "v24.1.0"] {
            assert_eq!(leading_version(text.as_bytes()), None, "{text}");
        }
    }
}
