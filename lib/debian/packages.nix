# Debian packages that every guest needs itself. Those of an agent are in ../policy/tools.nix; what a project needs besides
# comes from the `packages` argument.
[
  "bash"
  # The first program of the guest; see init.nix.
  "busybox-static"
  "ca-certificates"
  "dbus"
  "iproute2"
  "kmod"
  "libnss-myhostname"
  "nftables"
  # The gate before MCP. Without its recommended modules.
  "nginx"
  "openssh-server"
  "python3"
  "systemd"
  "vim-tiny"
]
