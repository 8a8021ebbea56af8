//! What a Node.js process was told to run, from its arguments.
//!
//! Limit: `process.title` overwrites the arguments with one string; the script is not to be had then.

#![forbid(unsafe_code)]

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use crate::{
    clean::{NAME_MAX_CHARS, clean, clean_name},
    procfs::Cmdline,
};

/// Options of Node.js 16 to 26 that take the next argument if there is no `=` (`node --help`; options of V8 always
/// need the `=`). One that is missing here would make its value pass for the script.
const OPTIONS_WITH_VALUE: &[&str] = &[
    "-C",
    "-r",
    "--allow-fs-read",
    "--allow-fs-write",
    "--build-sea",
    "--build-snapshot-config",
    "--conditions",
    "--cpu-prof-dir",
    "--cpu-prof-interval",
    "--cpu-prof-name",
    "--debug-port",
    "--diagnostic-dir",
    "--disable-proto",
    "--disable-warning",
    "--dns-result-order",
    "--env-file",
    "--env-file-if-exists",
    "--es-module-specifier-resolution",
    "--experimental-config-file",
    "--experimental-default-type",
    "--experimental-loader",
    "--experimental-policy",
    "--experimental-sea-config",
    "--experimental-specifier-resolution",
    "--experimental-test-isolation",
    "--heap-prof-dir",
    "--heap-prof-interval",
    "--heap-prof-name",
    "--heapsnapshot-near-heap-limit",
    "--heapsnapshot-signal",
    "--icu-data-dir",
    "--import",
    "--input-type",
    "--inspect-port",
    "--inspect-publish-uid",
    "--loader",
    "--localstorage-file",
    "--max-http-header-size",
    "--max-old-space-size-percentage",
    "--network-family-autoselection-attempt-timeout",
    "--openssl-config",
    "--policy-integrity",
    "--redirect-warnings",
    "--report-dir",
    "--report-directory",
    "--report-filename",
    "--report-signal",
    "--require",
    "--secure-heap",
    "--secure-heap-min",
    "--snapshot-blob",
    "--stack-trace-limit",
    "--test-concurrency",
    "--test-coverage-branches",
    "--test-coverage-exclude",
    "--test-coverage-functions",
    "--test-coverage-include",
    "--test-coverage-lines",
    "--test-global-setup",
    "--test-isolation",
    "--test-name-pattern",
    "--test-reporter",
    "--test-reporter-destination",
    "--test-rerun-failures",
    "--test-shard",
    "--test-skip-pattern",
    "--test-timeout",
    "--title",
    "--tls-cipher-list",
    "--tls-keylog",
    "--trace-event-categories",
    "--trace-event-file-pattern",
    "--trace-require-module",
    "--unhandled-rejections",
    "--use-largepages",
    "--v8-pool-size",
    "--watch-kill-signal",
    "--watch-path",
];

/// Programs that only start others, and set a title that begins with their name.
const PACKAGE_MANAGERS: &[&str] = &["npm", "npx", "pnpm", "yarn"];

/// What a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// As given: relative to the working directory at the start, or absolute.
    Script(PathBuf),
    /// `--eval` or `--print`.
    Eval,
    /// The interactive prompt, or code from stdin.
    Stdin,
    /// `node --test`, `node inspect`, `node --run build`: a mode of Node itself.
    Mode(String),
    /// The process has given itself a name; cleaned.
    Title(String),
    /// The same, of a package manager: its name and its title.
    PackageManager { name: &'static str, title: String },
}

pub(super) fn entry(cmdline: &Cmdline, executable: &Path) -> Entry {
    let Some((first, rest)) = cmdline.args.split_first() else { return Entry::Stdin };
    if rest.is_empty() && !cmdline.truncated && !is_executable_name(first, executable) {
        return clean_name(first, NAME_MAX_CHARS).map_or(Entry::Stdin, title);
    }
    let mut args = rest.iter().map(Vec::as_slice);
    let mut mode = None;
    while let Some(arg) = args.next() {
        // Node reads `--a_b` as `--a-b`.
        let option = String::from_utf8_lossy(arg.split(|&byte| byte == b'=').next().unwrap_or(arg));
        let option = if option.starts_with("--") { option.replace('_', "-") } else { option.into_owned() };
        let has_value = arg.contains(&b'=');
        match option.as_str() {
            "--" => return args.next().map_or(Entry::Stdin, script),
            "-" => return Entry::Stdin,
            "-e" | "--eval" | "-p" | "--print" | "-pe" => return Entry::Eval,
            "inspect" | "debug" if mode.is_none() => mode = Some("node inspect".to_owned()),
            "--test" => mode = Some("node --test".to_owned()),
            "--run" => {
                let name = if has_value { arg.splitn(2, |&b| b == b'=').nth(1) } else { args.next() };
                return Entry::Mode(format!(
                    "node --run {}",
                    clean(name.unwrap_or_default(), NAME_MAX_CHARS)
                ));
            }
            option if OPTIONS_WITH_VALUE.contains(&option) && !has_value => {
                args.next();
            }
            option if option.starts_with('-') => {}
            _ => return mode.map_or_else(|| script(arg), Entry::Mode),
        }
    }
    mode.map_or(Entry::Stdin, Entry::Mode)
}

/// The options in front of the script, each as `--name=value` where it has a value of its own.
pub(super) fn options(cmdline: &Cmdline) -> Vec<Vec<u8>> {
    let mut args = cmdline.args.iter().skip(1).map(Vec::as_slice);
    let mut options = Vec::new();
    while let Some(arg) = args.next().filter(|arg| arg.starts_with(b"-") && !matches!(arg, &b"-" | &b"--")) {
        let mut option = arg.to_vec();
        let name = String::from_utf8_lossy(arg).replace('_', "-");
        if OPTIONS_WITH_VALUE.contains(&name.as_str())
            && let Some(value) = args.next()
        {
            option.push(b'=');
            option.extend_from_slice(value);
        }
        options.push(option);
    }
    options
}

fn script(arg: &[u8]) -> Entry {
    Entry::Script(PathBuf::from(OsStr::from_bytes(arg)))
}

fn title(title: String) -> Entry {
    let first_word = title.split_ascii_whitespace().next().unwrap_or_default();
    match PACKAGE_MANAGERS.iter().find(|name| **name == first_word) {
        Some(name) => Entry::PackageManager { name, title },
        None => Entry::Title(title),
    }
}

/// Whether a single argument is just the program: a title may be anything else.
fn is_executable_name(arg: &[u8], executable: &Path) -> bool {
    let name = |path: &Path| path.file_name().map(OsStr::to_owned);
    let arg = Path::new(OsStr::from_bytes(arg));
    name(arg).is_some_and(|arg| arg == "node" || arg == "nodejs" || Some(arg) == name(executable))
}

impl Entry {
    /// For people: the script relative to the working directory, or its last two parts; else what it is.
    pub(super) fn shown(&self, cwd: Option<&Path>) -> String {
        match self {
            Self::Script(path) => {
                let relative = match cwd.and_then(|cwd| path.strip_prefix(cwd).ok()) {
                    Some(inside) => inside.to_owned(),
                    None if path.is_absolute() => {
                        let parts: Vec<_> = path.components().rev().take(2).collect();
                        parts.into_iter().rev().filter(|part| part.as_os_str() != "/").collect()
                    }
                    None => path.strip_prefix(".").unwrap_or(path).to_owned(),
                };
                clean_name(relative.as_os_str().as_bytes(), NAME_MAX_CHARS)
                    .unwrap_or_else(|| "node (unnamed script)".to_owned())
            }
            Self::Eval => "node -e".to_owned(),
            Self::Stdin => "node (no script)".to_owned(),
            Self::Mode(text) | Self::Title(text) | Self::PackageManager { title: text, .. } => text.clone(),
        }
    }

    /// A name for a service: the script's file name without its extension. `None` where nothing is stable.
    pub(super) fn base_name(&self) -> Option<String> {
        match self {
            Self::Script(path) => {
                let name = path.file_name()?.as_bytes();
                let stem = [&b".js"[..], b".mjs", b".cjs", b".ts", b".mts", b".cts"]
                    .iter()
                    .find_map(|extension| name.strip_suffix(*extension))
                    .unwrap_or(name);
                clean_name(stem, NAME_MAX_CHARS)
            }
            Self::PackageManager { name, .. } => Some((*name).to_owned()),
            Self::Eval | Self::Stdin | Self::Mode(_) | Self::Title(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(args: &[&str]) -> Entry {
        let args = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        entry(&Cmdline { args, truncated: false }, Path::new("/usr/local/bin/node"))
    }

    fn is_script(path: &str) -> Entry {
        Entry::Script(path.into())
    }

    #[test]
    fn the_script_is_the_first_argument_that_belongs_to_no_option() {
        for args in [
            &["node", "app.js"][..],
            &["node", "app.js", "--port", "80", "-e"],
            &["node", "--inspect", "--max-old-space-size=4096", "app.js", "x"],
            &["node", "--inspect=0.0.0.0:9229", "app.js"],
            &["node", "-r", "dotenv/config", "app.js"],
            &["node", "--require", "./tracing.js", "--require=x", "app.js"],
            &["node", "--import", "tsx", "--import=./a.mjs", "app.js"],
            &["node", "--max_http_header_size", "9999", "app.js"],
            &["node", "--enable-source-maps", "--", "app.js"],
            &["node", "--watch", "app.js"],
            &["/usr/local/bin/node", "app.js"],
        ] {
            assert_eq!(of(args), is_script("app.js"), "{args:?}");
        }
        assert_eq!(of(&["node", "--", "-odd.js"]), is_script("-odd.js"));
    }

    #[test]
    fn without_a_script_it_is_said_what_runs() {
        for args in
            [&["node", "-e", "x.js"][..], &["node", "--eval=1"], &["node", "-p", "1"], &["node", "-pe", "1"]]
        {
            assert_eq!(of(args), Entry::Eval, "{args:?}");
        }
        for args in
            [&[][..], &["node"], &["node", "-i"], &["node", "-", "x"], &["node", "-r"], &["node", "--"]]
        {
            assert_eq!(of(args), Entry::Stdin, "{args:?}");
        }
        assert_eq!(of(&["node", "inspect", "app.js"]), Entry::Mode("node inspect".into()));
        assert_eq!(of(&["node", "--test", "a.test.js"]), Entry::Mode("node --test".into()));
        assert_eq!(of(&["node", "--run", "build"]), Entry::Mode("node --run build".into()));
        assert_eq!(of(&["node", "--run=build"]), Entry::Mode("node --run build".into()));
    }

    #[test]
    fn a_title_is_recognised_by_standing_alone() {
        assert_eq!(of(&["next-server (v15.1.0)"]), Entry::Title("next-server (v15.1.0)".into()));
        assert_eq!(of(&["node /srv/app.js"]), Entry::Title("node /srv/app.js".into()));
        assert_eq!(of(&["\x1b[2Jx"]), Entry::Title("\u{fffd}[2Jx".into()));
        assert_eq!(of(&["nodejs"]), Entry::Stdin);
        assert_eq!(
            of(&["npm run start:prod"]),
            Entry::PackageManager { name: "npm", title: "npm run start:prod".into() }
        );
    }

    #[test]
    fn scripts_are_shown_relative_to_the_working_directory() {
        let shown = |path: &str, cwd| is_script(path).shown(cwd);
        let cwd = Some(Path::new("/srv/shop"));
        assert_eq!(shown("/srv/shop/src/main.js", cwd), "src/main.js");
        assert_eq!(shown("/opt/other/dist/main.js", cwd), "dist/main.js");
        assert_eq!(shown("/main.js", None), "main.js");
        assert_eq!(shown("./main.js", cwd), "main.js");
        assert_eq!(shown("../x/main.js", cwd), "../x/main.js");
        assert_eq!(shown("\x07", None), "node (unnamed script)");
    }

    #[test]
    fn the_base_name_of_a_script_names_a_service() {
        let base = |path: &str| is_script(path).base_name();
        assert_eq!(base("/a/server.mjs").as_deref(), Some("server"));
        assert_eq!(base("bin/www").as_deref(), Some("www"));
        assert_eq!(base(".js"), None);
        assert_eq!(base("/"), None);
        assert_eq!(Entry::Title("job 17".into()).base_name(), None);
    }
}
