//! Which npm package a script belongs to, by its path alone.
#![forbid(unsafe_code)]

use crate::clean::{NAME_MAX_CHARS, clean_name};

const NODE_MODULES: &str = "node_modules";

/// Name of the npm package that the script at `path` belongs to, cleaned; `@scope/name` for a scoped one.
///
/// `None`: the application's own code, Node's (`node:...`), or a file that lies in `node_modules` outside any package.
/// The last `node_modules` of the path decides, which is right for nested installs, pnpm
/// (`node_modules/.pnpm/foo@1.2.3/node_modules/foo`) and Yarn's archives
/// (`.yarn/cache/foo-npm-1.2.3-0123abcd.zip/node_modules/foo`) alike.
pub fn package_of(path: &str) -> Option<String> {
    if path.starts_with("node:") {
        return None;
    }
    let inside = after_last_node_modules(path)?;
    let mut components = inside.split('/');
    let first = components.next()?;
    // `.bin`, `.cache`, `.pnpm` without a package below: a tool's own directory.
    if first.is_empty() || first.starts_with('.') {
        return None;
    }
    let second = components.next().filter(|second| !second.is_empty())?;
    let name = if first.starts_with('@') {
        // Without a file below it the second component is the file.
        components.next()?;
        &inside[..first.len() + 1 + second.len()]
    } else {
        first
    };
    clean_name(name.as_bytes(), NAME_MAX_CHARS)
}

/// What follows the last component that is `node_modules`.
fn after_last_node_modules(path: &str) -> Option<&str> {
    path.rmatch_indices(NODE_MODULES).find_map(|(at, _)| {
        let begins = at == 0 || path.as_bytes()[at - 1] == b'/';
        let inside = path[at + NODE_MODULES.len()..].strip_prefix('/')?;
        begins.then_some(inside)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_package_is_named() {
        for (path, name) in [
            ("/app/node_modules/express/lib/router/index.js", "express"),
            ("/app/node_modules/@nestjs/core/router/router.js", "@nestjs/core"),
            ("/app/node_modules/a/node_modules/b/index.js", "b"),
            ("/app/node_modules/.pnpm/foo@1.2.3/node_modules/foo/index.js", "foo"),
            ("/app/node_modules/.pnpm/@s+foo@1.2.3_x@2/node_modules/@s/foo/dist/index.mjs", "@s/foo"),
            ("/app/.yarn/cache/foo-npm-1.2.3-0123abcd.zip/node_modules/foo/lib.js", "foo"),
            (
                "/app/.yarn/__virtual__/foo-virtual-12ab/0/cache/foo-npm-1.2.3-cd.zip/node_modules/foo/a.js",
                "foo",
            ),
            ("node_modules/lodash/lodash.js", "lodash"),
            ("webpack://shop/./node_modules/lodash/lodash.js", "lodash"),
            ("/app/node_modules/foo/my_node_modules/x.js", "foo"),
        ] {
            assert_eq!(package_of(path).as_deref(), Some(name), "{path}");
        }
    }

    #[test]
    fn what_is_in_no_package_has_none() {
        for path in [
            "",
            "/app/src/index.js",
            "node:internal/util/inspect",
            "node:fs",
            "/app/node_modules_old/foo/index.js",
            "/app/old_node_modules/foo/index.js",
            "/app/node_modules/",
            "/app/node_modules",
            "/app/node_modules/loose.js",
            "/app/node_modules/@scope/loose.js",
            "/app/node_modules/.bin/tool",
            "/app/node_modules/.pnpm/foo@1.2.3/index.js",
            "/app/node_modules//x/y",
        ] {
            assert_eq!(package_of(path), None, "{path}");
        }
    }

    #[test]
    fn a_hostile_name_is_cleaned_and_bounded() {
        assert_eq!(package_of("/node_modules/a\x1b[2J/x.js").as_deref(), Some("a\u{fffd}[2J"));
        let long = format!("/node_modules/{}/x.js", "é".repeat(5000));
        assert_eq!(package_of(&long).unwrap().chars().count(), NAME_MAX_CHARS);
        assert_eq!(package_of("/node_modules/\u{200b}/x.js"), None);
    }
}
