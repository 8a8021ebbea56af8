use std::os::unix::ffi::OsStringExt as _;

use super::*;

fn with(variables: &[(&str, &str)]) -> Result<Resolved, ConfigError> {
    overridden(variables, &Overrides::default())
}

fn overridden(variables: &[(&str, &str)], overrides: &Overrides) -> Result<Resolved, ConfigError> {
    let lookup =
        |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
    resolve(&lookup, overrides, HostFacts { name: Some("node-7".to_owned()), ..HostFacts::default() })
}

/// The configuration, when nothing is to be complained about.
fn config(variables: &[(&str, &str)]) -> Config {
    let resolved = with(variables).unwrap();
    assert_eq!(resolved.warnings, Vec::<String>::new());
    resolved.config
}

/// The configuration and its one warning.
fn warned(variables: &[(&str, &str)]) -> (Config, String) {
    let mut resolved = with(variables).unwrap();
    assert_eq!(resolved.warnings.len(), 1, "{:?}", resolved.warnings);
    (resolved.config, resolved.warnings.remove(0))
}

#[test]
fn nothing_set_means_the_defaults_of_the_specification_and_15_s() {
    let config = config(&[]);
    assert!(config.otlp && !config.console);
    assert_eq!(config.metrics.protocol, Protocol::HttpProtobuf);
    assert_eq!(config.metrics.endpoint.as_str(), "http://localhost:4318/v1/metrics");
    assert_eq!(config.metrics.timeout, Duration::from_secs(10));
    assert_eq!(config.metrics.compression, Compression::None);
    assert_eq!(config.temporality, Temporality::Cumulative);
    assert_eq!(config.histograms, HistogramAggregation::ExplicitBucket);
    assert_eq!(config.interval, Duration::from_secs(15));
    assert_eq!(config.export_timeout, Duration::from_secs(15), "30 s, but never above the interval");
    assert_eq!(config.agent_service_name, "nodeprobe");
    assert_eq!(config.host.name.as_deref(), Some("node-7"));
    assert_eq!(config.metrics.headers, Headers::default());
}

#[test]
fn empty_values_are_unset_ones() {
    let config = config(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", " "),
        ("OTEL_METRIC_EXPORT_INTERVAL", ""),
        ("OTEL_METRICS_EXPORTER", ""),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", ""),
    ]);
    assert!(config.otlp);
    assert_eq!(config.metrics.endpoint.as_str(), "http://localhost:4318/v1/metrics");
    assert_eq!(config.metrics.certificate, None);
}

#[test]
fn the_general_endpoint_gets_the_path_and_the_one_for_metrics_does_not() {
    const GENERAL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const METRICS: &str = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";
    for (variables, expected) in [
        (vec![(GENERAL, "http://c:4318")], "http://c:4318/v1/metrics"),
        (vec![(GENERAL, "http://c:4318/")], "http://c:4318/v1/metrics"),
        (vec![(GENERAL, "https://c/otlp/")], "https://c/otlp/v1/metrics"),
        (vec![(METRICS, "http://c/my/path")], "http://c/my/path"),
        (vec![(METRICS, "http://c")], "http://c/"),
        (vec![(GENERAL, "http://general"), (METRICS, "http://metrics/x")], "http://metrics/x"),
    ] {
        assert_eq!(config(&variables).metrics.endpoint.as_str(), expected);
    }
}

#[test]
fn a_grpc_endpoint_keeps_its_path_and_may_lack_a_scheme() {
    const GRPC: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const INSECURE: &str = "OTEL_EXPORTER_OTLP_METRICS_INSECURE";
    let url = |variables: &[(&str, &str)]| config(variables).metrics.endpoint.to_string();
    assert_eq!(url(&[GRPC]), "http://localhost:4317/");
    assert_eq!(url(&[GRPC, (ENDPOINT, "c:4317")]), "https://c:4317/");
    assert_eq!(url(&[GRPC, (ENDPOINT, "c:4317"), (INSECURE, "true")]), "http://c:4317/");
    // The scheme goes before INSECURE.
    assert_eq!(url(&[GRPC, (ENDPOINT, "https://c:4317"), (INSECURE, "true")]), "https://c:4317/");
}

#[test]
fn a_malformed_endpoint_is_an_error_that_says_what_to_write() {
    for endpoint in ["collector:4318", "ftp://c", "http://", "http://[::1", "c"] {
        let error = with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]).unwrap_err().to_string();
        assert!(error.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT: "), "{error}");
        assert!(error.contains("http://localhost:4318"), "{error}");
    }
    let error = with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "httpx://me:secret@c")]).unwrap_err().to_string();
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn the_endpoint_is_shown_without_credentials() {
    let config = config(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://me:secret@c:4318/x?key=secret")]);
    assert_eq!(config.metrics.endpoint_shown(), "https://c:4318/x/v1/metrics");
    assert!(!format!("{config:?}").contains("secret"), "{config:?}");
}

#[test]
fn a_port_of_the_other_protocol_is_pointed_out() {
    let (_, warning) = warned(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317")]);
    assert!(warning.contains("OTEL_EXPORTER_OTLP_PROTOCOL=grpc"), "{warning}");
    let (_, warning) =
        warned(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
    assert!(warning.contains("http/protobuf"), "{warning}");
}

#[test]
fn flag_goes_before_metrics_variable_before_general_variable() {
    let general = ("OTEL_EXPORTER_OTLP_TIMEOUT", "3000");
    let metrics = ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "2000");
    let flag = Overrides { timeout_ms: Some("1000".to_owned()), ..Overrides::default() };
    assert_eq!(config(&[general]).metrics.timeout, Duration::from_secs(3));
    assert_eq!(config(&[general, metrics]).metrics.timeout, Duration::from_secs(2));
    let resolved = overridden(&[general, metrics], &flag).unwrap();
    assert_eq!(resolved.config.metrics.timeout, Duration::from_secs(1));

    let flag = Overrides { endpoint: Some("http://flag".to_owned()), ..Overrides::default() };
    let resolved = overridden(&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m/x")], &flag).unwrap();
    assert_eq!(resolved.config.metrics.endpoint.as_str(), "http://flag/v1/metrics");
}

#[test]
fn every_choice_is_understood() {
    let config = config(&[
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "LowMemory"),
        ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "BASE2_exponential_bucket_histogram"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "60000"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "2500"),
        ("OTEL_METRICS_EXPORTER", "otlp, console"),
        ("OTEL_SERVICE_NAME", "watcher"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,k8s.cluster.name=a%20b"),
    ]);
    assert!(config.otlp && config.console);
    assert_eq!(config.metrics.protocol, Protocol::Grpc);
    assert_eq!(config.metrics.compression, Compression::Gzip);
    assert_eq!(config.temporality, Temporality::LowMemory);
    assert_eq!(config.histograms, HistogramAggregation::Base2ExponentialBucket);
    assert_eq!(config.interval, Duration::from_mins(1));
    assert_eq!(config.export_timeout, Duration::from_millis(2500));
    assert_eq!(config.agent_service_name, "watcher");
    let attributes = BTreeMap::from([("k8s.cluster.name".to_owned(), "a b".to_owned())]);
    assert_eq!(config.agent_attributes, attributes);
}

#[test]
fn a_value_that_is_not_understood_is_named_with_what_is_used_instead() {
    for (name, value, used) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "`http/protobuf` is used instead"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "`10000` is used instead"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "-1", "`10000` is used instead"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "`none` is used instead"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "1", "`false` is used instead"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "both", "`cumulative` is used instead"),
        (
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "exponential",
            "`explicit_bucket_histogram` is used instead",
        ),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0", "`15000` is used instead"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "99999999999999999999999", "`15000` is used instead"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "soon", "`30000` is used instead"),
        ("OTEL_SDK_DISABLED", "yes", "`false` is used instead"),
    ] {
        let (config, warning) = warned(&[(name, value)]);
        assert!(warning.contains(name) && warning.contains(value), "{warning}");
        assert!(warning.contains(used), "{warning}");
        assert!(config.otlp);
        assert_eq!(config.metrics.endpoint.as_str(), "http://localhost:4318/v1/metrics");
    }
}

#[test]
fn a_bad_value_gives_way_to_the_next_source() {
    let (config, warning) = warned(&[
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "fast\u{1b}[31m"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "4000"),
    ]);
    assert_eq!(config.metrics.timeout, Duration::from_secs(4));
    assert!(warning.contains("`4000` is used instead") && !warning.contains('\u{1b}'), "{warning}");
}

#[test]
fn a_value_that_is_not_utf_8_is_ignored_with_a_warning() {
    let lookup = |name: &str| (name == "OTEL_SERVICE_NAME").then(|| OsString::from_vec(vec![b'a', 0xff]));
    let resolved = resolve(&lookup, &Overrides::default(), HostFacts::default()).unwrap();
    assert_eq!(resolved.config.agent_service_name, "nodeprobe");
    assert!(resolved.warnings[0].contains("OTEL_SERVICE_NAME"), "{:?}", resolved.warnings);
}

#[test]
fn headers_are_decoded_and_their_values_never_shown() {
    let config = config(&[("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Basic%20c2VjcmV0, x-scope = a=b ,")]);
    let expected = [("authorization", "Basic c2VjcmV0"), ("x-scope", "a=b")];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    assert_eq!(config.metrics.headers.0, expected);
    assert!(!format!("{config:?}").contains("c2VjcmV0"));
}

#[test]
fn a_header_that_cannot_be_sent_is_left_out_without_telling_its_value() {
    for bad in ["no-equals-s3cret", "bad key=s3cret", "key=s3cret%0d%0aX: y", "key=s3cret%ff"] {
        let list = format!("good=1,{bad}");
        let (config, warning) = warned(&[("OTEL_EXPORTER_OTLP_METRICS_HEADERS", &list)]);
        assert_eq!(config.metrics.headers.0, [("good".to_owned(), "1".to_owned())]);
        assert!(warning.contains("entry 2") && !warning.contains("s3cret"), "{warning}");
    }
}

#[test]
fn broken_resource_attributes_are_ignored_as_a_whole() {
    let (config, warning) = warned(&[("OTEL_RESOURCE_ATTRIBUTES", "host.name=a,nonsense")]);
    assert_eq!(config.agent_attributes, BTreeMap::new());
    assert!(warning.contains("OTEL_RESOURCE_ATTRIBUTES"), "{warning}");
}

#[test]
fn service_name_of_the_agent_may_come_from_its_resource_attributes() {
    assert_eq!(config(&[("OTEL_RESOURCE_ATTRIBUTES", "service.name=np")]).agent_service_name, "np");
}

#[test]
fn exporters_can_be_switched_off_and_unknown_ones_are_an_error() {
    let none = config(&[("OTEL_METRICS_EXPORTER", "none")]);
    assert!(!none.otlp && !none.console);
    let console = config(&[("OTEL_METRICS_EXPORTER", "console")]);
    assert!(!console.otlp && console.console);
    let disabled = config(&[("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_METRICS_EXPORTER", "console")]);
    assert!(!disabled.otlp && !disabled.console);
    for unknown in ["jaeger", "otlp,zipkin"] {
        let error = with(&[("OTEL_METRICS_EXPORTER", unknown)]).unwrap_err().to_string();
        assert!(error.contains("`otlp`, `console`, `prometheus` or `none`"), "{error}");
    }
    let logs = [("NODEPROBE_STALL_LOGS", "true"), ("OTEL_LOGS_EXPORTER", "prometheus")];
    let error = with(&logs).unwrap_err().to_string();
    assert!(error.contains("`otlp`, `console` or `none`"), "{error}");
    let flag = Overrides { exporter: Some("none".to_owned()), ..Overrides::default() };
    assert!(!overridden(&[("OTEL_METRICS_EXPORTER", "otlp")], &flag).unwrap().config.otlp);
}

#[test]
fn a_page_for_prometheus_is_an_exporter_at_the_address_of_the_specification() {
    let at = |more: &[(&str, &str)]| {
        let exporter = [("OTEL_METRICS_EXPORTER", "prometheus")];
        with(&[&exporter, more].concat()).unwrap()
    };
    let plain = at(&[]).config;
    assert_eq!(plain.prometheus.map(|address| address.to_string()).as_deref(), Some("127.0.0.1:9464"));
    assert!(!plain.otlp, "only what is listed");
    let all = [("OTEL_EXPORTER_PROMETHEUS_HOST", "0.0.0.0"), ("OTEL_EXPORTER_PROMETHEUS_PORT", "9999")];
    let address = at(&all).config.prometheus.map(|address| address.to_string());
    assert_eq!(address.as_deref(), Some("0.0.0.0:9999"));
    let named = at(&[("OTEL_EXPORTER_PROMETHEUS_HOST", "example.org")]);
    assert_eq!(named.config.prometheus, plain.prometheus);
    assert!(named.warnings[0].contains("an IP address or localhost"), "{:?}", named.warnings);
    let off = [("OTEL_METRICS_EXPORTER", "otlp,prometheus"), ("OTEL_SDK_DISABLED", "true")];
    assert_eq!(config(&off).prometheus, None);
    assert_eq!(config(&[("OTEL_EXPORTER_PROMETHEUS_PORT", "9999")]).prometheus, None, "off by default");
}

#[test]
fn certificates_remember_which_setting_named_them() {
    let config = config(&[
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
        ("OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", "/key.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/cert.pem"),
    ]);
    let from = |setting: Option<FileSetting>| setting.unwrap().from;
    assert_eq!(from(config.metrics.certificate), "OTEL_EXPORTER_OTLP_CERTIFICATE");
    assert_eq!(from(config.metrics.client_key), "OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY");
    assert_eq!(from(config.metrics.client_certificate), "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE");
}

#[test]
fn half_a_client_identity_is_an_error() {
    let error = with(&[("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key.pem")]).unwrap_err().to_string();
    assert!(error.contains("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE is not"), "{error}");
}

#[test]
fn stalls_are_logged_only_when_asked_for() {
    assert!(config(&[]).logs.is_none());
    // Where to alone is no request: a whole fleet has this variable.
    assert!(config(&[("OTEL_LOGS_EXPORTER", "otlp")]).logs.is_none());
    let logs = config(&[("NODEPROBE_STALL_LOGS", "true")]).logs.unwrap();
    assert!(!logs.console);
    assert_eq!(logs.otlp.unwrap().endpoint.as_str(), "http://localhost:4318/v1/logs");
    let flag = Overrides { stall_logs: Some("true".to_owned()), ..Overrides::default() };
    assert!(overridden(&[("NODEPROBE_STALL_LOGS", "false")], &flag).unwrap().config.logs.is_some());
    for off in [("OTEL_LOGS_EXPORTER", "none"), ("OTEL_SDK_DISABLED", "true")] {
        assert!(config(&[("NODEPROBE_STALL_LOGS", "true"), off]).logs.is_none(), "{off:?}");
    }
    let console =
        config(&[("NODEPROBE_STALL_LOGS", "true"), ("OTEL_LOGS_EXPORTER", "console")]).logs.unwrap();
    assert!(console.console && console.otlp.is_none());
}

#[test]
fn logs_have_variables_of_their_own() {
    let config = config(&[
        ("NODEPROBE_STALL_LOGS", "true"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://general:1"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://logs:2/as/it/is"),
        ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=1"),
    ]);
    let logs = config.logs.unwrap().otlp.unwrap();
    assert_eq!(config.metrics.endpoint.as_str(), "http://general:1/v1/metrics");
    assert_eq!(logs.endpoint.as_str(), "http://logs:2/as/it/is");
    assert_eq!((config.metrics.compression, logs.compression), (Compression::None, Compression::Gzip));
    assert_eq!(logs.headers.0, [("a".to_owned(), "1".to_owned())]);
}

#[test]
fn a_bad_general_variable_is_told_once() {
    let (_, warning) = warned(&[("NODEPROBE_STALL_LOGS", "true"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "smoke")]);
    assert!(warning.contains("smoke"), "{warning}");
}
