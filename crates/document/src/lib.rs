//! Graph documents: YAML and CEL become a compiled graph of the engine.
//!
//! ```
//! use runloom_document::{Registry, load};
//!
//! let text = r#"
//! runloom: v1
//! name: greeting
//! state:
//!   name: { schema: { type: string } }
//!   greeting: { schema: { type: string } }
//! nodes:
//!   greet: { update: { greeting: '"hello, " + state.name' } }
//! edges:
//!   - { from: START, to: greet }
//! "#;
//! let document = load(text, "greeting.yaml", &Registry::new())?;
//! assert_eq!(&**document.name(), "greeting");
//!
//! let wrong = text.replace("state.name", "stat.name");
//! let error = load(&wrong, "greeting.yaml", &Registry::new()).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "greeting.yaml:8:45: node `greet`, update, greeting: in the expression `\"hello, \" + stat.name`: \
//!      there is no name `stat` here; did you mean `state`?"
//! );
//! # Ok::<(), runloom_document::Error>(())
//! ```

mod cost;
mod document;
mod error;
mod expr;
mod read;
mod run;
mod schema;
mod set;
mod tree;
mod written;

use runloom_suggest as suggest;

pub use cost::SchemaCost;
pub use document::Document;
pub use error::{Error, Problem};
pub use runloom_models::Allowed;
pub use schema::{Checks, Schemas};
pub use set::{DocumentSet, Registry, load};
pub use tree::MAX_BYTES;
