//! JSON-RPC messages as the bytes that were received. Nothing here knows what a method means.

mod base64;
mod build;
mod id;
mod message;
mod object;

pub use base64::{from_base64, to_base64};
pub use build::{METHOD_NOT_FOUND, error, error_with_data, notification, number_id, quote, raw_error, request, result};
pub use id::Id;
pub use message::{Kind, Message, parse_batch};
pub use object::Object;
