//! Debian packages: installed on the system for tools, or unpacked from a private apt root for things that
//! only tests use, so that the system's own apt state is left alone.

use crate::child;
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Installs what is missing of `packages`.
///
/// # Errors
/// When there is no apt, no right to use it, or no such package: the text names what to install by hand.
pub(crate) fn install(packages: &[&str], why: &str) -> Result<()> {
    let missing: Vec<_> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if child::which("apt-get").is_none() {
        bail!(
            "{why} needs the Debian packages `{list}` and this system has no apt: install their equivalents"
        );
    }
    if !missing.iter().all(|package| is_known(package)) {
        update()?;
        if let Some(unknown) = missing.iter().find(|package| !is_known(package)) {
            bail!("{why} needs the Debian package `{unknown}`, which this system's apt sources do not have");
        }
    }
    if install_now(&missing, why).is_err() {
        // Lists older than the archive name files that are gone.
        update()?;
        install_now(&missing, why).with_context(|| format!("{why} needs `apt-get install {list}`"))?;
    }
    Ok(())
}

/// Whether apt could install it, as far as its lists know.
pub(crate) fn is_known(package: &str) -> bool {
    child::ask("apt-cache", &["policy", package]).is_some_and(|policy| {
        policy.lines().any(|line| line.contains("Candidate:") && !line.contains("(none)"))
    })
}

pub(crate) fn update() -> Result<()> {
    child::quiet("reading apt's package lists", child::as_root("apt-get")?.args(["-q", "update"])).map(drop)
}

fn is_installed(package: &str) -> bool {
    child::ask("dpkg-query", &["--show", "--showformat=${db:Status-Status}\n", package])
        .is_some_and(|status| status.lines().any(|line| line == "installed"))
}

fn install_now(packages: &[&str], why: &str) -> Result<()> {
    let mut command = child::as_root("env")?;
    command.args([
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-q",
        "-y",
        "--no-install-recommends",
        "install",
    ]);
    child::quiet(&format!("installing {} with apt ({why})", packages.join(" ")), command.args(packages))
        .map(drop)
}

/// Packages of one Debian suite, taken without root and without touching the system's packages. apt gets a
/// directory tree and an empty dpkg status of its own; it still verifies the suite's signature and every hash.
pub(crate) struct Suite {
    name: String,
    dir: PathBuf,
    options: Vec<String>,
}

impl Suite {
    /// # Errors
    /// When this is no Debian, or the archive cannot be reached.
    pub(crate) fn open(name: &str, dir: &Path) -> Result<Self> {
        Self::open_kind("deb", name, dir)
    }

    /// The suite's source packages, of which an archive keeps lists of their own.
    ///
    /// # Errors
    /// As [`Suite::open`].
    pub(crate) fn open_sources(name: &str, dir: &Path) -> Result<Self> {
        Self::open_kind("deb-src", name, dir)
    }

    fn open_kind(kind: &str, name: &str, dir: &Path) -> Result<Self> {
        if child::which("apt-get").is_none() || !Path::new(KEYRING).exists() {
            bail!("packages of Debian {name} can be had on a Debian system only (no apt or no {KEYRING})");
        }
        let archive = archive()?;
        let dir = dir.to_owned();
        let d = dir.display();
        for sub in [
            "etc/sources.list.d",
            "etc/preferences.d",
            "state/lists/partial",
            "cache/archives/partial",
            "debs",
        ] {
            fs::create_dir_all(dir.join(sub)).with_context(|| format!("cannot make {d}/{sub}"))?;
        }
        fs::write(
            dir.join("etc/sources.list"),
            format!("{kind} [signed-by={KEYRING}] {archive} {name} main\n"),
        )?;
        fs::write(dir.join("status"), "")?;
        let options = [
            format!("Dir::Etc={d}/etc"),
            format!("Dir::Etc::sourcelist={d}/etc/sources.list"),
            format!("Dir::Etc::sourceparts={d}/etc/sources.list.d"),
            format!("Dir::Etc::preferencesparts={d}/etc/preferences.d"),
            format!("Dir::State={d}/state"),
            format!("Dir::State::status={d}/status"),
            format!("Dir::Cache={d}/cache"),
            // As root apt would drop to the user `_apt`, which may not write here.
            "APT::Sandbox::User=".to_owned(),
            "Acquire::Languages=none".to_owned(),
        ];
        let options = options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect();
        let suite = Self { name: name.to_owned(), dir, options };
        child::quiet(
            &format!("reading the package lists of Debian {name}"),
            suite.apt_get().args(["-q", "update"]),
        )?;
        Ok(suite)
    }

    /// `packages` and everything they depend on, in the order apt would install them.
    pub(crate) fn closure(&self, packages: &[&str]) -> Result<Vec<String>> {
        let mut command = self.apt_get();
        command.args(["--simulate", "--no-install-recommends", "install"]).args(packages);
        let plan = child::quiet(&format!("resolving {}", packages.join(" ")), &mut command)?;
        let names = plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
        Ok(names.map(str::to_owned).collect())
    }

    /// Unpacks `packages` into `root`, without their installation scripts.
    pub(crate) fn unpack(&self, packages: &[&str], root: &Path) -> Result<()> {
        let debs = self.dir.join("debs");
        let what = format!("downloading {} packages of Debian {}", packages.len(), self.name);
        child::quiet(&what, self.apt_get().args(["-q", "download"]).args(packages).current_dir(&debs))?;
        fs::create_dir_all(root)?;
        let each = r#"for deb in *.deb; do dpkg -x "$deb" "$1" && rm "$deb" || exit 1; done"#;
        let mut unpack = Command::new("sh");
        unpack.args(["-c", each, "sh"]).arg(root).current_dir(&debs);
        child::quiet(&format!("unpacking them into {}", root.display()), &mut unpack)?;
        Ok(())
    }

    /// Unpacks what the authors of a source package released into `root`, without Debian's changes to it.
    pub(crate) fn unpack_source(&self, package: &str, root: &Path) -> Result<()> {
        let debs = self.dir.join("debs");
        let what = format!("downloading the source of {package} of Debian {}", self.name);
        let mut source = self.apt_get();
        source.args(["-q", "source", "--download-only", package]).current_dir(&debs);
        child::quiet(&what, &mut source)?;
        fs::create_dir_all(root)?;
        let each = r#"tar -xf "$2"_*.orig.tar.* -C "$1" --strip-components=1 && rm "$2"_*"#;
        let mut unpack = Command::new("sh");
        unpack.args(["-c", each, "sh"]).arg(root).arg(package).current_dir(&debs);
        child::quiet(&format!("unpacking it into {}", root.display()), &mut unpack)?;
        Ok(())
    }

    fn apt_get(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.args(&self.options).env("LC_ALL", "C");
        command
    }
}

/// The base of the Debian archive that this system uses itself, so that mirrors and proxies go on working.
fn archive() -> Result<String> {
    let find = || {
        let targets = child::ask(
            "apt-get",
            &["indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"],
        )?;
        let mut archives = targets.lines().filter_map(|line| line.strip_prefix("Debian "));
        archives.find(|uri| uri.trim_end_matches('/').ends_with("/debian")).map(str::to_owned)
    };
    if let Some(archive) = find() {
        return Ok(archive);
    }
    // The origin is known from the Release files, which a fresh image does not have yet.
    update()?;
    find().context("no source of this system's apt is Debian's main archive")
}
