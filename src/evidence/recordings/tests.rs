//! Guesses on broken and odd input.
