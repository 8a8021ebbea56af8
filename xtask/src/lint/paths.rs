//! A path of one developer's machine in a tracked file works for nobody else.

use std::{env, path::Path};

/// The clone's own place and the home directory of whoever runs this.
pub(super) fn of_this_machine(root: &Path) -> Vec<String> {
    let home = env::var("HOME").ok();
    let paths = [Some(root.display().to_string()), home].into_iter().flatten();
    paths.map(|path| path.trim_end_matches('/').to_owned()).filter(|path| path.len() > 1).collect()
}

/// A sentence for each line of `text` that has one of the `forbidden` directories in it.
pub(super) fn violations(path: &str, text: &str, forbidden: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for directory in forbidden.iter().filter(|directory| has_path(line, directory)) {
            found.push(format!("{path}:{}: `{directory}` exists on one machine only", index + 1));
        }
    }
    found
}

fn has_path(line: &str, directory: &str) -> bool {
    line.match_indices(directory).any(|(start, _)| {
        // `/proc/7/root/etc` and `{proc}/root/etc` are not the home directory of root.
        let begins = !line[..start].ends_with(|c: char| c.is_alphanumeric() || "_-.$})>]*".contains(c));
        begins && line[start + directory.len()..].starts_with('/')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> usize {
        violations("x.md", line, &["/ada".to_owned(), "/home/ada/nodeprobe".to_owned()]).len()
    }

    #[test]
    fn a_path_of_the_machine_is_found() {
        assert_eq!(found("run /home/ada/nodeprobe/target/release/nodeprobe"), 1);
        assert_eq!(found("let x = \"/ada/.cargo/bin\";"), 1);
    }

    #[test]
    fn a_path_that_only_contains_it_is_left_alone() {
        for line in
            ["/proc/1/ada/usr", "format!(\"/proc/{pid}/ada/usr\")", "<root>/ada/x", "as /ada in a container"]
        {
            assert_eq!(found(line), 0, "{line}");
        }
    }
}
