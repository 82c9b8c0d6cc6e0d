# Builds guest packages from settings; see docs/reference/contract.md.
{ nixosSystem }:
/**
  Returns the guest package of a NixOS agent machine: `bin/run-agent-vm` and `share/agent-vm/manifest.json`.

  `system`: Nix system double. `share`: how /workspace is mounted, `virtiofs` or `9p`. `packages`: packages, or their names in
  nixpkgs (`"nodejs"`, `"python3Packages.numpy"`). `allowedOrigins`: web origins that may call the MCP endpoint, or null for
  the default. `servers`: names of predefined MCP servers to enable (docs/how-to/packages-and-servers.md). `proxy`: what
  serves MCP over HTTP, `gateway` or `mcp-proxy`, or null for the default. `agents`: names of coding agents to install
  (docs/how-to/agents.md). `modules`: additional NixOS modules.

  Type: attrset → derivation

  Example: mkAgentVm { system = "x86_64-linux"; packages = [ "nodejs" pkgs.git-lfs ]; share = "9p"; }
*/
{
  system,
  share ? "virtiofs",
  packages ? [ ],
  allowedOrigins ? null,
  servers ? [ ],
  proxy ? null,
  agents ? [ ],
  modules ? [ ],
}:
let
  settings =
    { lib, pkgs, ... }:
    let
      find =
        package:
        if lib.isDerivation package then
          package
        else
          lib.attrByPath (lib.splitString "." package)
            (throw "mkAgentVm: packages has ${builtins.toJSON package}, which is not in nixpkgs. Find its name with `nix search nixpkgs NAME`, and write for example packages = [ \"nodejs\" ];")
            pkgs;
      inherit ((import ./policy).agentMcp) knownServers;
      known =
        name:
        if lib.elem name knownServers.nixos then
          name
        else
          throw "mkAgentVm: servers has ${builtins.toJSON name}, but the known ones are ${lib.concatStringsSep ", " knownServers.nixos}. Write for example servers = [ \"nixos\" ];";
      listOf =
        name: value:
        if lib.isList value then
          value
        else
          throw "mkAgentVm: ${name} is ${
            lib.generators.toPretty { } value
          }, which is not a list. Write ${name} = [ … ];";
    in
    {
      agentVm = {
        # `modules` may set another one.
        share = lib.mkDefault share;
        packages = map find (listOf "packages" packages);
        agents = listOf "agents" agents;
      };
      services.agent-mcp = {
        allowedOrigin = lib.mkIf (allowedOrigins != null) null;
        allowedOrigins = lib.mkIf (allowedOrigins != null) (listOf "allowedOrigins" allowedOrigins);
        proxy = lib.mkIf (proxy != null) proxy;
        servers = lib.genAttrs (map known (listOf "servers" servers)) (_: {
          enable = true;
        });
      };
    };
in
(nixosSystem {
  modules = [
    ../modules/vm-config.nix
    settings
    (
      { lib, ... }:
      {
        nixpkgs.hostPlatform = lib.mkDefault system;
        # The guest is rebuilt with each nixpkgs and keeps no state from another release.
        system.stateVersion = lib.mkDefault lib.trivial.release;
      }
    )
  ]
  ++ (
    if builtins.isList modules then
      modules
    else
      throw "mkAgentVm: modules is a ${builtins.typeOf modules}, where a list of NixOS modules is needed. Write modules = [ { … } ];"
  );
}).config.system.build.agentVm
