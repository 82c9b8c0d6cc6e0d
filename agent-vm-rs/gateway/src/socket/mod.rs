//! A server's Unix socket: messages as lines; a connection is a session.

use std::io;
use std::path::Path;
use std::rc::Rc;

use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::spawn_local;

use crate::http::Gateway;
use crate::json::{Message, parse_batch};
use crate::link::{Line, Lines};
use crate::policy::MCP;
use crate::supervise::Server;

/// Serves a server at a path, in place of a socket of an earlier run.
pub fn listen(gateway: &Rc<Gateway>, server: &Rc<Server>, path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    let (gateway, server) = (Rc::clone(gateway), Rc::clone(server));
    spawn_local(async move {
        // Only a lack of file descriptors ends it, as does that of the program.
        while let Ok((stream, _)) = listener.accept().await {
            spawn_local(converse(Rc::clone(&gateway), Rc::clone(&server), stream));
        }
    });
    Ok(())
}

/// Passes messages until the client goes.
async fn converse(gateway: Rc<Gateway>, server: Rc<Server>, stream: UnixStream) {
    let Some(session) = gateway.open_session(&server, true, None) else { return };
    let (reader, mut writer) = stream.into_split();
    let stream = session.outbox.general().connect(None);
    let reading = async {
        let mut lines = Lines::new(reader, MCP.longest_message);
        while let Some(Line::Whole(line)) = lines.next().await {
            let messages = match Message::parse(line.clone()) {
                Some(message) => vec![message],
                None => parse_batch(&line).unwrap_or_default(),
            };
            for message in messages {
                session.receive(message);
            }
            tokio::task::consume_budget().await;
        }
    };
    let writing = async {
        while let Some(event) = stream.next().await {
            let mut line = event.data.to_vec();
            line.push(b'\n');
            if writer.write_all(&line).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
    gateway.table.end(&session.id);
}
