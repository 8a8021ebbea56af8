//! Values to OTLP metrics, one function per instrument of the catalogue.

use std::time::{SystemTime, UNIX_EPOCH};

use nodeprobe_ebpf::histogram::{FIRST_INDEX, SCALE};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    metrics::v1::{
        AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge,
        Histogram as OtlpHistogram, HistogramDataPoint, Metric as OtlpMetric, NumberDataPoint, Sum,
        exponential_histogram_data_point::Buckets, metric::Data, number_data_point::Value,
    },
};

use super::config::HistogramAggregation;
use crate::{
    export::families::{Attributes, Number},
    model::{
        Histogram,
        catalog::{Attribute, Instrument, Metric, OVERFLOW},
        histogram::bucket_lower_s,
    },
};

/// The time a point covers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: SystemTime,
    pub(super) end: SystemTime,
    pub(super) delta: bool,
}

impl Span {
    /// A clock that was set back must not put the end before the start: collectors refuse such points.
    fn nanos(self) -> (u64, u64) {
        let end = unix_nanos(self.end);
        (unix_nanos(self.start).min(end), end)
    }

    fn temporality(self) -> i32 {
        let temporality =
            if self.delta { AggregationTemporality::Delta } else { AggregationTemporality::Cumulative };
        temporality as i32
    }
}

fn unix_nanos(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

fn key_values(attributes: &[(Attribute, &str)]) -> Vec<KeyValue> {
    attributes
        .iter()
        .map(|(attribute, value)| KeyValue {
            key: attribute.key.to_owned(),
            value: Some(AnyValue { value: Some(any(*attribute, value)) }),
            ..KeyValue::default()
        })
        .collect()
}

fn any(attribute: Attribute, value: &str) -> Any {
    // The one that is no text.
    if attribute == OVERFLOW { Any::BoolValue(true) } else { Any::StringValue(value.to_owned()) }
}

fn value(number: Number) -> Value {
    match number {
        Number::Whole(value) => Value::AsInt(i64::try_from(value).unwrap_or(i64::MAX)),
        Number::Real(value) => Value::AsDouble(value),
    }
}

fn metric(metric: &Metric, data: Data) -> OtlpMetric {
    OtlpMetric {
        name: metric.name.to_owned(),
        description: metric.description.to_owned(),
        unit: metric.unit.to_owned(),
        data: Some(data),
        ..OtlpMetric::default()
    }
}

/// A counter, up-down counter or gauge.
pub(super) fn numbers(of: &Metric, span: Span, points: &[(Attributes<'_>, Number)]) -> OtlpMetric {
    let (start, end) = span.nanos();
    // The temporality preference leaves up-down counters cumulative; a gauge has no start.
    let data_points = points
        .iter()
        .map(|(attributes, number)| NumberDataPoint {
            attributes: key_values(attributes),
            start_time_unix_nano: if of.instrument == Instrument::Gauge { 0 } else { start },
            time_unix_nano: end,
            value: Some(value(*number)),
            ..NumberDataPoint::default()
        })
        .collect();
    let data = match of.instrument {
        Instrument::Gauge => Data::Gauge(Gauge { data_points }),
        _ => Data::Sum(Sum {
            data_points,
            aggregation_temporality: span.temporality(),
            is_monotonic: of.instrument == Instrument::Counter,
        }),
    };
    metric(of, data)
}

/// A histogram in the shape the user asked for.
pub(super) fn histograms(
    of: &Metric,
    shape: HistogramAggregation,
    span: Span,
    points: &[(Attributes<'_>, &Histogram)],
) -> OtlpMetric {
    let aggregation_temporality = span.temporality();
    let data = match shape {
        HistogramAggregation::ExplicitBucket => Data::Histogram(OtlpHistogram {
            data_points: points.iter().map(|(a, h)| explicit(of, a, h, span)).collect(),
            aggregation_temporality,
        }),
        HistogramAggregation::Base2ExponentialBucket => Data::ExponentialHistogram(ExponentialHistogram {
            data_points: points.iter().map(|(a, h)| exponential(a, h, span)).collect(),
            aggregation_temporality,
        }),
    };
    metric(of, data)
}

/// A maximum belongs to an interval, so cumulative points have none; a minimum is not recorded.
fn max(histogram: &Histogram, span: Span) -> Option<f64> {
    histogram.interval_max_ns.filter(|_| span.delta && histogram.count > 0).map(|ns| ns as f64 / 1e9)
}

fn explicit(
    of: &Metric,
    attributes: &[(Attribute, &str)],
    histogram: &Histogram,
    span: Span,
) -> HistogramDataPoint {
    let (start, end) = span.nanos();
    let bucket_counts = histogram.explicit[..=of.bounds_ns.len()].to_vec();
    HistogramDataPoint {
        attributes: key_values(attributes),
        start_time_unix_nano: start,
        time_unix_nano: end,
        // OTLP demands that the count is the sum of the buckets, and the kernel fills both at once.
        count: bucket_counts.iter().sum(),
        sum: Some(histogram.sum_ns as f64 / 1e9),
        bucket_counts,
        explicit_bounds: of.bounds_ns.iter().map(|ns| *ns as f64 / 1e9).collect(),
        max: max(histogram, span),
        ..HistogramDataPoint::default()
    }
}

/// Slot 0 also holds everything shorter than its lower bound, which is what OTLP's zero bucket is for.
#[expect(clippy::cast_possible_wrap, reason = "a slot is below EXPONENTIAL_LEN, a few hundred")]
fn exponential(
    attributes: &[(Attribute, &str)],
    histogram: &Histogram,
    span: Span,
) -> ExponentialHistogramDataPoint {
    let (start, end) = span.nanos();
    let slots = &histogram.exponential;
    let used = |slot: &usize| slots[*slot] > 0;
    let first = (1..slots.len()).find(used);
    let last = (1..slots.len()).rev().find(used);
    let positive = match (first, last) {
        (Some(first), Some(last)) => {
            Buckets { offset: first as i32 + FIRST_INDEX, bucket_counts: slots[first..=last].to_vec() }
        }
        _ => Buckets::default(),
    };
    ExponentialHistogramDataPoint {
        attributes: key_values(attributes),
        start_time_unix_nano: start,
        time_unix_nano: end,
        count: slots.iter().sum(),
        sum: Some(histogram.sum_ns as f64 / 1e9),
        scale: SCALE,
        zero_count: slots[0],
        zero_threshold: bucket_lower_s(1),
        positive: Some(positive),
        max: max(histogram, span),
        ..ExponentialHistogramDataPoint::default()
    }
}
