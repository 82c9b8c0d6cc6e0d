//! Hexadecimal text.

use anyhow::{Context as _, Result, ensure};

/// Returns bytes in lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns `count` random bytes from the kernel, in hexadecimal.
///
/// # Errors
/// The kernel returns fewer bytes, which it does not for up to 256 (getrandom(2)).
pub fn random(count: usize) -> Result<String> {
    let mut bytes = vec![0; count];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .context("failed to get random bytes from the kernel")?;
    ensure!(got == count, "the kernel returned {got} of {count} random bytes");
    Ok(hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_text_has_its_length_and_does_not_repeat() {
        let (one, other) = (random(32).unwrap(), random(32).unwrap());
        assert_eq!((one.len(), other.len()), (64, 64));
        assert_ne!(one, other);
    }
}
