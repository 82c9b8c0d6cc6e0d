# Packages, by guest, with programs that most projects and coding agents need. Compilers are not included; a project adds
# one with `agent-vm create --package NAME`.
{
  debian = [
    "curl"
    "file"
    "git"
    "jq"
    "less"
    "make"
    "patch"
    "procps"
    "python3"
    "python3-pip"
    "python3-venv"
    "ripgrep"
    "tzdata"
    "unzip"
    "xz-utils"
  ];
  # Every NixOS system already has curl, less, patch, ps and xz.
  nixos = [
    "file"
    "git"
    "gnumake"
    "jq"
    "python3"
    "ripgrep"
    "unzip"
  ];
}
