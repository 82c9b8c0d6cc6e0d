# Predefined servers, off by default: `services.agent-mcp.servers.<name>.enable = true`. One with a command of the
# configuration's own is on, like any other server.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  policy = import ../../lib/policy;
  cfg = config.services.agent-mcp;
  # Without the service, its account is not declared.
  home = config.users.users.${cfg.user}.home or policy.user.home;
  named = policy.namedServers cfg.workspaceDir;

  # mcp-language-server serves one language server over MCP.
  languageServer =
    {
      command,
      arguments ? [ ],
      package,
    }:
    {
      command = lib.getExe pkgs.mcp-language-server;
      args = [
        "--workspace"
        # It runs in the workspace.
        "."
        "--lsp"
        command
      ]
      ++ lib.optionals (arguments != [ ]) ([ "--" ] ++ arguments);
      path = [ package ];
    };

  predefined =
    {
      command,
      args ? [ ],
      path ? [ ],
      environment ? { },
    }:
    { options, ... }:
    {
      enable = lib.mkDefault (options.command.highestPrio < (lib.mkDefault null).priority);
      command = lib.mkDefault command;
      args = lib.mkDefault args;
      environment = lib.mapAttrs (_: lib.mkDefault) environment;
      inherit path;
    };
in
{
  config.services.agent-mcp.servers = lib.mapAttrs (_: predefined) (
    lib.getAttrs policy.agentMcp.knownServers.nixos {
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
      nixos.command = lib.getExe pkgs.mcp-nixos;
      # Selenium with its own Chromium. Chromium's sandbox needs user namespaces, which an agent machine forbids.
      browser.command = lib.getExe (
        pkgs.mcp-selenium or (pkgs.callPackage ../packages/mcp-selenium.nix { })
      );
      playwright = {
        command = lib.getExe pkgs.playwright-mcp;
        args = named.playwright.arguments home ++ [
          "--executable-path=${lib.getExe pkgs.chromium}"
        ];
      };
      git = {
        command = lib.getExe pkgs.mcp-server-git;
        args = named.git.arguments;
        path = [ pkgs.git ];
      };
      filesystem = {
        command = lib.getExe pkgs.mcp-server-filesystem;
        args = named.filesystem.arguments;
      };
      memory = {
        command = lib.getExe pkgs.mcp-server-memory;
        environment = named.memory.environment home;
      };
      fetch.command = lib.getExe pkgs.mcp-server-fetch;
      time.command = lib.getExe pkgs.mcp-server-time;
    }
  );
}
