//! What a resource is described by: an observed process, and the agent itself.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use super::otlp::config::Config;
use crate::{
    identity::own_instance_id,
    model::{Identity, ProcessId},
};

/// Namespaces of the agent's own `OTEL_RESOURCE_ATTRIBUTES` that are as true of everything on its host. Not the
/// rest of `k8s.`: that is the agent's own pod.
const SHARED: [&str; 5] = ["host.", "cloud.", "deployment.", "k8s.cluster.", "k8s.node."];

/// In the words of the semantic conventions for `host.arch`.
const HOST_ARCH: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Whole(i64),
}

/// By key.
pub(crate) type ResourceAttributes = BTreeMap<String, Value>;

/// Attributes that every process of this host has.
#[derive(Clone, Debug, Default)]
pub(super) struct HostAttributes(BTreeMap<String, String>);

impl HostAttributes {
    pub(super) fn new(config: &Config) -> Self {
        let mut attributes: BTreeMap<_, _> = config
            .agent_attributes
            .iter()
            .filter(|(key, _)| SHARED.iter().any(|namespace| key.starts_with(namespace)))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let known = [
            ("host.name", config.host.name.as_deref()),
            ("host.id", config.host.id.as_deref()),
            ("host.arch", Some(HOST_ARCH)),
            ("os.type", Some("linux")),
            ("k8s.node.name", config.host.node.as_deref()),
        ];
        for (key, value) in known {
            if let Some(value) = value {
                attributes.entry(key.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
        Self(attributes)
    }

    /// Later layers win: host, then what the process says of itself, then what was measured.
    pub(super) fn of_process(
        &self,
        id: ProcessId,
        identity: &Identity,
        started: SystemTime,
    ) -> ResourceAttributes {
        let mut attributes = ResourceAttributes::new();
        for (key, value) in self.0.iter().chain(&identity.resource_attributes) {
            attributes.insert(key.clone(), Value::Text(value.clone()));
        }
        let executable_name = identity.executable_path.rsplit('/').next().unwrap_or_default();
        for (key, value) in [
            ("service.name", Some(identity.service_name.as_str())),
            ("service.namespace", identity.service_namespace.as_deref()),
            ("service.version", identity.service_version.as_deref()),
            ("service.instance.id", Some(identity.service_instance_id.as_str())),
            ("process.executable.name", Some(executable_name)),
            ("process.executable.path", Some(identity.executable_path.as_str())),
            ("process.runtime.name", Some("nodejs")),
            ("process.runtime.version", identity.node_version.as_deref()),
            ("container.id", identity.container_id.as_deref()),
            ("telemetry.sdk.name", Some(env!("CARGO_PKG_NAME"))),
            ("telemetry.sdk.language", Some("nodejs")),
            ("telemetry.sdk.version", Some(env!("CARGO_PKG_VERSION"))),
        ] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                attributes.insert(key.to_owned(), Value::Text(value.to_owned()));
            }
        }
        // Of a static pod the API has another uid, which is the one that others know; it is among the attributes.
        if let Some(uid) = &identity.pod_uid {
            attributes.entry("k8s.pod.uid".to_owned()).or_insert_with(|| Value::Text(uid.clone()));
        }
        let pids = [
            ("process.pid", Some(id.pid)),
            ("process.parent_pid", Some(identity.parent_pid).filter(|pid| *pid > 0)),
            ("process.vpid", identity.namespaced_pid),
        ];
        let pids = pids.into_iter().filter_map(|(key, pid)| Some((key.to_owned(), pid?)));
        attributes.extend(pids.map(|(key, pid)| (key, Value::Whole(i64::from(pid)))));
        attributes.insert("process.creation.time".to_owned(), Value::Text(iso_8601(started)));
        attributes
    }
}

/// The agent; the user's own attributes win.
pub(crate) fn of_agent(config: &Config) -> ResourceAttributes {
    let text = |key: &str, value: &str| (key.to_owned(), Value::Text(value.to_owned()));
    let mut attributes = ResourceAttributes::from([
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", &own_instance_id()),
        ("process.pid".to_owned(), Value::Whole(i64::from(std::process::id()))),
    ]);
    attributes.extend(config.host.name.as_deref().map(|name| text("host.name", name)));
    attributes.extend(config.host.node.as_deref().map(|node| text("k8s.node.name", node)));
    attributes.extend(config.agent_attributes.iter().map(|(key, value)| text(key, value)));
    attributes.extend([text("service.name", &config.agent_service_name)]);
    attributes
}

/// UTC with milliseconds, as the semantic conventions write `process.creation.time`.
fn iso_8601(time: SystemTime) -> String {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since_epoch.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = since_epoch.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Days since 1970 to the proleptic Gregorian calendar; `civil_from_days` of Howard Hinnant's "chrono-Compatible
/// Low-Level Date Algorithms", with years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn creation_time_is_iso_8601_in_utc() {
        // From `date -u -d @N +%FT%T.%3NZ`.
        for (seconds, expected) in [
            (0.0, "1970-01-01T00:00:00.000Z"),
            (951_782_400.25, "2000-02-29T00:00:00.250Z"),
            (1_735_689_599.999, "2024-12-31T23:59:59.999Z"),
            (4_107_542_400.0, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(iso_8601(UNIX_EPOCH + Duration::from_secs_f64(seconds)), expected);
        }
    }
}
