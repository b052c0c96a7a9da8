//! Prometheus' JSON answers.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::error::StoreError;
use super::label_sets::Truncated;
use crate::model::{ErrorKind, Labels};

#[derive(Serialize)]
struct Success<'a, T> {
    status: &'static str,
    data: &'a T,
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<[&'static str; 1]>,
}

#[derive(Serialize)]
struct Failure {
    status: &'static str,
    #[serde(rename = "errorType")]
    error_type: &'static str,
    error: String,
}

/// A label set as a JSON object.
#[derive(Debug)]
pub(super) struct LabelObject(pub(super) Labels);

impl Serialize for LabelObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Writes a float as Prometheus does: plain digits, or an exponent where there would be many zeros.
pub(super) fn float(value: f64) -> String {
    let magnitude = value.abs();
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        if magnitude < 1.0 { text } else { text.replace('e', "e+") }
    } else {
        value.to_string()
    }
}

/// Writes a successful answer: compute, where it is large.
pub(super) fn success<T: Serialize>(data: &T, cut_off: bool) -> Vec<u8> {
    let warnings = cut_off.then_some(["results truncated due to limit"]);
    serde_json::to_vec(&Success { status: "success", data, warnings })
        .expect("strings, lists and maps with string keys always have a JSON form")
}

/// Writes a list that was cut off at a limit.
pub(super) fn success_list<T: Serialize>(list: &Truncated<T>) -> Vec<u8> {
    success(&list.items, list.cut_off)
}

/// Makes a response of a JSON body.
pub(super) fn response(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Makes the response of a failure, with the status codes of Prometheus' API.
pub(super) fn failure(error: &StoreError) -> Response {
    let (status, error_type) = match error.kind() {
        ErrorKind::TooLarge if matches!(error, StoreError::BodyTooLarge(_)) => {
            (StatusCode::PAYLOAD_TOO_LARGE, "bad_data")
        }
        ErrorKind::NotFound => (StatusCode::NOT_FOUND, "not_found"),
        ErrorKind::TooLarge => (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
        ErrorKind::Cancelled => (StatusCode::SERVICE_UNAVAILABLE, "timeout"),
        ErrorKind::Overloaded | ErrorKind::Unavailable | ErrorKind::Incomplete | ErrorKind::Locked => {
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
        }
        ErrorKind::Corrupt | ErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        ErrorKind::Invalid
        | ErrorKind::Unsupported
        | ErrorKind::OutOfRange
        | ErrorKind::Conflict
        | ErrorKind::NeedsConfirmation => (StatusCode::BAD_REQUEST, "bad_data"),
    };
    let body = serde_json::to_vec(&Failure { status: "error", error_type, error: error.to_string() })
        .expect("strings always have a JSON form");
    response(status, body)
}
