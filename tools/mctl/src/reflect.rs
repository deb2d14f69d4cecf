//! The contract's messages as JSON, by the descriptors that it is compiled with: no second schema to keep in step.

use prost::Message;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind,
    MessageDescriptor, SerializeOptions,
};
use serde_json::Value;

/// The descriptor of `mediad.v1.NAME`.
fn descriptor(name: &str) -> MessageDescriptor {
    let pool = DescriptorPool::decode(proto::DESCRIPTORS).expect("proto embeds valid descriptors");
    pool.get_message_by_name(&format!("mediad.v1.{name}"))
        .expect("the caller names a message of the contract")
}

/// A message as JSON with the field names of the contract; what has its default value is left out.
pub(crate) fn to_json(name: &str, message: &impl Message) -> Value {
    let mut dynamic = DynamicMessage::new(descriptor(name));
    dynamic
        .transcode_from(message)
        .expect("both are the same message");
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(false);
    dynamic
        .serialize_with_options(serde_json::value::Serializer, &options)
        .expect("every message is valid JSON")
}

/// A message from what a person wrote. Enum values may be short and in lower case: `pcmu` for `CODEC_PCMU`.
///
/// # Errors
/// Names the place, what stands there and what may stand there.
pub(crate) fn from_value<M: Message + Default>(name: &str, mut value: Value) -> Result<M, String> {
    let descriptor = descriptor(name);
    spell_out(&descriptor, &mut value, "")?;
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let dynamic =
        DynamicMessage::deserialize_with_options(descriptor, value, &options).map_err(|e| e.to_string())?;
    dynamic.transcode_to().map_err(|error| error.to_string())
}

/// Checks field names and writes enum values in full, from the outside in.
fn spell_out(descriptor: &MessageDescriptor, value: &mut Value, place: &str) -> Result<(), String> {
    let Value::Object(fields) = value else {
        return Err(format!("{}: expected fields, found {value}", root(place)));
    };
    for (name, value) in fields.iter_mut() {
        let at = if place.is_empty() {
            name.clone()
        } else {
            format!("{place}.{name}")
        };
        let field = descriptor.get_field_by_name(name).ok_or_else(|| {
            let known: Vec<String> = descriptor.fields().map(|field| field.name().to_owned()).collect();
            format!(
                "{at}: no such field; {} has {}",
                descriptor.name(),
                known.join(", ")
            )
        })?;
        spell_out_field(&field, value, &at)?;
    }
    Ok(())
}

fn spell_out_field(field: &FieldDescriptor, value: &mut Value, place: &str) -> Result<(), String> {
    if field.is_map() {
        return spell_out_map(field, value, place);
    }
    if !field.is_list() {
        return spell_out_one(field, value, place);
    }
    let Value::Array(items) = value else {
        return Err(format!("{place}: expected a list, found {value}"));
    };
    items
        .iter_mut()
        .enumerate()
        .try_for_each(|(index, item)| spell_out_one(field, item, &format!("{place}[{index}]")))
}

fn spell_out_map(field: &FieldDescriptor, value: &mut Value, place: &str) -> Result<(), String> {
    let Kind::Message(entry) = field.kind() else {
        return Ok(());
    };
    let Value::Object(items) = value else {
        return Err(format!("{place}: expected names with values, found {value}"));
    };
    items.iter_mut().try_for_each(|(name, item)| {
        spell_out_one(&entry.map_entry_value_field(), item, &format!("{place}.{name}"))
    })
}

fn spell_out_one(field: &FieldDescriptor, value: &mut Value, place: &str) -> Result<(), String> {
    match field.kind() {
        Kind::Message(message) => {
            // `room:` alone in YAML is a room with its defaults.
            if value.is_null() {
                *value = Value::Object(serde_json::Map::new());
            }
            spell_out(&message, value, place)
        }
        Kind::Enum(descriptor) => spell_out_enum(&descriptor, value, place),
        _ if value.is_null() => Ok(()),
        kind => check_scalar(&kind, value, place),
    }
}

/// What the mapping of protobuf to JSON takes for a scalar; a number may be written as text, too.
fn check_scalar(kind: &Kind, value: &Value, place: &str) -> Result<(), String> {
    let number = |text: &Value| match text {
        Value::String(text) => serde_json::from_str::<Value>(text).unwrap_or(Value::Null),
        other => other.clone(),
    };
    let (fits, expected) = match kind {
        Kind::Bool => (value.is_boolean(), "true or false"),
        Kind::String => (
            value.is_string(),
            "text (in YAML in quotes, if it looks like a number)",
        ),
        Kind::Bytes => (value.is_string(), "bytes in base64"),
        Kind::Double | Kind::Float => (number(value).is_number(), "a number"),
        Kind::Uint32 | Kind::Fixed32 => {
            let fits = number(value).as_u64().is_some_and(|n| u32::try_from(n).is_ok());
            (fits, "a whole number from 0 to 4294967295")
        }
        Kind::Uint64 | Kind::Fixed64 => (number(value).is_u64(), "a whole number, not negative"),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            let fits = number(value).as_i64().is_some_and(|n| i32::try_from(n).is_ok());
            (fits, "a whole number from -2147483648 to 2147483647")
        }
        _ => (number(value).is_i64(), "a whole number"),
    };
    match fits {
        true => Ok(()),
        false => Err(format!("{place}: expected {expected}, found {value}")),
    }
}

fn spell_out_enum(descriptor: &EnumDescriptor, value: &mut Value, place: &str) -> Result<(), String> {
    let Value::String(given) = value else {
        return check_scalar(&Kind::Int32, value, place);
    };
    let prefix = prefix(descriptor);
    let wanted = given.to_ascii_uppercase().replace('-', "_");
    let full = format!("{prefix}{wanted}");
    let found = descriptor
        .values()
        .find(|known| known.name() == full || known.name() == wanted);
    let known = || {
        let short = descriptor
            .values()
            .map(|known| known.name().trim_start_matches(&prefix).to_ascii_lowercase());
        short
            .filter(|name| name != "unspecified")
            .collect::<Vec<_>>()
            .join(", ")
    };
    let found = found.ok_or_else(|| format!("{place}: \"{given}\" is not one of {}", known()))?;
    *value = Value::String(found.name().to_owned());
    Ok(())
}

/// `CODEC_` for `Codec`, `RTCP_MODE_` for `RtcpMode`: every enum of the contract has its UNSPECIFIED.
fn prefix(descriptor: &EnumDescriptor) -> String {
    descriptor
        .default_value()
        .name()
        .trim_end_matches("UNSPECIFIED")
        .to_owned()
}

fn root(place: &str) -> &str {
    if place.is_empty() { "the top level" } else { place }
}

/// `pcmu` for the enum's number, for tables.
pub(crate) fn short(enum_name: &str, number: i32) -> String {
    let pool = DescriptorPool::decode(proto::DESCRIPTORS).expect("proto embeds valid descriptors");
    let known = pool.get_enum_by_name(&format!("mediad.v1.{enum_name}"));
    let descriptor = known.expect("the caller names an enum of the contract");
    match descriptor.get_value(number) {
        Some(value) => value
            .name()
            .trim_start_matches(&prefix(&descriptor))
            .to_ascii_lowercase(),
        None => number.to_string(),
    }
}
