//! HTTP: streamable HTTP in both eras, and HTTP+SSE.

mod body;
mod gateway;
mod get;
mod headers;
mod origin;
mod post;
mod reply;
mod sse;

pub use gateway::{Gateway, serve};
pub use origin::Origins;
