//! Listening, connections and their limits, deadlines, drain: once, for every API.
//!
//! ```text
//! listen      binds a port
//! serve       the accept loop, and the drain
//! connection  one connection: HTTP/1 or HTTP/2, its age and its end
//! stream      the bytes of a connection, until it is cut
//! limits      how many connections there may be, in all and per peer
//! body        the deadline of a request body
//! cors        which pages of other origins may use an API
//! acceptor    what a socket becomes before HTTP is spoken over it
//! tls         certificates from files, and their reload
//! ```
//!
//! An API is a [`tower`] service over [`http::Request`]; every request has its [`Connection`] in its extensions.

mod acceptor;
mod body;
mod connection;
mod cors;
mod limits;
mod listen;
mod options;
mod serve;
mod stream;
mod tls;

pub use body::{BodyDeadline, BodyDeadlineLayer, BodyTimeout, DeadlineBody};
pub use connection::{Connection, serve_stream};
pub use cors::Cors;
pub use listen::{ListenError, listen};
pub use options::Options;
pub use serve::{Server, describe_metrics};
pub use tls::{ClientAuth, ClientCertificates, Tls, TlsError, TlsFiles};
