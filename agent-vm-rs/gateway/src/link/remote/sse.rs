//! A server that speaks HTTP+SSE of 2024-11-05.

use std::rc::Rc;
use std::time::Duration;

use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Uri};
use tokio::time::timeout;

use super::client::{Client, next};
use super::events::Events;
use super::hand_over_text;
use crate::config::Remote;
use crate::link::Shared;

/// Time for the server to name the path for messages.
const FIRST: Duration = Duration::from_secs(30);

/// Passes messages until the server fails; returns why it did.
pub async fn run(remote: &Remote, shared: &Rc<Shared>) -> String {
    match serve(remote, shared).await {
        Ok(()) => "has closed its stream".to_owned(),
        Err(verdict) => verdict,
    }
}

async fn serve(remote: &Remote, shared: &Rc<Shared>) -> Result<(), String> {
    let client = Client::new(&remote.url);
    let name = remote.url.authority().map_or("", |name| name.as_str());
    let failed = |error: String| format!("cannot be reached at {name}: {error}");
    let mut answer = client.send(request(remote, Method::GET, &remote.url), None).await.map_err(failed)?;
    let status = answer.response.status();
    if !status.is_success() {
        return Err(format!("answered HTTP {status}"));
    }
    let mut events = Events::default();
    let mut path = None;
    let mut ready = Vec::new();
    while path.is_none() {
        let bytes =
            timeout(FIRST, next(&mut answer.response)).await.map_err(|_| "names no path for messages".to_owned())?;
        let Some(bytes) = bytes.map_err(failed)? else { return Ok(()) };
        for event in events.take(&bytes).map_err(|_| "its event is too long".to_owned())? {
            if event.name == "endpoint" {
                path = Some(resolved(&remote.url, &String::from_utf8_lossy(&event.data))?);
            } else {
                ready.push(event.data);
            }
        }
    }
    for data in ready {
        hand_over_text(shared, data).await;
    }
    let Some(path) = path else { return Ok(()) };
    let receiving = async {
        while let Some(bytes) = next(&mut answer.response).await.map_err(failed)? {
            for event in events.take(&bytes).map_err(|_| "its event is too long".to_owned())? {
                hand_over_text(shared, event.data).await;
            }
        }
        Ok(())
    };
    let sending = async {
        while let Some(raw) = shared.to.pop().await {
            let answer = client.send(request(remote, Method::POST, &path), Some(raw)).await.map_err(failed)?;
            let status = answer.response.status();
            client.finish(answer).await.map_err(failed)?;
            if !status.is_success() {
                return Err(format!("answered HTTP {status}"));
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        received = receiving => received,
        sent = sending => sent,
    }
}

fn request(remote: &Remote, method: Method, url: &Uri) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = url.clone();
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.extend(remote.headers.iter().cloned());
    request
}

/// Returns the URL that a server names. It must be on the same host: the headers may have secrets.
fn resolved(url: &Uri, path: &str) -> Result<Uri, String> {
    let wrong = || "names a path for messages that is not valid".to_owned();
    let path = path.trim();
    if path.contains("://") {
        let named: Uri = path.parse().map_err(|_| wrong())?;
        let same = named.authority() == url.authority() && named.scheme() == url.scheme();
        return if same { Ok(named) } else { Err("names another host for messages".to_owned()) };
    }
    let mut parts = url.clone().into_parts();
    if path.is_empty() {
        return Err(wrong());
    }
    let absolute = if path.starts_with('/') {
        path.to_owned()
    } else {
        let (folder, _) = url.path().rsplit_once('/').unwrap_or_default();
        format!("{folder}/{path}")
    };
    parts.path_and_query = Some(absolute.parse().map_err(|_| wrong())?);
    Uri::from_parts(parts).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_to_the_same_host() {
        let url: Uri = "https://x.example/a/sse".parse().unwrap();
        for (path, expected) in [
            ("/m?s=1", Some("https://x.example/m?s=1")),
            ("m", Some("https://x.example/a/m")),
            ("https://x.example/m", Some("https://x.example/m")),
            ("https://evil.example/m", None),
            ("http://x.example/m", None),
            ("", None),
        ] {
            assert_eq!(resolved(&url, path).ok().map(|url| url.to_string()).as_deref(), expected, "{path}");
        }
    }
}
