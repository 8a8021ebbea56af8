//! The Resource of an observed process.

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    resource::v1::Resource,
};

use crate::export::attributes::{ResourceAttributes, Value};

pub(super) fn resource(attributes: &ResourceAttributes) -> Resource {
    let attributes = attributes
        .iter()
        .map(|(key, value)| KeyValue {
            key: key.clone(),
            value: Some(AnyValue {
                value: Some(match value {
                    Value::Text(text) => Any::StringValue(text.clone()),
                    Value::Whole(number) => Any::IntValue(*number),
                }),
            }),
            ..KeyValue::default()
        })
        .collect();
    Resource { attributes, ..Resource::default() }
}
