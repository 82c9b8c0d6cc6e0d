# Predefined servers, off by default: `services.agent-mcp.servers.<name>.enable = true`.
{
  lib,
  pkgs,
  ...
}:
let
  policy = import ../../lib/policy;

  # mcp-language-server serves one language server over MCP.
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
          # It runs in the workspace.
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
    # It queries search.nixos.org, so the machine's egress must allow that host.
    nixos = {
      enable = lib.mkDefault false;
      command = lib.mkDefault (lib.getExe pkgs.mcp-nixos);
    };
    # Selenium with its own Chromium. Chromium's sandbox needs user namespaces, which an agent machine forbids.
    browser = {
      enable = lib.mkDefault false;
      command = lib.mkDefault (
        lib.getExe (pkgs.mcp-selenium or (pkgs.callPackage ../packages/mcp-selenium.nix { }))
      );
    };
  };
}
