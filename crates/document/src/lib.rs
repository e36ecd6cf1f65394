//! Graph documents: YAML and CEL become a compiled graph of the engine.

pub mod expr;
mod nearest;
