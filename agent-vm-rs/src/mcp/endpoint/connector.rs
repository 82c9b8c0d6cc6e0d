//! Tells errors before a connection from later ones: only in the first case it is certain that no request was sent.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};

use ureq::config::Config;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectionDetails, Connector, DefaultConnector, RustlsConnector, Transport};

use super::own_address::FromOwnAddress;

/// Kinds of errors of a machine that is starting or stopping.
const PASSING: [ErrorKind; 6] = [
    ErrorKind::BrokenPipe,
    ErrorKind::ConnectionAborted,
    ErrorKind::ConnectionRefused,
    ErrorKind::ConnectionReset,
    ErrorKind::TimedOut,
    ErrorKind::UnexpectedEof,
];

/// Connects as another connector does, and marks errors.
#[derive(Debug)]
pub struct Marking(Box<dyn Connector<(), Out = Box<dyn Transport>>>);

impl Marking {
    /// Returns an agent whose errors are marked.
    pub fn agent(config: Config) -> ureq::Agent {
        Self::with(config, DefaultConnector::default())
    }

    /// Returns an agent whose errors are marked, for our own queries.
    pub fn for_queries(config: Config) -> ureq::Agent {
        Self::with(config, FromOwnAddress.chain(RustlsConnector::default()).chain(Boxed))
    }

    fn with(config: Config, connector: impl Connector<(), Out = Box<dyn Transport>>) -> ureq::Agent {
        ureq::Agent::with_parts(config, Self(Box::new(connector)), DefaultResolver::default())
    }
}

/// Boxes connections, so that all connectors return the same type.
#[derive(Debug)]
struct Boxed;

impl<In: Transport> Connector<In> for Boxed {
    type Out = Box<dyn Transport>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        Ok(chained.map(|transport| Box::new(transport) as Self::Out))
    }
}

impl Connector<()> for Marking {
    type Out = Box<dyn Transport>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<()>) -> Result<Option<Self::Out>, ureq::Error> {
        self.0.connect(details, chained).map_err(|error| match error {
            // Others, such as a wrong certificate, are no reason to try again.
            ureq::Error::Io(error) if PASSING.contains(&error.kind()) => {
                ureq::Error::Io(io::Error::new(error.kind(), NotConnected(error)))
            }
            error => error,
        })
    }
}

/// Why there is no connection.
#[derive(Debug)]
struct NotConnected(io::Error);

impl fmt::Display for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for NotConnected {}

/// Returns whether a request failed before there was a connection, including TLS, so that the server has not received it, and
/// another attempt may succeed.
#[must_use]
pub fn was_not_connected(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => error.get_ref().is_some_and(|cause| cause.is::<NotConnected>()),
        ureq::Error::Timeout(when) => matches!(when, ureq::Timeout::Connect),
        _ => false,
    }
}
