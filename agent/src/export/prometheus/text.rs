//! Families as text: Prometheus' format 0.0.4 and `OpenMetrics` 1.0.0.
//!
//! A family is written once, with the series of every process, so what is added is gathered by metric first.
//! Architecture invariant: pure; names, units, types and texts come from the catalogue.

use std::fmt::Write as _;

use super::{
    accept::Format,
    labels::{escape, label_name, push_label},
};
use crate::{
    export::families::{Attributes, Family, Number, Points},
    model::{
        Histogram,
        catalog::{ALL, Instrument, Metric},
    },
};

/// A page as it is put together.
pub(super) struct Exposition {
    format: Format,
    info: String,
    /// Samples by place of their metric in the catalogue.
    samples: Vec<String>,
}

impl Exposition {
    pub(super) fn new(format: Format) -> Self {
        Self { format, info: String::new(), samples: vec![String::new(); ALL.len()] }
    }

    /// Adds `target_info` of a resource.
    pub(super) fn add_info(&mut self, labels: &str) {
        push_sample(&mut self.info, "target_info", labels, "1");
    }

    /// Adds what is known of the resource with these labels.
    pub(super) fn add(&mut self, labels: &str, families: &[Family<'_>]) {
        for Family { metric, points, .. } in families {
            let place = ALL.iter().position(|known| known.name == metric.name);
            let samples = place.and_then(|place| self.samples.get_mut(place));
            let samples = samples.expect("every metric is in the catalogue");
            let name = metric.prometheus_name();
            match points {
                Points::Numbers(points) => {
                    for (attributes, number) in points {
                        push_sample(samples, &name, &with(labels, attributes), &shown(*number));
                    }
                }
                Points::Histograms(points) => {
                    for (attributes, histogram) in points {
                        let labels = with(labels, attributes);
                        push_histogram(samples, self.format, metric, &name, &labels, histogram);
                    }
                }
            }
        }
    }

    pub(super) fn finish(self) -> String {
        let Self { format, info, samples } = self;
        let size = info.len() + samples.iter().map(|samples| samples.len() + 512).sum::<usize>();
        let mut text = String::with_capacity(size);
        if !info.is_empty() {
            // `OpenMetrics` has a type for this, whose samples end in `_info`.
            let (name, kind) = match format {
                Format::Text => ("target_info", "gauge"),
                Format::OpenMetrics => ("target", "info"),
            };
            push_head(&mut text, format, name, kind, None, "Target metadata");
            text.push_str(&info);
        }
        for (metric, samples) in ALL.iter().zip(&samples).filter(|(_, samples)| !samples.is_empty()) {
            let name = metric.prometheus_name();
            let name = match format {
                Format::OpenMetrics => name.strip_suffix("_total").unwrap_or(&name),
                Format::Text => &name,
            };
            let kind = match metric.instrument {
                Instrument::Counter => "counter",
                Instrument::UpDownCounter | Instrument::Gauge => "gauge",
                Instrument::Histogram => "histogram",
            };
            push_head(&mut text, format, name, kind, unit(metric), metric.description);
            text.push_str(samples);
        }
        if format == Format::OpenMetrics {
            text.push_str("# EOF\n");
        }
        text
    }
}

/// The unit in the name, which is the only one that `OpenMetrics` lets a family have.
fn unit(metric: &Metric) -> Option<&'static str> {
    match (metric.unit, metric.instrument) {
        ("s", _) => Some("seconds"),
        ("By", _) => Some("bytes"),
        ("1", Instrument::Gauge) => Some("ratio"),
        _ => None,
    }
}

fn push_head(
    text: &mut String,
    format: Format,
    name: &str,
    kind: &str,
    unit: Option<&str>,
    description: &str,
) {
    push(text, format_args!("# HELP {name} "));
    escape(text, description, format == Format::OpenMetrics);
    push(text, format_args!("\n# TYPE {name} {kind}\n"));
    if let (Format::OpenMetrics, Some(unit)) = (format, unit) {
        push(text, format_args!("# UNIT {name} {unit}\n"));
    }
}

fn push_histogram(
    text: &mut String,
    format: Format,
    metric: &Metric,
    name: &str,
    labels: &str,
    histogram: &Histogram,
) {
    let bucket = format!("{name}_bucket");
    let mut count = 0;
    let bounds = metric.bounds_ns.iter().map(|ns| bound(format, *ns as f64 / 1e9));
    // There is a slot behind the last bound.
    for (le, slot) in bounds.chain(["+Inf".to_owned()]).zip(&histogram.explicit) {
        count += slot;
        let mut labels = labels.to_owned();
        push_label(&mut labels, "le", &le);
        push_sample(text, &bucket, &labels, &count.to_string());
    }
    let sum = shown(Number::Real(histogram.sum_ns as f64 / 1e9));
    push_sample(text, &format!("{name}_sum"), labels, &sum);
    // Of the buckets, as in OTLP: the kernel fills both at once.
    push_sample(text, &format!("{name}_count"), labels, &count.to_string());
}

/// `OpenMetrics` demands that a bound looks like a float.
fn bound(format: Format, seconds: f64) -> String {
    match format {
        Format::OpenMetrics if seconds.fract() == 0.0 => format!("{seconds}.0"),
        _ => seconds.to_string(),
    }
}

fn shown(number: Number) -> String {
    match number {
        Number::Whole(value) => value.to_string(),
        Number::Real(value) => value.to_string(),
    }
}

fn with(labels: &str, attributes: &Attributes<'_>) -> String {
    let mut labels = labels.to_owned();
    for (attribute, value) in attributes {
        push_label(&mut labels, &label_name(attribute.key), value);
    }
    labels
}

fn push_sample(text: &mut String, name: &str, labels: &str, value: &str) {
    if labels.is_empty() {
        push(text, format_args!("{name} {value}\n"));
    } else {
        push(text, format_args!("{name}{{{labels}}} {value}\n"));
    }
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests;
