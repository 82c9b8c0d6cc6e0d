# services.agent-mcp.servers: the servers of the NixOS configuration. The workspace's own servers come from
# its .mcp.json.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  policy = import ../../lib/policy;
  cfg = config.services.agent-mcp;
  inherit (lib) mkOption types;
  checked = import ../types { inherit lib; };

  server =
    { name, ... }:
    {
      options = {
        enable = mkOption {
          type = types.bool;
          default = true;
          description = "Whether to serve this server.";
        };
        command = mkOption {
          type = checked.program;
          default = name;
          example = lib.literalExpression "lib.getExe pkgs.mcp-server-git";
          description = "Program that speaks MCP over standard input and output: a path, or a name that is looked up in `path`.";
        };
        args = mkOption {
          type = types.listOf types.str;
          default = [ ];
          description = "Arguments of the program.";
        };
        environment = mkOption {
          type = types.attrsOf types.str;
          default = { };
          description = "Environment variables of this server. They end up in the world-readable store.";
        };
        path = mkOption {
          type = types.listOf checked.programsOf;
          default = [ ];
          example = lib.literalExpression "[ pkgs.git ]";
          description = "Packages whose programs are prepended to this server's PATH.";
        };
        workingDirectory = mkOption {
          type = types.nullOr (types.strMatching "[^[:cntrl:]]+");
          default = null;
          example = "frontend";
          description = "Directory that the server runs in; a relative path is relative to the workspace. null for the workspace itself.";
        };
      };
    };

  # One wrapper program for each server, so that its arguments pass through JSON unchanged.
  program =
    name: value:
    pkgs.writeShellScript "agent-mcp-${name}" ''
      ${lib.optionalString (value.workingDirectory != null) ''
        cd -- ${lib.escapeShellArg value.workingDirectory} || exit
      ''}
      ${lib.optionalString (value.path != [ ]) ''
        export PATH=${lib.escapeShellArg (lib.makeBinPath value.path)}''${PATH:+:$PATH}
      ''}
      ${lib.concatStrings (
        lib.mapAttrsToList (
          variable: text: "export ${variable}=${lib.escapeShellArg text}\n"
        ) value.environment
      )}
      exec ${lib.escapeShellArgs ([ value.command ] ++ value.args)}
    '';

  enabled = lib.filterAttrs (_: value: value.enable) cfg.servers;
  named = removeAttrs enabled [ cfg.defaultServer ];
in
{
  options.services.agent-mcp = {
    servers = mkOption {
      type = checked.namedModules {
        module = server;
        example = "my-server";
        option = "command";
      };
      example = lib.literalExpression ''
        {
          git = {
            command = lib.getExe pkgs.mcp-server-git;
            args = [ "--repository" "." ];
          };
        }
      '';
      description = ''
        MCP servers by name. {option}`services.agent-mcp.defaultServer` answers at `${policy.agentMcp.mcpPath}`, the others at
        `${policy.agentMcp.serversPath}/<name>${policy.agentMcp.mcpPath}`. `codemcp` is enabled by default.
      '';
    };

    defaultServer = mkOption {
      type = types.str;
      default = policy.agentMcp.defaultServer;
      description = "Name of the server that answers at `${policy.agentMcp.mcpPath}`.";
    };

    serverPrograms = mkOption {
      type = types.attrsOf types.path;
      internal = true;
      readOnly = true;
      description = "Program of each enabled server.";
    };

    serversFile = mkOption {
      type = types.path;
      internal = true;
      readOnly = true;
      description = "All enabled servers except the default one, in Claude Code's format.";
    };
  };

  config.services.agent-mcp = {
    servers.codemcp = {
      command = lib.mkDefault (
        lib.getExe (pkgs.codemcp or (pkgs.callPackage ../packages/codemcp.nix { }))
      );
      path = [ pkgs.git ];
    };
    serverPrograms = lib.mapAttrs program enabled;
    serversFile = pkgs.writeText "agent-mcp-servers.json" (
      builtins.toJSON {
        mcpServers = lib.mapAttrs (name: _: { command = "${cfg.serverPrograms.${name}}"; }) named;
      }
    );
  };
}
