//! Checks names of predefined MCP servers against those of the toolkit.

use crate::machine::settings::GuestKind;
use crate::term::did_you_mean::nearest;
use crate::term::error::Failure;
use crate::term::text::one_line;

/// Checks that a guest has all of these predefined servers.
///
/// # Errors
/// The first unknown name, with the most similar one and all known ones as a hint.
pub fn check(names: &[String], guest: GuestKind, known: &[String]) -> Result<(), Failure> {
    let Some(unknown) = names.iter().find(|name| !known.contains(name)) else { return Ok(()) };
    let known: Vec<_> = known.iter().map(String::as_str).collect();
    let meant = nearest(unknown, &known).map_or_else(String::new, |name| format!("did you mean {name}? "));
    Err(Failure::usage(format!("the {guest} guest has no predefined MCP server {}", one_line(unknown)))
        .with_hint(format!("{meant}known servers: {}", known.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_server_is_refused_with_the_known_ones() {
        let known = ["browser", "nixos"].map(str::to_owned);
        let check = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
            check(&names, GuestKind::Debian, &known)
        };
        assert!(check(&[]).is_ok() && check(&["nixos", "browser"]).is_ok());
        let error = check(&["nixos", "borwser"]).unwrap_err();
        assert_eq!(error.to_string(), "the debian guest has no predefined MCP server borwser");
        assert_eq!(error.hint(), Some("did you mean browser? known servers: browser, nixos"));
        assert_eq!(check(&["xyzzy"]).unwrap_err().hint(), Some("known servers: browser, nixos"));
    }
}
