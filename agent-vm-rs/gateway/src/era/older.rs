//! Messages of a server that knows only the version without sessions, as clients with one know them.

use super::meta::{SUBSCRIPTION, strip_keys};
use crate::json::{Message, Object, quote};

/// Returns the parameters of an elicitation with the identity that the versions with sessions require for a URL.
pub fn with_identity(params: &str, number: u64) -> String {
    let mut params = Object::or_empty(Some(params));
    if params.text("mode").as_deref() == Some("url") {
        params.set_default("elicitationId", &quote(&format!("agent-mcp-{number}")));
    }
    params.to_string()
}

/// Returns a notification without the identity of the gateway's own subscription.
pub fn unsubscribed(message: Message) -> Message {
    let mut params = Object::or_empty(message.params());
    let Some(meta) = params.get("_meta").filter(|meta| meta.contains(SUBSCRIPTION)) else { return message };
    let meta = strip_keys(meta, &[SUBSCRIPTION]);
    if meta == "{}" {
        params.remove("_meta");
    } else {
        params.set("_meta", meta);
    }
    message.with_params(&params.to_string())
}
