//! A fact that may be absent, with the reason.

use serde::{Deserialize, Serialize};

/// Read, not asked for, or unreadable and why. Absence never passes for a value: a report can say what was not
/// seen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Known<T> {
    /// It was read.
    Read(T),
    /// Nobody asked for it.
    #[default]
    NotAsked,
    /// It was asked for and could not be had: what was tried and what came back.
    Unreadable(String),
}

impl<T> Known<T> {
    /// The value, if it was read.
    pub fn read(&self) -> Option<&T> {
        match self {
            Self::Read(value) => Some(value),
            Self::NotAsked | Self::Unreadable(_) => None,
        }
    }

    /// Turns the value, keeps the reason.
    pub fn map<U>(self, turn: impl FnOnce(T) -> U) -> Known<U> {
        match self {
            Self::Read(value) => Known::Read(turn(value)),
            Self::NotAsked => Known::NotAsked,
            Self::Unreadable(why) => Known::Unreadable(why),
        }
    }
}
