# Predefined MCP servers of the Debian guest besides codemcp, off by default. Each has its own directory of Python packages,
# so that their versions do not conflict.
let
  inherit (import ./paths.nix) serversDirectory;
  server =
    name:
    {
      entry,
      packages ? [ ],
      environment ? { },
    }:
    {
      # Debian packages.
      inherit packages;
      python = {
        directory = "${serversDirectory}/${name}";
        # Relative to this directory.
        requirements = "servers/${name}.txt";
        programs."agent-mcp-${name}" = entry;
      };
      # Entry in the format of .mcp.json.
      settings = {
        command = "/usr/local/bin/agent-mcp-${name}";
      }
      // (if environment == { } then { } else { env = environment; });
    };
in
builtins.mapAttrs server {
  # It queries search.nixos.org, so the machine's egress must allow that host.
  nixos.entry = "mcp_nixos.server:main";

  # mcp-selenium, which starts Chromium without its sandbox: the sandbox needs user namespaces, which the machine forbids.
  browser = {
    entry = "server:main";
    packages = [
      "chromium"
      "chromium-driver"
    ];
    # Selenium uses this driver and downloads no other.
    environment = {
      SE_CHROMEDRIVER = "/usr/bin/chromedriver";
      SE_OFFLINE = "true";
    };
  };
}
