# Debian packages of every guest. What a project needs besides comes from the `packages` argument.
[
  "bash"
  # The first program of the guest; see init.nix.
  "busybox-static"
  "ca-certificates"
  "curl"
  "dbus"
  "git"
  "iproute2"
  "kmod"
  "less"
  "libnss-myhostname"
  "nftables"
  # The gate before MCP. Without its recommended modules.
  "nginx"
  "openssh-server"
  "procps"
  "python3"
  "ripgrep"
  "systemd"
  "vim-tiny"
]
