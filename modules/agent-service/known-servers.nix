# Servers by name, to be switched on: `services.agent-mcp.servers.<name>.enable = true`. Off, they cost nothing.
{
  lib,
  pkgs,
  ...
}:
let
  policy = import ../../lib/policy;

  # mcp-language-server puts one language's own server behind MCP.
  languageServer =
    {
      command,
      arguments ? [ ],
      package,
    }:
    {
      enable = lib.mkDefault false;
      command = lib.mkDefault (lib.getExe pkgs.mcp-language-server);
      args = lib.mkDefault (
        [
          "--workspace"
          # It starts in the workspace, wherever that is.
          "."
          "--lsp"
          command
        ]
        ++ lib.optionals (arguments != [ ]) ([ "--" ] ++ arguments)
      );
      path = [ package ];
    };
in
{
  config.services.agent-mcp.servers = lib.getAttrs policy.agentMcp.knownServers.nixos {
    nix-language = languageServer {
      command = "nixd";
      package = pkgs.nixd;
    };
    rescript-language = languageServer {
      command = "rescript-language-server";
      arguments = [ "--stdio" ];
      package = pkgs.rescript-language-server;
    };
    # It asks search.nixos.org, so it needs a way out of the machine.
    nixos = {
      enable = lib.mkDefault false;
      command = lib.mkDefault (lib.getExe pkgs.mcp-nixos);
    };
    # Selenium with a Chromium of its own. Chromium's sandbox wants user namespaces, which an agent machine has not.
    browser = {
      enable = lib.mkDefault false;
      command = lib.mkDefault (
        lib.getExe (pkgs.mcp-selenium or (pkgs.callPackage ../packages/mcp-selenium.nix { }))
      );
    };
  };
}
