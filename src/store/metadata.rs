//! Prometheus' metadata APIs over HTTP, and the routes of all read APIs.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use http::{StatusCode, header};
use http_body_util::{BodyExt, Limited};

use super::error::StoreError;
use super::json::{self, LabelObject};
use super::label_sets::{Truncated, label_names, label_sets, label_values};
use super::parameters::{Parameters, unescape_label_name};
use super::reads::{Found, Shared};
use super::remote_read;
use crate::model::TenantId;

/// The largest form, in bytes.
const FORM_BYTES_MAX: usize = 1 << 20;

/// Returns the routes, for the tenant of the header.
pub(super) fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/api/v1/series", get(series).post(series))
        .route("/api/v1/labels", get(labels).post(labels))
        .route("/api/v1/label/{name}/values", get(values))
        .route("/api/v1/status/buildinfo", get(build_info))
        .route("/api/v1/read", post(remote_read::handle))
        .with_state(shared)
}

/// Reads a request's body within a limit.
pub(super) async fn read_body(body: Body, bytes_max: usize) -> Result<Bytes, StoreError> {
    let collected = Limited::new(body, bytes_max).collect().await;
    Ok(collected.map_err(|error| StoreError::Body(error.to_string()))?.to_bytes())
}

/// What to make of the finds, on a compute thread: the JSON body and how many items it has.
type Answer = Box<dyn FnOnce(&[Found], i64) -> (Vec<u8>, u64) + Send>;

impl Shared {
    async fn metadata(
        &self,
        method: &'static str,
        request: Request,
        needs_selector: bool,
        answer: Answer,
    ) -> Response {
        let started_ms = self.clock.monotonic_ms();
        let work = async {
            let _place = self.place().await?;
            let (tenant, parameters) = self.parameters(request).await?;
            if needs_selector && parameters.matchers.is_empty() {
                return Err(StoreError::NoSelector);
            }
            let found = self.found_by_any(&tenant, &parameters).await?;
            let limit = parameters.limit;
            let (body, items) = self.selector.cpu().run(move || answer(&found, limit)).await?;
            self.instruments.served(method, items, 0);
            Ok(body)
        };
        let outcome = self.within(self.deadline(None), work).await;
        let took_ms = self.clock.monotonic_ms() - started_ms;
        self.instruments.ended(method, took_ms, outcome.as_ref().err());
        match outcome {
            Ok(body) => json::response(StatusCode::OK, body),
            Err(error) => json::failure(&error),
        }
    }

    /// Reads the parameters of the query string and, with POST, of the form.
    async fn parameters(&self, request: Request) -> Result<(TenantId, Parameters), StoreError> {
        let (parts, body) = request.into_parts();
        let tenant = self.settings.tenant(&parts.headers)?;
        let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_form = content_type.is_some_and(|t| t.starts_with("application/x-www-form-urlencoded"));
        let form = if is_form { read_body(body, FORM_BYTES_MAX).await? } else { Bytes::new() };
        // Expressions are compiled here.
        let parse = move || {
            let query = parts.uri.query().unwrap_or("");
            Parameters::parse(&[&form, query.as_bytes()])
        };
        Ok((tenant, self.selector.cpu().run(parse).await??))
    }

    async fn found_by_any(
        &self,
        tenant: &TenantId,
        parameters: &Parameters,
    ) -> Result<Vec<Found>, StoreError> {
        if parameters.matchers.is_empty() {
            return self.select_one(tenant, &[], parameters.range).await;
        }
        let mut found = Vec::new();
        for matchers in &parameters.matchers {
            found.extend(self.select_one(tenant, matchers, parameters.range).await?);
        }
        Ok(found)
    }
}

async fn series(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let answer = |found: &[Found], limit: i64| {
        let sets = Truncated::new(label_sets(found), limit);
        let items = sets.items.into_iter().map(LabelObject).collect();
        let sets = Truncated { items, cut_off: sets.cut_off };
        (json::success_list(&sets), sets.items.len() as u64)
    };
    shared.metadata("series", request, true, Box::new(answer)).await
}

async fn labels(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let answer = |found: &[Found], limit: i64| {
        (json::success_list(&Truncated::new(label_names(found, &[]), limit)), 0)
    };
    shared.metadata("labels", request, false, Box::new(answer)).await
}

async fn values(State(shared): State<Arc<Shared>>, Path(name): Path<String>, request: Request) -> Response {
    let name = unescape_label_name(&name);
    let answer = move |found: &[Found], limit: i64| {
        (json::success_list(&Truncated::new(label_values(found, &name), limit)), 0)
    };
    shared.metadata("label_values", request, false, Box::new(answer)).await
}

#[derive(serde::Serialize)]
struct BuildInfo {
    application: &'static str,
    version: &'static str,
    revision: &'static str,
    branch: &'static str,
    #[serde(rename = "buildUser")]
    build_user: &'static str,
    #[serde(rename = "buildDate")]
    build_date: &'static str,
    #[serde(rename = "goVersion")]
    go_version: &'static str,
}

async fn build_info() -> Response {
    let info = BuildInfo {
        application: "perennial",
        version: env!("CARGO_PKG_VERSION"),
        revision: "",
        branch: "",
        build_user: "",
        build_date: "",
        go_version: "",
    };
    json::response(StatusCode::OK, json::success(&info, false))
}
