//! How QEMU runs guest code: on the processor, or by emulation.

/// How QEMU runs guest code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// On the processor, with KVM.
    Kvm,
    /// By QEMU's translation, which works everywhere and is slower.
    Tcg,
}

impl Accel {
    /// Returns QEMU's name for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}
