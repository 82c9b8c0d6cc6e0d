# MCP servers by name that a Debian guest can have beside codemcp. Each has a directory of its own for its Python
# packages: their versions are its own, too.
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
      # Debian's.
      inherit packages;
      python = {
        directory = "${serversDirectory}/${name}";
        # Beside the builder.
        requirements = "servers/${name}.txt";
        programs."agent-mcp-${name}" = entry;
      };
      # As .mcp.json has it.
      settings = {
        command = "/usr/local/bin/agent-mcp-${name}";
      }
      // (if environment == { } then { } else { env = environment; });
    };
in
builtins.mapAttrs server {
  # Asks search.nixos.org: of use where the machine may go out.
  nixos.entry = "mcp_nixos.server:main";

  # mcp-selenium, which starts Chromium without its sandbox: that wants user namespaces, which a machine has not.
  browser = {
    entry = "server:main";
    packages = [
      "chromium"
      "chromium-driver"
    ];
    # Selenium takes this driver, and looks for and downloads no other.
    environment = {
      SE_CHROMEDRIVER = "/usr/bin/chromedriver";
      SE_OFFLINE = "true";
    };
  };
}
