//! What the program is made of, as `CycloneDX` 1.5. `cargo metadata` knows all of it, so that no tool has to be installed and
//! kept up for it; cargo-cyclonedx would leave out what is compiled for the kernel.

use super::Release;
use crate::{build::cargo, child, workspace::Workspace};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// One crate that is compiled in.
pub(super) struct Package {
    pub name: String,
    pub version: String,
    /// An SPDX expression.
    pub licence: String,
    pub dir: PathBuf,
    repository: Option<String>,
    sha256: Option<String>,
    depends_on: BTreeSet<String>,
}

impl Package {
    pub(super) fn named(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    fn purl(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version)
    }
}

/// Everything but our own packages: of the agent for this machine, and of its programs for the kernel.
pub(super) fn packages(workspace: &Workspace) -> Result<Vec<Package>> {
    let checksums = checksums(&fs::read_to_string(workspace.root.join("Cargo.lock"))?);
    let mut found = BTreeMap::new();
    for (root, target) in
        [("nodeprobe", "x86_64-unknown-linux-gnu"), ("nodeprobe-ebpf", "bpfel-unknown-none")]
    {
        let mut command = cargo(workspace);
        command.args(["metadata", "--format-version=1", "--locked", "--filter-platform", target]);
        let text = child::quiet(&format!("asking cargo what {root} is made of"), &mut command)?;
        for package in compiled_in(&serde_json::from_str(&text)?, root, &checksums)? {
            found.insert(package.named(), package);
        }
    }
    Ok(found.into_values().filter(|package| package.sha256.is_some()).collect())
}

/// The packages that `root` reaches by normal dependencies: neither build scripts nor tests are in the program.
fn compiled_in(metadata: &Value, root: &str, checksums: &HashMap<String, String>) -> Result<Vec<Package>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let packages: HashMap<_, _> =
        list(&metadata["packages"]).into_iter().filter_map(|p| Some((text(&p["id"])?, p))).collect();
    let nodes: HashMap<_, _> =
        list(&metadata["resolve"]["nodes"]).into_iter().filter_map(|n| Some((text(&n["id"])?, n))).collect();
    let start = packages.iter().find(|(_, package)| package["name"] == root);
    let start = start.with_context(|| format!("cargo knows no package {root}"))?.0.clone();
    let (mut seen, mut open, mut found) = (BTreeSet::from([start.clone()]), vec![start], Vec::new());
    while let Some(id) = open.pop() {
        let (package, node) = packages.get(&id).zip(nodes.get(&id)).context("a package without a node")?;
        // Macros run in the compiler.
        let is_macro =
            list(&package["targets"]).iter().any(|t| list(&t["kind"]).contains(&json!("proc-macro")));
        if is_macro {
            continue;
        }
        let deps = list(&node["deps"])
            .into_iter()
            .filter(|dep| list(&dep["dep_kinds"]).iter().any(|k| k["kind"].is_null()));
        let deps: Vec<String> = deps.filter_map(|dep| text(&dep["pkg"])).collect();
        let field = |name: &str| text(&package[name]).unwrap_or_default();
        let named = format!("{} {}", field("name"), field("version"));
        let purl = |id: &String| {
            let of = &packages[id];
            Some(format!("pkg:cargo/{}@{}", of["name"].as_str()?, of["version"].as_str()?))
        };
        found.push(Package {
            name: field("name"),
            version: field("version"),
            licence: field("license").replace('/', " OR "),
            dir: Path::new(&field("manifest_path"))
                .parent()
                .context("a manifest without a directory")?
                .to_owned(),
            repository: text(&package["repository"]),
            sha256: checksums.get(&named).cloned(),
            depends_on: deps.iter().filter_map(purl).collect(),
        });
        open.extend(deps.into_iter().filter(|dep| seen.insert(dep.clone())));
    }
    Ok(found)
}

/// From `Cargo.lock`, by name and version. Our own packages have none.
fn checksums(lock: &str) -> HashMap<String, String> {
    let quoted = |block: &str, key: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim_matches('"').to_owned())
    };
    let blocks = lock.split("[[package]]");
    blocks
        .filter_map(|block| {
            let (name, version) = (quoted(block, "name = ")?, quoted(block, "version = ")?);
            Some((format!("{name} {version}"), quoted(block, "checksum = ")?))
        })
        .collect()
}

pub(super) fn write(packages: &[Package], release: &Release) -> Result<String> {
    let mut date = Command::new("date");
    date.args(["-u", "-d", &format!("@{}", release.epoch), "+%Y-%m-%dT%H:%M:%SZ"]);
    let timestamp = child::quiet("writing the time of the commit", &mut date)?;
    let own = format!("pkg:generic/nodeprobe@{}", release.version);
    let purls: BTreeSet<_> = packages.iter().map(Package::purl).collect();
    let mut components: Vec<_> = packages.iter().map(component).collect();
    components.extend(glibc());
    let mut dependencies: Vec<_> = packages
        .iter()
        .map(|p| json!({"ref": p.purl(), "dependsOn": p.depends_on.intersection(&purls).collect::<Vec<_>>()}))
        .collect();
    dependencies.push(json!({"ref": own, "dependsOn": purls}));
    let bom = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": timestamp.trim(),
            "component": {
                "type": "application", "bom-ref": own, "name": "nodeprobe", "version": release.version,
                "licenses": [{"expression": "MIT OR Apache-2.0"}],
                "properties": [{"name": "nodeprobe:commit", "value": release.commit}],
            },
        },
        "components": components,
        "dependencies": dependencies,
    });
    Ok(serde_json::to_string_pretty(&bom)? + "\n")
}

fn component(package: &Package) -> Value {
    let mut component = json!({
        "type": "library", "bom-ref": package.purl(), "purl": package.purl(),
        "name": package.name, "version": package.version,
        "licenses": [{"expression": package.licence}],
    });
    if let Some(sha256) = &package.sha256 {
        component["hashes"] = json!([{"alg": "SHA-256", "content": sha256}]);
    }
    if let Some(repository) = &package.repository {
        component["externalReferences"] = json!([{"type": "vcs", "url": repository}]);
    }
    component
}

/// It is in the program, but no crate.
fn glibc() -> Option<Value> {
    let version = child::ask("getconf", &["GNU_LIBC_VERSION"])?;
    let version = version.trim().strip_prefix("glibc ")?.to_owned();
    Some(json!({
        "type": "library", "bom-ref": "glibc", "name": "glibc", "version": version,
        "licenses": [{"expression": "LGPL-2.1-or-later"}],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Value {
        let package = |name: &str, kind: &str| {
            json!({"id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0",
                "manifest_path": format!("/x/{name}/Cargo.toml"), "targets": [{"kind": [kind]}]})
        };
        let dep = |name: &str, kind: Option<&str>| json!({"pkg": name, "dep_kinds": [{"kind": kind}]});
        json!({
            "packages": [package("root", "bin"), package("used", "lib"), package("derive", "proc-macro"),
                package("syn", "lib"), package("cc", "lib"), package("tests", "lib")],
            "resolve": {"nodes": [
                {"id": "root", "deps": [dep("used", None), dep("derive", None), dep("cc", Some("build")), dep("tests", Some("dev"))]},
                {"id": "used", "deps": []},
                {"id": "derive", "deps": [dep("syn", None)]},
                {"id": "syn", "deps": []}, {"id": "cc", "deps": []}, {"id": "tests", "deps": []},
            ]},
        })
    }

    #[test]
    fn only_what_is_in_the_program_is_listed() {
        let found = compiled_in(&metadata(), "root", &HashMap::new()).unwrap();
        let names: Vec<_> = found.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["root", "used"]);
        assert_eq!(found[1].licence, "MIT OR Apache-2.0");
    }

    #[test]
    fn checksums_are_those_of_the_lock_file() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.2.3\"\nchecksum = \"00ff\"\n\n[[package]]\nname = \"ours\"\nversion = \"0.1.0\"\n";
        assert_eq!(checksums(lock), HashMap::from([("a 1.2.3".to_owned(), "00ff".to_owned())]));
    }
}
