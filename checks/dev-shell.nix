# The development shell of this repository.
{
  mkShell,
  cargo,
  cargo-nextest,
  clippy,
  deadnix,
  e2fsprogs,
  git,
  nixfmt,
  openssh,
  qemu_kvm,
  rustc,
  rustfmt,
  shellcheck,
}:
mkShell {
  packages = [
    cargo
    cargo-nextest
    clippy
    deadnix
    e2fsprogs
    git
    nixfmt
    openssh
    qemu_kvm
    rustc
    rustfmt
    shellcheck
  ];
}
