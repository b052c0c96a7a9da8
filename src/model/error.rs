//! What a failure asks of the caller, and how that is said over HTTP, gRPC and the shell.

/// Writes an error with all its causes in one line. A cause that an error already quotes is not said twice.
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let reason = inner.to_string();
        if !text.contains(&reason) {
            text.push_str(": ");
            text.push_str(&reason);
        }
        cause = inner.source();
    }
    text
}

/// The kind of a failure: what the caller should do about it.
///
/// One table turns a kind into an HTTP status, a gRPC code, an exit code and "may be retried". For remote write
/// that table is part of durability: after a 4xx a sender drops its data, after a 5xx it sends it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request or setting is wrong; the same one will fail again.
    Invalid,
    /// The request is over a size limit.
    TooLarge,
    /// The content type, encoding or feature is not supported.
    Unsupported,
    /// What was asked for does not exist.
    NotFound,
    /// A time or number is outside what is kept or allowed.
    OutOfRange,
    /// Somebody else changed the same thing first.
    Conflict,
    /// Too much is under way; try again later.
    Overloaded,
    /// A part that is needed cannot be reached or has failed; try again later.
    Unavailable,
    /// The deadline passed or the caller went away.
    Cancelled,
    /// The answer would lack something.
    Incomplete,
    /// The action destroys something and was not confirmed.
    NeedsConfirmation,
    /// Another process holds the resource.
    Locked,
    /// Stored bytes are damaged.
    Corrupt,
    /// A defect of ours.
    Internal,
}

impl ErrorKind {
    /// Returns the HTTP status, gRPC code and exit code of this kind.
    const fn codes(self) -> (u16, i32, u8) {
        match self {
            Self::Invalid => (400, 3, 2),
            Self::TooLarge => (413, 8, 2),
            Self::Unsupported => (415, 12, 2),
            Self::NotFound => (404, 5, 3),
            Self::OutOfRange => (400, 11, 3),
            Self::Conflict => (409, 10, 4),
            Self::Overloaded => (429, 8, 6),
            Self::Unavailable => (503, 14, 6),
            Self::Cancelled => (503, 4, 6),
            Self::Incomplete => (503, 14, 5),
            Self::NeedsConfirmation => (400, 9, 7),
            Self::Locked => (503, 14, 4),
            Self::Corrupt => (500, 15, 5),
            Self::Internal => (500, 13, 1),
        }
    }

    /// Returns the HTTP status.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        self.codes().0
    }

    /// Returns the gRPC status code, as numbered by gRPC.
    #[must_use]
    pub const fn grpc_code(self) -> i32 {
        self.codes().1
    }

    /// Returns the exit code of the process.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        self.codes().2
    }
}
