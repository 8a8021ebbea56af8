//! `OTEL_METRICS_EXPORTER=console` and `OTEL_LOGS_EXPORTER=console`: every data point and record on a line of stdout, for
//! people.

use std::io::Write as _;

use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest},
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{
        ExponentialHistogramDataPoint, HistogramDataPoint, NumberDataPoint, metric::Data,
        number_data_point::Value as Number,
    },
};

/// Prints; a stdout that is closed is nobody's loss.
pub(super) fn print(request: &ExportMetricsServiceRequest) {
    write(&text(request));
}

/// The same for log records.
pub(super) fn print_logs(request: &ExportLogsServiceRequest) {
    let mut lines = Vec::new();
    for resource_logs in &request.resource_logs {
        let attributes = resource_logs.resource.as_ref().map(|resource| shown(&resource.attributes));
        lines.push(format!("resource{}\n", attributes.unwrap_or_default()));
        for record in resource_logs.scope_logs.iter().flat_map(|scope| &scope.log_records) {
            let body = match record.body.as_ref().and_then(|body| body.value.as_ref()) {
                Some(Value::StringValue(text)) => super::error::excerpt(text, 1000),
                _ => String::new(),
            };
            lines.push(format!("  {}{} {body}\n", record.event_name, shown(&record.attributes)));
        }
    }
    write(&lines.concat());
}

fn write(text: &str) {
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        tracing::debug!(%error, "the console exporter cannot write");
    }
}

fn text(request: &ExportMetricsServiceRequest) -> String {
    let mut lines = Vec::new();
    for resource_metrics in &request.resource_metrics {
        let attributes = resource_metrics.resource.as_ref().map(|resource| shown(&resource.attributes));
        lines.push(format!("resource{}\n", attributes.unwrap_or_default()));
        for metric in resource_metrics.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            for point in metric.data.iter().flat_map(points) {
                lines.push(format!("  {}{point} {}\n", metric.name, metric.unit));
            }
        }
    }
    lines.concat()
}

fn points(data: &Data) -> Vec<String> {
    match data {
        Data::Gauge(gauge) => gauge.data_points.iter().map(number).collect(),
        Data::Sum(sum) => sum.data_points.iter().map(number).collect(),
        Data::Histogram(histogram) => histogram
            .data_points
            .iter()
            .map(|HistogramDataPoint { attributes, count, sum, .. }| {
                format!("{} count={count} sum={}", shown(attributes), sum.unwrap_or_default())
            })
            .collect(),
        Data::ExponentialHistogram(histogram) => histogram
            .data_points
            .iter()
            .map(|ExponentialHistogramDataPoint { attributes, count, sum, .. }| {
                format!("{} count={count} sum={}", shown(attributes), sum.unwrap_or_default())
            })
            .collect(),
        Data::Summary(_) => Vec::new(),
    }
}

fn number(point: &NumberDataPoint) -> String {
    let value = match point.value {
        Some(Number::AsInt(value)) => value.to_string(),
        Some(Number::AsDouble(value)) => value.to_string(),
        None => "-".to_owned(),
    };
    format!("{} {value}", shown(&point.attributes))
}

fn shown(attributes: &[KeyValue]) -> String {
    let pairs: Vec<String> = attributes
        .iter()
        .map(|attribute| {
            let value = match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
                Some(Value::StringValue(text)) => super::error::excerpt(text, 200),
                Some(Value::IntValue(value)) => value.to_string(),
                Some(Value::DoubleValue(value)) => value.to_string(),
                Some(Value::BoolValue(value)) => value.to_string(),
                other => format!("{other:?}"),
            };
            format!("{}={value}", attribute.key)
        })
        .collect();
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(", ")) }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{
        common::v1::AnyValue,
        metrics::v1::{Metric, ResourceMetrics, ScopeMetrics, Sum},
        resource::v1::Resource,
    };

    use super::*;

    #[test]
    fn a_point_is_a_line_without_escape_codes() {
        let service = KeyValue {
            key: "service.name".to_owned(),
            value: Some(AnyValue { value: Some(Value::StringValue("sh\u{1b}[2Jop".to_owned())) }),
            ..KeyValue::default()
        };
        let point = NumberDataPoint { value: Some(Number::AsInt(7)), ..NumberDataPoint::default() };
        let metric = Metric {
            name: "nodeprobe.stdio.io".to_owned(),
            unit: "By".to_owned(),
            data: Some(Data::Sum(Sum { data_points: vec![point], ..Sum::default() })),
            ..Metric::default()
        };
        let request = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(Resource { attributes: vec![service], ..Resource::default() }),
                scope_metrics: vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }],
                ..ResourceMetrics::default()
            }],
        };
        assert_eq!(text(&request), "resource{service.name=sh [2Jop}\n  nodeprobe.stdio.io 7 By\n");
    }
}
