//! The schema of job files, and its refusals said for a person.

use std::sync::LazyLock;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

const TEXT: &str = include_str!("../../schemas/json/job.schema.json");

struct JobSchema {
    value: Value,
    validator: Validator,
}

static SCHEMA: LazyLock<JobSchema> = LazyLock::new(|| {
    let value: Value = serde_json::from_str(TEXT).expect("the schema is JSON, a test reads it");
    let validator = jsonschema::validator_for(&value).expect("the schema is one, a test uses it");
    JobSchema { value, validator }
});

/// Checks the keys and the types of their values. The error names the key and says what is allowed.
pub(super) fn check(job: &Value) -> Result<(), (String, String)> {
    match SCHEMA.validator.iter_errors(job).next() {
        Some(error) => Err(refusal(&error)),
        None => Ok(()),
    }
}

fn refusal(error: &ValidationError<'_>) -> (String, String) {
    let key = error.instance_path.as_str().trim_start_matches('/').replace('/', ".");
    let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    let rule = error.schema_path.as_str();
    let at = SCHEMA.value.pointer(rule.rsplit_once('/').map_or("", |(parent, _)| parent));
    let properties = at.and_then(|schema| schema["properties"].as_object());
    match &error.kind {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let name = unexpected.first().map_or("", String::as_str);
            let allowed: Vec<&str> =
                properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            (below(name), format!("is not a key; allowed are {}", allowed.join(", ")))
        }
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let meaning = properties.and_then(|p| p.get(name)).map(about).unwrap_or_default();
            (below(name), format!("is missing: {meaning}"))
        }
        _ if key.is_empty() => ("name".to_owned(), "the file is not a mapping of keys to values".to_owned()),
        _ => {
            let allowed = at.map(about).unwrap_or_default();
            (key, format!("{} is not allowed; {allowed}", error.instance))
        }
    }
}

fn about(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}
