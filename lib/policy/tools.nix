# Packages, by guest, with programs that most projects and coding agents need. Compilers are not included; a project adds
# one with `agent-vm create --package NAME`.
{
  debian = [
    "curl"
    "file"
    "git"
    "git-lfs"
    "jq"
    "less"
    "make"
    # Descriptions of common terminals. Debian has kitty's in a package of its own.
    "kitty-terminfo"
    "ncurses-term"
    "patch"
    "procps"
    "python3"
    "python3-pip"
    "python3-venv"
    "ripgrep"
    "rsync"
    # Sessions of agents that run without a terminal of the host.
    "tmux"
    "tzdata"
    # Older names of time zones, such as US/Pacific.
    "tzdata-legacy"
    "unzip"
    "xz-utils"
  ];
  # Every NixOS system already has curl, less, patch, ps, the time zones and xz. Its Python has venv, which installs pip.
  nixos = [
    "file"
    "git"
    "git-lfs"
    "gnumake"
    "jq"
    "python3"
    "ripgrep"
    "rsync"
    "tmux"
    "unzip"
  ];
}
