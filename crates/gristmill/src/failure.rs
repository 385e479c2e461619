//! What went wrong, for a person: what happened, and what to try next.

use std::fmt;

/// An error that ends with the next thing to try.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    next: Option<String>,
}

impl Failure {
    /// What happened.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), next: None }
    }

    /// What to try.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// The advice, if there is one.
    pub(crate) fn advice(&self) -> Option<&str> {
        self.next.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
