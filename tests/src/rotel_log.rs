//! Reads what `rotel --debug-log metrics --debug-log-verbosity detailed` prints: each metric of each request, with
//! Resource, unit and temporality as a receiver decoded them.

use std::collections::BTreeMap;

/// One metric of one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metric {
    pub resource: BTreeMap<String, String>,
    pub scope: String,
    pub name: String,
    pub unit: String,
    /// `Sum`, `Gauge`, `Histogram`, `ExponentialHistogram`.
    pub data_type: String,
    /// `CUMULATIVE` or `DELTA`; `None` for a gauge.
    pub temporality: Option<String>,
    pub points: Vec<Point>,
}

/// One data point.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Point {
    pub attributes: BTreeMap<String, String>,
    pub start_unix_nano: u64,
    /// The value of a number, the sum of a histogram.
    pub value: Option<f64>,
    /// Of a histogram.
    pub count: Option<u64>,
}

/// All metrics of a log, in the order of arrival.
pub fn parse(log: &str) -> Vec<Metric> {
    let mut metrics: Vec<Metric> = Vec::new();
    let mut resource = BTreeMap::new();
    let mut scope = String::new();
    let mut in_resource = false;
    for line in log.lines().map(str::trim) {
        if line.starts_with("ResourceMetrics #") {
            resource = BTreeMap::new();
        } else if line == "Resource attributes:" {
            in_resource = true;
        } else if line.starts_with("ScopeMetrics #") {
            in_resource = false;
        } else if let Some(name) = line.strip_prefix("InstrumentationScope ") {
            name.clone_into(&mut scope);
        } else if line.starts_with("Metric #") {
            metrics.push(Metric { resource: resource.clone(), scope: scope.clone(), ..Metric::default() });
        } else if in_resource {
            resource.extend(attribute(line));
        } else if let Some(metric) = metrics.last_mut() {
            metric_line(metric, line);
        }
    }
    metrics
}

fn metric_line(metric: &mut Metric, line: &str) {
    let (key, value) = line.split_once(':').map_or((line, ""), |(key, value)| (key.trim(), value.trim()));
    if key.contains("DataPoints #") {
        metric.points.push(Point::default());
        return;
    }
    if let Some(point) = metric.points.last_mut() {
        match key {
            "StartTimestamp" => point.start_unix_nano = value.parse().unwrap_or(0),
            "Value" | "Sum" => point.value = value.parse().ok(),
            "Count" => point.count = value.parse().ok(),
            _ => point.attributes.extend(attribute(line)),
        }
        return;
    }
    match key {
        "-> Name" => value.clone_into(&mut metric.name),
        "-> Unit" => value.clone_into(&mut metric.unit),
        "-> DataType" => value.clone_into(&mut metric.data_type),
        "-> AggregationTemporality" => {
            metric.temporality = value.strip_prefix("AGGREGATION_TEMPORALITY_").map(str::to_owned);
        }
        _ => {}
    }
}

/// `-> service.name: Str(shop-api)`
fn attribute(line: &str) -> Option<(String, String)> {
    let (key, value) = line.strip_prefix("-> ")?.split_once(": ")?;
    let value = value.split_once('(')?.1.strip_suffix(')')?;
    Some((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_log_is_read() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/rotel-detailed.log");
        let metrics = parse(&std::fs::read_to_string(path).unwrap());
        let summary: Vec<_> = metrics
            .iter()
            .map(|metric| {
                (
                    metric.name.as_str(),
                    metric.unit.as_str(),
                    metric.data_type.as_str(),
                    metric.temporality.as_deref(),
                )
            })
            .collect();
        let expected = [
            ("nodejs.eventloop.time", "s", "Sum", Some("CUMULATIVE")),
            ("v8js.gc.duration", "s", "Histogram", Some("CUMULATIVE")),
            ("nodejs.eventloop.utilization", "1", "Gauge", None),
            ("v8js.memory.heap.used", "By", "Sum", Some("CUMULATIVE")),
        ];
        assert_eq!(summary, expected);
        assert_eq!(metrics[0].resource["service.name"], "shop-api");
        assert_eq!(metrics[0].resource["process.pid"], "4711");
        assert_eq!(metrics[0].points[0].attributes["nodejs.eventloop.state"], "active");
        assert_eq!(metrics[0].points[0].value, Some(1.5));
        assert_eq!(metrics[0].points[0].start_unix_nano, 1_795_466_331_158_377_068);
        assert_eq!((metrics[1].points[0].count, metrics[1].points[0].value), (Some(1), Some(0.012)));
        assert_eq!(metrics[3].points[0].value, Some(12345.0));
    }
}
