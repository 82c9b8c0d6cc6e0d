//! Bytes as text.

use anyhow::{Context as _, Result, ensure};

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// So many random bytes of the kernel's, in hexadecimal.
///
/// # Errors
/// The kernel gives none, or fewer: it does not for up to 256 (getrandom(2)).
pub fn random(count: usize) -> Result<String> {
    let mut bytes = vec![0; count];
    let given = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .context("the kernel gives no random bytes")?;
    ensure!(given == count, "the kernel gave {given} random bytes of {count}");
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
