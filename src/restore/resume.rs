//! Whether a restore that was begun is the one that is asked for.

use super::RestoreError;
use super::context::RestoreContext;
use super::finish::FORMAT;
use super::journal::{Journal, Subject};
use super::plan::target_text;
use super::request::RestoreRequest;
use super::workplace::Workplace;
use crate::archive::{Position, Target};

/// Returns what an unfinished restore in the work directory was about, if it is the one that is asked for.
pub(super) fn unfinished(
    context: &RestoreContext,
    request: &RestoreRequest,
) -> Result<Option<Subject>, RestoreError> {
    if request.restart {
        return Ok(None);
    }
    let journal = Workplace::path_for(&request.to)?.join("journal");
    let begun = Journal::read_subject(&journal)?;
    Ok(begun.filter(|begun| begun.difference(&asked_like(context, request, begun)).is_none()))
}

/// Names what is asked for, with the choices of a restore that was begun.
pub(super) fn asked_like(context: &RestoreContext, request: &RestoreRequest, begun: &Subject) -> Subject {
    subject_of(context, &adopting(request, begun), (begun.position, begun.written_ms), begun.base)
}

/// Returns the request with the target of what was begun, where its own moves with the time.
pub(super) fn adopting(request: &RestoreRequest, begun: &Subject) -> RestoreRequest {
    let begun = begun.target_like(request.target).filter(|_| request.target_moves);
    RestoreRequest { target: begun.unwrap_or(request.target), ..request.clone() }
}

/// Names a restore for the journal.
pub(super) fn subject_of(
    context: &RestoreContext,
    request: &RestoreRequest,
    (position, written_ms): (Position, i64),
    base: (i64, Position),
) -> Subject {
    let mut output = vec![format!("{:?}", request.head)];
    output.extend(request.selectors.iter().map(|selector| format!("match {}", selector.text())));
    output.extend(request.for_version.map(|version| format!("for {version}")));
    let (Target::AsOf(at_ms) | Target::Until(at_ms)) = request.target;
    Subject {
        format: FORMAT,
        at_ms,
        source: context.archive.source().to_string(),
        target: target_text(request.target),
        timeline: request.timeline,
        output,
        position,
        written_ms,
        base,
    }
}
