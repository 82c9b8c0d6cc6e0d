# MCP servers by name that a Debian guest can have beside codemcp. Each has a directory of its own for its Python
# packages: their versions are its own, too.
let
  inherit (import ./paths.nix) serversDirectory;
  server =
    name:
    { entry }:
    {
      python = {
        directory = "${serversDirectory}/${name}";
        # Beside the builder.
        requirements = "servers/${name}.txt";
        programs."agent-mcp-${name}" = entry;
      };
      # As .mcp.json has it.
      settings.command = "/usr/local/bin/agent-mcp-${name}";
    };
in
builtins.mapAttrs server {
  # Asks search.nixos.org: of use where the machine may go out.
  nixos.entry = "mcp_nixos.server:main";
}
