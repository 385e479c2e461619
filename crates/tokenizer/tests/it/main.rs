//! Tokenizers of the three kinds in use, streamed, stopped and loaded from folders.

mod bytes;
mod fixtures;
mod folder;
mod stop;
mod stream;
