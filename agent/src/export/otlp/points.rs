//! Values to OTLP metrics, one function per instrument of the catalogue.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nodeprobe_ebpf::histogram::{FIRST_INDEX, SCALE};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    metrics::v1::{
        AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge,
        Histogram as OtlpHistogram, HistogramDataPoint, Metric as OtlpMetric, NumberDataPoint, Sum,
        exponential_histogram_data_point::Buckets, metric::Data, number_data_point::Value as Number,
    },
};

use super::config::HistogramAggregation;
use crate::model::{
    Histogram,
    catalog::{Attribute, Instrument, Metric},
    histogram::bucket_lower_s,
};

/// Attributes of one point; values are the catalogue's closed sets.
pub(super) type Attributes = Vec<(Attribute, &'static str)>;

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

fn key_values(attributes: &[(Attribute, &'static str)]) -> Vec<KeyValue> {
    attributes
        .iter()
        .map(|(attribute, value)| KeyValue {
            key: attribute.key.to_owned(),
            value: Some(AnyValue { value: Some(Value::StringValue((*value).to_owned())) }),
            ..KeyValue::default()
        })
        .collect()
}

pub(super) fn seconds(duration_ns: u64) -> Number {
    Number::AsDouble(duration_ns as f64 / 1e9)
}

/// Bytes, retries: what is counted in whole numbers.
pub(super) fn whole(value: u64) -> Number {
    Number::AsInt(i64::try_from(value).unwrap_or(i64::MAX))
}

pub(super) fn ratio(value: f64) -> Number {
    Number::AsDouble(value)
}

pub(super) fn since(earlier: SystemTime, later: SystemTime) -> Number {
    Number::AsDouble(later.duration_since(earlier).unwrap_or(Duration::ZERO).as_secs_f64())
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

/// A counter, up-down counter or gauge; `None` without points.
pub(super) fn numbers(
    of: &Metric,
    span: Span,
    points: impl IntoIterator<Item = (Attributes, Number)>,
) -> Option<OtlpMetric> {
    let (start, end) = span.nanos();
    // The temporality preference leaves up-down counters cumulative; a gauge has no start.
    let data_points: Vec<_> = points
        .into_iter()
        .map(|(attributes, value)| NumberDataPoint {
            attributes: key_values(&attributes),
            start_time_unix_nano: if of.instrument == Instrument::Gauge { 0 } else { start },
            time_unix_nano: end,
            value: Some(value),
            ..NumberDataPoint::default()
        })
        .collect();
    if data_points.is_empty() {
        return None;
    }
    let data = match of.instrument {
        Instrument::Gauge => Data::Gauge(Gauge { data_points }),
        _ => Data::Sum(Sum {
            data_points,
            aggregation_temporality: span.temporality(),
            is_monotonic: of.instrument == Instrument::Counter,
        }),
    };
    Some(metric(of, data))
}

/// A histogram in the shape the user asked for; `None` without points.
pub(super) fn histograms<'a>(
    of: &Metric,
    shape: HistogramAggregation,
    span: Span,
    points: impl IntoIterator<Item = (Attributes, &'a Histogram)>,
) -> Option<OtlpMetric> {
    let points = points.into_iter();
    let data = match shape {
        HistogramAggregation::ExplicitBucket => {
            let data_points: Vec<_> = points.map(|(a, h)| explicit(of, &a, h, span)).collect();
            if data_points.is_empty() {
                return None;
            }
            Data::Histogram(OtlpHistogram { data_points, aggregation_temporality: span.temporality() })
        }
        HistogramAggregation::Base2ExponentialBucket => {
            let data_points: Vec<_> = points.map(|(a, h)| exponential(&a, h, span)).collect();
            if data_points.is_empty() {
                return None;
            }
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points,
                aggregation_temporality: span.temporality(),
            })
        }
    };
    Some(metric(of, data))
}

/// A maximum belongs to an interval, so cumulative points have none; a minimum is not recorded.
fn max(histogram: &Histogram, span: Span) -> Option<f64> {
    histogram.interval_max_ns.filter(|_| span.delta && histogram.count > 0).map(|ns| ns as f64 / 1e9)
}

fn explicit(
    of: &Metric,
    attributes: &[(Attribute, &'static str)],
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
    attributes: &[(Attribute, &'static str)],
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
