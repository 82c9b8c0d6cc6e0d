# Programs that projects and coding agents take for granted, besides what a guest needs itself: names of packages, by
# guest. No compilers: a project that needs one names it (`agent-vm create --package NAME`).
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
  # Beside those of every NixOS system, such as curl, less, patch, ps and xz.
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
