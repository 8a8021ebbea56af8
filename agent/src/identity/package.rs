//! The npm package a script belongs to.

use std::path::{Path, PathBuf};

use crate::{
    clean::{NAME_MAX_CHARS, clean_name},
    procfs::ProcessDir,
};

/// How many directories upwards are searched.
const DEPTH_MAX: usize = 16;
/// Largest `package.json` that is read.
const PACKAGE_JSON_MAX_BYTES: u64 = 1 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
}

/// The package of the application that runs `script` (an absolute path). A script below `node_modules`, like
/// `node_modules/.bin/next`, is a tool of the application that has it installed; only a tool that is installed
/// for itself (globally) gives its own name.
pub(super) fn of_script(process: &ProcessDir, script: &Path) -> Option<Package> {
    // Node resolves links before it looks for packages: a global tool is a link in `bin`.
    let real = process.real_path(script);
    let candidates = [Some(script), real.as_deref()];
    let application =
        candidates.into_iter().flatten().find_map(|path| nearest(process, &application_dir(path)?));
    application.or_else(|| nearest(process, real.as_deref().unwrap_or(script).parent()?))
}

/// The directory that holds the outermost `node_modules` of the path; `None` outside of any.
fn application_dir(path: &Path) -> Option<PathBuf> {
    let mut dir = PathBuf::new();
    for component in path.components() {
        if component.as_os_str() == "node_modules" {
            return Some(dir);
        }
        dir.push(component);
    }
    None
}

/// The first `package.json` with a name, from `dir` upwards. One without (`{"type": "module"}` in a directory of
/// compiled code) names nothing and is passed over.
pub(super) fn nearest(process: &ProcessDir, dir: &Path) -> Option<Package> {
    dir.ancestors().take(DEPTH_MAX).find_map(|dir| {
        // Unreadable, not there, not a plain file, too large: the next one upwards is the better answer than none.
        let json = process.read_in_root(&dir.join("package.json"), PACKAGE_JSON_MAX_BYTES).ok()??;
        parse(&json)
    })
}

/// `None` if it is not JSON or has no name.
fn parse(json: &[u8]) -> Option<Package> {
    #[derive(serde::Deserialize)]
    struct Json {
        name: String,
        // npm does not insist on a string here unless the package is published.
        version: Option<serde_json::Value>,
    }
    let json = json.strip_prefix("\u{feff}".as_bytes()).unwrap_or(json);
    let Json { name, version } = serde_json::from_slice(json).ok()?;
    let version = version.as_ref().and_then(serde_json::Value::as_str);
    Some(Package {
        name: Some(clean_name(name.as_bytes(), NAME_MAX_CHARS)?),
        version: version.and_then(|version| clean_name(version.as_bytes(), NAME_MAX_CHARS)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: Option<&str>) -> Package {
        Package { name: Some(name.to_owned()), version: version.map(str::to_owned) }
    }

    #[test]
    fn name_and_version_are_read() {
        assert_eq!(
            parse(br#"{"name":"@acme/shop","version":"1.2.3","x":[{}]}"#),
            Some(package("@acme/shop", Some("1.2.3")))
        );
        assert_eq!(parse("\u{feff}{\"name\":\"bom\"}".as_bytes()), Some(package("bom", None)));
        assert_eq!(parse(br#"{"name":"odd","version":7}"#), Some(package("odd", None)));
    }

    #[test]
    fn a_file_without_a_usable_name_is_none() {
        let deep = "[".repeat(500_000);
        let deep_value = format!("{{\"name\":\"x\",\"version\":{deep}");
        for json in [
            "",
            "{}",
            "null",
            "[]",
            "{\"name\":7}",
            "{\"name\":\" \"}",
            "{\"name\":\"a\"",
            &deep,
            &deep_value,
        ] {
            assert_eq!(parse(json.as_bytes()), None, "{json:.40}");
        }
        assert_eq!(parse(b"{\"name\":\"\xff\"}"), None);
    }

    #[test]
    fn names_with_escape_codes_are_cleaned() {
        assert_eq!(parse(br#"{"name":"\u001b[2Jx"}"#), Some(package("\u{fffd}[2Jx", None)));
    }

    #[test]
    fn the_application_is_where_the_outermost_node_modules_lies() {
        let dir = |path: &str| application_dir(Path::new(path));
        assert_eq!(dir("/app/node_modules/.bin/next"), Some("/app".into()));
        assert_eq!(dir("/app/node_modules/a/node_modules/b/x.js"), Some("/app".into()));
        assert_eq!(dir("/node_modules/x.js"), Some("/".into()));
        assert_eq!(dir("/app/src/node_modules.js"), None);
    }
}
