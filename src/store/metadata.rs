//! Prometheus' APIs of series and labels over HTTP, and the routes of all read APIs.

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use http::{StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::error::StoreError;
use super::exemplars::query_exemplars;
use super::json::{self, LabelObject};
use super::label_sets::{Truncated, label_names, label_sets, label_values};
use super::metric_metadata::metadata;
use super::parameters::{Form, Parameters, unescape_label_name};
use super::reads::{Found, LookedUp, Shared};
use super::remote_read;
use crate::model::TenantId;
use crate::select::LabelQuery;

/// The largest form, in bytes.
const FORM_BYTES_MAX: usize = 1 << 20;

/// Returns the routes, for the tenant of the header.
pub(super) fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/api/v1/series", get(series).post(series))
        .route("/api/v1/labels", get(labels).post(labels))
        .route("/api/v1/label/{name}/values", get(values))
        .route("/api/v1/query_exemplars", get(query_exemplars).post(query_exemplars))
        .route("/api/v1/metadata", get(metadata))
        .route("/api/v1/status/buildinfo", get(build_info))
        .route("/api/v1/read", post(remote_read::handle))
        .with_state(shared)
}

/// Reads a request's body within a limit.
pub(super) async fn read_body(body: Body, bytes_max: usize) -> Result<Bytes, StoreError> {
    let collected = Limited::new(body, bytes_max).collect().await;
    let failed = |error: Box<dyn Error + Send + Sync>| match error.is::<LengthLimitError>() {
        true => StoreError::BodyTooLarge(bytes_max),
        false => StoreError::Body(error.to_string()),
    };
    Ok(collected.map_err(failed)?.to_bytes())
}

/// What an answer is cut off at, and the labels that are hidden in it.
struct Shown {
    limit: i64,
    hidden: Vec<String>,
}

/// What to make of what was found, on a compute thread: the JSON body and how many items it has.
type Answer<T> = Box<dyn FnOnce(Vec<T>, Shown) -> (Vec<u8>, u64) + Send>;

/// What a request is about.
enum Question {
    Series(Answer<Found>),
    Labels(LabelQuery, Answer<LookedUp>),
}

impl Shared {
    /// Runs a query within its place and time, counts it and makes its JSON a response.
    pub(super) async fn answer(
        &self,
        method: &'static str,
        work: impl Future<Output = Result<Vec<u8>, StoreError>>,
    ) -> Response {
        let started_ms = self.clock.monotonic_ms();
        let placed = async {
            let _place = self.place().await?;
            work.await
        };
        let outcome = self.within(self.deadline(None), placed).await;
        let took_ms = self.clock.monotonic_ms() - started_ms;
        self.instruments.ended(method, took_ms, outcome.as_ref().err());
        match outcome {
            Ok(body) => json::response(StatusCode::OK, body),
            Err(error) => json::failure(&error),
        }
    }

    async fn found_labels(&self, method: &'static str, request: Request, question: Question) -> Response {
        let work = async {
            let (tenant, form) = self.form(request).await?;
            // Expressions are compiled here.
            let parameters = self.selector.cpu().run(move || Parameters::parse(&form)).await??;
            let hidden = parameters.hiding.labels(&self.settings.replica_labels);
            let (shown, cpu) = (Shown { limit: parameters.limit, hidden }, self.selector.cpu());
            let (body, items) = match question {
                Question::Series(answer) => {
                    let found = self.with_relief(|| self.found_by_any(&tenant, &parameters)).await?;
                    cpu.run(move || answer(found, shown)).await?
                }
                Question::Labels(query, answer) => {
                    let find = || self.looked_up_by_any(&tenant, &parameters, &query);
                    let found = self.with_relief(find).await?;
                    cpu.run(move || answer(found, shown)).await?
                }
            };
            self.instruments.served(method, items, 0);
            Ok(body)
        };
        self.answer(method, work).await
    }

    /// Reads the tenant of the header, and the pairs of the query string and, with POST, of the form.
    pub(super) async fn form(&self, request: Request) -> Result<(TenantId, Form), StoreError> {
        let (parts, body) = request.into_parts();
        let tenant = self.settings.tenant(&parts.headers)?;
        let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_form = content_type.is_some_and(|t| t.starts_with("application/x-www-form-urlencoded"));
        let form = if is_form { read_body(body, FORM_BYTES_MAX).await? } else { Bytes::new() };
        Ok((tenant, Form::parse(&[&form, parts.uri.query().unwrap_or("").as_bytes()])))
    }

    async fn found_by_any(
        &self,
        tenant: &TenantId,
        parameters: &Parameters,
    ) -> Result<Vec<Found>, StoreError> {
        if parameters.matchers.is_empty() {
            return Err(StoreError::NoSelector);
        }
        let (mut found, budget) = (Vec::new(), self.budget(false));
        for matchers in &parameters.matchers {
            found.extend(self.select_one(tenant, matchers, parameters.range, &budget).await?);
        }
        Ok(found)
    }

    async fn looked_up_by_any(
        &self,
        tenant: &TenantId,
        parameters: &Parameters,
        query: &LabelQuery,
    ) -> Result<Vec<LookedUp>, StoreError> {
        let (mut found, budget) = (Vec::new(), self.budget(false));
        let (range, any) = (parameters.range, [Vec::new()]);
        let selectors = if parameters.matchers.is_empty() { &any[..] } else { &parameters.matchers[..] };
        for matchers in selectors {
            found.push(self.look_up_one(tenant, matchers, range, query, &budget).await?);
        }
        Ok(found)
    }
}

async fn series(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let answer = |found: Vec<Found>, shown: Shown| {
        let sets = Truncated::new(label_sets(&found, &shown.hidden), shown.limit);
        let items = sets.items.into_iter().map(LabelObject).collect();
        let sets = Truncated { items, cut_off: sets.cut_off };
        (json::success_list(&sets), sets.items.len() as u64)
    };
    shared.found_labels("series", request, Question::Series(Box::new(answer))).await
}

async fn labels(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let answer = |found: Vec<LookedUp>, shown: Shown| {
        (json::success_list(&Truncated::new(label_names(found, &shown.hidden), shown.limit)), 0)
    };
    let question = Question::Labels(LabelQuery::Names, Box::new(answer));
    shared.found_labels("labels", request, question).await
}

async fn values(State(shared): State<Arc<Shared>>, Path(name): Path<String>, request: Request) -> Response {
    let name = unescape_label_name(&name);
    let query = LabelQuery::Values(name.clone());
    let answer = move |found: Vec<LookedUp>, shown: Shown| {
        let values = if shown.hidden.contains(&name) { Vec::new() } else { label_values(found, &name) };
        (json::success_list(&Truncated::new(values, shown.limit)), 0)
    };
    shared.found_labels("label_values", request, Question::Labels(query, Box::new(answer))).await
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
