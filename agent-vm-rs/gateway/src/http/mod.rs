//! HTTP: streamable HTTP in both eras, and HTTP+SSE.

mod body;
mod gateway;
mod get;
mod headers;
mod named;
mod origin;
mod post;
mod reply;
mod sse;
mod stateless;

pub use gateway::{Gateway, serve};
pub use origin::Origins;
