# Debian packages that every guest needs itself. An agent's tools are in ../policy/tools.nix; a project's packages
# come from the `packages` argument.
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
  # The reverse proxy in front of the MCP gateway.
  "nginx"
  "openssh-server"
  "python3"
  "systemd"
  "vim-tiny"
]
