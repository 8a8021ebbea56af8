//! The licence texts of everything that is compiled into the program.

use super::sbom::Package;
use anyhow::Result;
use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

const NAMES: [&str; 6] = ["license", "licence", "copying", "copyright", "notice", "unlicense"];

/// Each text once, below the names of all packages that come with it.
pub(super) fn of(packages: &[Package]) -> Result<String> {
    let mut by_text: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut without = Vec::new();
    for package in packages {
        let texts = texts(&package.dir)?;
        if texts.is_empty() {
            without.push(format!("{} ({})", package.named(), package.licence));
        }
        for text in texts {
            by_text.entry(text).or_default().push(package.named());
        }
    }
    let mut all = "What nodeprobe is made of besides its own code, and under which terms.\n\n\
                   The program contains the GNU C Library, LGPL-2.1-or-later. With the source of nodeprobe, which \
                   is public, `cargo xtask dist` links it with any version of that library.\n"
        .to_owned();
    for (text, mut packages) in by_text {
        packages.dedup();
        write!(all, "\n{}\n{}\n\n{}\n", "=".repeat(80), packages.join(", "), text.trim())?;
    }
    if !without.is_empty() {
        write!(all, "\n{}\nWithout a text of their own: {}\n", "=".repeat(80), without.join(", "))?;
    }
    Ok(all)
}

fn texts(dir: &Path) -> Result<Vec<String>> {
    let mut paths: Vec<_> = fs::read_dir(dir)?.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let is_licence = |path: &&std::path::PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        path.is_file() && NAMES.iter().any(|prefix| name.starts_with(prefix))
    };
    Ok(paths.iter().filter(is_licence).filter_map(|path| fs::read_to_string(path).ok()).collect())
}
