//! Which exporters there are to be: `OTEL_METRICS_EXPORTER`, `OTEL_LOGS_EXPORTER`, and where the one for Prometheus
//! listens.

use std::net::{Ipv4Addr, SocketAddr};

use super::{
    ConfigError,
    values::{self, Flag, Reader},
};
use crate::export::prometheus::listen;

/// What there is for a signal, and how to say so.
pub(super) struct Known {
    names: &'static [&'static str],
    shown: &'static str,
}

pub(super) const OF_METRICS: Known = Known {
    names: &["otlp", "console", "prometheus", "none"],
    shown: "`otlp`, `console`, `prometheus` or `none`",
};
pub(super) const OF_LOGS: Known =
    Known { names: &["otlp", "console", "none"], shown: "`otlp`, `console` or `none`" };

pub(super) struct Exporters {
    pub(super) otlp: bool,
    pub(super) console: bool,
    pub(super) prometheus: bool,
}

/// `OTEL_METRICS_EXPORTER` or the like.
pub(super) fn resolve(
    reader: &mut Reader<'_>,
    flag: Flag<'_>,
    variable: &'static str,
    known: &Known,
) -> Result<Exporters, ConfigError> {
    let Some((from, list)) = reader.first(flag, &[variable]) else {
        return Ok(Exporters { otlp: true, console: false, prometheus: false });
    };
    let names: Vec<&str> = list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if let Some(other) = names.iter().find(|name| !known.names.contains(name)) {
        return Err(ConfigError::Exporter { from, value: values::shown(other), known: known.shown });
    }
    let has = |name| names.contains(&name);
    Ok(Exporters { otlp: has("otlp"), console: has("console"), prometheus: has("prometheus") })
}

/// `OTEL_EXPORTER_PROMETHEUS_HOST` and `..._PORT`.
pub(super) fn prometheus_address(reader: &mut Reader<'_>) -> SocketAddr {
    let host = reader.value(
        Flag("", None),
        &["OTEL_EXPORTER_PROMETHEUS_HOST"],
        |text| listen::host(text).ok_or("an IP address or localhost"),
        Ipv4Addr::LOCALHOST,
        "localhost",
    );
    let port = reader.value(
        Flag("", None),
        &["OTEL_EXPORTER_PROMETHEUS_PORT"],
        |text| text.parse().ok().ok_or("a port"),
        listen::DEFAULT_PORT,
        "9464",
    );
    SocketAddr::new(host, port)
}
