//! The Helm chart, rendered by Helm's own engine, which a Python package brings along.

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::skip::skip;

/// The versions of Kubernetes that the chart is checked against.
pub const KUBERNETES: [&str; 11] =
    ["1.27", "1.28", "1.29", "1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37"];

/// What one set of values renders to.
pub struct Rendered(Value);

impl Rendered {
    /// Why Helm refused; `None` when it did not.
    pub fn error(&self) -> Option<&str> {
        self.0["error"].as_str()
    }

    /// What `helm lint --strict` and the schemas of Kubernetes have to say.
    pub fn complaints(&self) -> Vec<String> {
        let texts = |list: &Value| list.as_array().into_iter().flatten().map(Value::to_string).collect();
        let errors: Vec<String> = texts(&self.0["lint"]["errors"]);
        let invalid: Vec<String> = texts(&self.0["invalid"]);
        errors.into_iter().chain(invalid).chain(self.error().map(str::to_owned)).collect()
    }

    /// The text of each template that rendered to something.
    pub fn manifests(&self) -> Vec<(&str, &str)> {
        let all = self.0["manifests"].as_object().into_iter().flatten();
        let texts = all.map(|(path, text)| (path.as_str(), text.as_str().unwrap_or_default()));
        texts.filter(|(_, text)| !text.trim().is_empty()).collect()
    }

    pub fn documents(&self) -> impl Iterator<Item = &Value> {
        self.0["documents"].as_array().into_iter().flatten().map(|entry| &entry["document"])
    }

    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.documents().filter(move |document| document["kind"] == kind)
    }

    /// The only object of this kind.
    #[track_caller]
    pub fn only(&self, kind: &str) -> &Value {
        let found: Vec<_> = self.documents().filter(|document| document["kind"] == kind).collect();
        assert_eq!(found.len(), 1, "{kind}: {found:?}");
        found[0]
    }

    pub fn kinds(&self) -> Vec<&str> {
        self.documents().filter_map(|document| document["kind"].as_str()).collect()
    }

    pub fn pod(&self) -> &Value {
        &self.only("DaemonSet")["spec"]["template"]
    }

    pub fn container(&self) -> &Value {
        &self.pod()["spec"]["containers"][0]
    }

    /// An environment variable of the container that is given as text.
    pub fn env(&self, name: &str) -> Option<&str> {
        let all = self.container()["env"].as_array()?;
        all.iter().find(|variable| variable["name"] == name)?["value"].as_str()
    }
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the repository")
}

pub fn directory() -> PathBuf {
    repository().join("helm/nodeprobe")
}

/// A copy of the chart with other dashboards and rules, each a name and a text.
pub fn copy_with(to: &Path, dashboards: &[(&str, &str)], rules: &[(&str, &str)]) {
    copy(&directory(), to);
    for (name, files) in [("dashboards", dashboards), ("rules", rules)] {
        let into = to.join(name);
        drop(fs::remove_dir_all(&into));
        fs::create_dir_all(&into).expect("the copy can be written");
        for (file, text) in files {
            fs::write(into.join(file), text).expect("the copy can be written");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the copy can be written");
    for entry in fs::read_dir(from).expect("the chart can be read").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("the copy can be written");
        }
    }
}

/// Renders a chart with each of `values`. `None`, and the test reported as skipped, where there is no Helm.
pub fn render(chart: &Path, kube_version: &str, validate: bool, values: &[Value]) -> Option<Vec<Rendered>> {
    let Some(python) = env::var_os("NODEPROBE_TEST_HELM_PYTHON") else {
        skip("NODEPROBE_TEST_HELM_PYTHON is not set: no Python environment with Helm");
        return None;
    };
    let versions: &[&str] = if validate { &KUBERNETES } else { &[] };
    let requests: Vec<_> = values
        .iter()
        .map(
            |values| json!({"chart": chart, "values": values, "kube_version": kube_version, "validate": versions}),
        )
        .collect();
    let mut running = Command::new(python)
        .arg(repository().join("tests/chart/render.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the Python of the environment starts");
    let mut stdin = running.stdin.take().expect("it is a pipe");
    stdin.write_all(Value::from(requests).to_string().as_bytes()).expect("the script reads its requests");
    drop(stdin);
    let output = running.wait_with_output().expect("the script ends");
    assert!(output.status.success(), "render.py: {}", output.status);
    let answers: Vec<Value> = serde_json::from_slice(&output.stdout).expect("render.py writes JSON");
    Some(answers.into_iter().map(Rendered).collect())
}
