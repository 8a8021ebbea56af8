//! kubectl of the cluster's own version.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::free_of_settings;

/// kubectl as one user.
#[derive(Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    /// Of a service account; `None`: the administrator.
    token: Option<String>,
}

impl Kubectl {
    pub(super) fn new(program: &Path, kubeconfig: &Path) -> Self {
        Self { program: program.to_owned(), kubeconfig: kubeconfig.to_owned(), token: None }
    }

    /// Of the administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The same as whom a token belongs to.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            program: self.program.clone(),
            kubeconfig: self.kubeconfig.clone(),
            token: Some(token.to_owned()),
        }
    }

    /// What a command prints.
    ///
    /// # Errors
    /// What it says against it.
    pub fn output(&self, arguments: &[&str]) -> Result<String, String> {
        self.fed("", arguments)
    }

    /// What a command prints.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        self.output(arguments).unwrap_or_else(|error| panic!("kubectl {}: {error}", arguments.join(" ")))
    }

    /// Objects, as JSON. `None` where the server has none or does not answer.
    pub fn get(&self, arguments: &[&str]) -> Option<Value> {
        let arguments: Vec<_> = ["get", "-o", "json"].iter().chain(arguments).copied().collect();
        serde_json::from_str(&self.output(&arguments).ok()?).ok()
    }

    /// Makes or changes an object.
    #[track_caller]
    pub fn apply(&self, object: &Value) {
        let result = self.fed(&object.to_string(), &["apply", "-f", "-"]);
        result.unwrap_or_else(|error| panic!("{object} cannot be applied: {error}"));
    }

    fn fed(&self, input: &str, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.program);
        if let Some(token) = &self.token {
            // In the file is the administrator's, which would win.
            command.args(["--kubeconfig=/dev/null", "--server=https://127.0.0.1:443", "--token", token]);
            command.arg("--certificate-authority").arg(self.kubeconfig.with_file_name("pki").join("ca.crt"));
        } else {
            command.arg("--kubeconfig").arg(&self.kubeconfig);
        }
        // What it knows of the server's kinds may be out of date a moment later.
        command.arg("--cache-dir").arg(self.kubeconfig.with_file_name("kubectl-cache"));
        command.args(["--request-timeout=20s"]).args(arguments);
        free_of_settings(&mut command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = command.spawn().map_err(|error| format!("{}: {error}", self.program.display()))?;
        let mut stdin = running.stdin.take().expect("it is a pipe");
        // One that fails early does not read it, and says why.
        drop(stdin.write_all(input.as_bytes()));
        drop(stdin);
        let output = running.wait_with_output().map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}
