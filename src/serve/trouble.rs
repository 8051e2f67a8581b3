//! What the failures of the HTTP client mean for a request: its record, its answer, and the node's state.

use crate::cluster::Node;
use crate::dialect::{ApiError, ErrorKind};
use crate::http::client::{ReadError, SendError};

/// Short code for the record and the metrics.
pub(super) fn code(error: &SendError) -> &'static str {
    match error {
        SendError::ClientGone => "client_gone",
        SendError::Resolve(_) => "name_not_found",
        SendError::Connect(_) => "connect_failed",
        SendError::ConnectTimeout => "connect_timeout",
        SendError::Tls(_) => "tls_failed",
        SendError::SendTimeout => "send_timeout",
        SendError::ClosedWithoutAnswer => "closed_without_answer",
        SendError::CutHead => "cut_head",
        SendError::FirstByteTimeout => "no_answer_in_time",
        SendError::TotalTimeout => "total_timeout",
        SendError::Malformed(_) => "malformed_answer",
        SendError::Body(_) => "body_failed",
        SendError::Io(_) => "connection_failed",
    }
}

/// Whether a time limit is over that no other node should be given.
pub(super) fn timed_out(error: &SendError) -> bool {
    matches!(error, SendError::FirstByteTimeout | SendError::TotalTimeout)
}

/// Whether the node itself is out of reach, so that the next request should not go there.
pub(super) fn unreachable(error: &SendError) -> bool {
    matches!(
        error,
        SendError::Resolve(_)
            | SendError::Connect(_)
            | SendError::ConnectTimeout
            | SendError::Tls(_)
    )
}

/// The error to tell when a node could not be reached or did not answer.
pub(super) fn of_send(node: &Node, error: &SendError) -> ApiError {
    let kind = if timed_out(error) {
        ErrorKind::Timeout
    } else {
        ErrorKind::Upstream
    };
    ApiError::new(
        kind,
        format!("node `{}` at {}: {error}", node.name, node.url),
    )
}

/// The error to tell when an answer stopped; `None` stands for an end without the terminal event.
pub(super) fn of_read(node: &Node, error: Option<&ReadError>) -> ApiError {
    let (kind, what) = match error {
        None => (
            ErrorKind::Upstream,
            "ended the answer before it was complete".to_owned(),
        ),
        Some(error @ (ReadError::Idle | ReadError::Total)) => {
            (ErrorKind::Timeout, error.to_string())
        }
        Some(error) => (ErrorKind::Upstream, error.to_string()),
    };
    ApiError::new(kind, format!("node `{}`: {what}", node.name))
}
