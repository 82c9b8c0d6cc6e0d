# Guest packages from settings; see docs/contract.md.
{ nixosSystem }:
/**
  Guest package of a NixOS agent machine: `bin/run-agent-vm` and `share/agent-vm/manifest.json`.

  `system`: Nix system double. `share`: how /workspace is mounted, `virtiofs` or `9p`. `packages`: packages, or their
  names in nixpkgs (`"nodejs"`, `"python3Packages.numpy"`). `allowedOrigins`: web origins that may call the MCP
  endpoint, or null for the usual ones. `modules`: more NixOS modules.

  Type: attrset → derivation

  Example: mkAgentVm { system = "x86_64-linux"; packages = [ "nodejs" pkgs.git-lfs ]; share = "9p"; }
*/
{
  system,
  share ? "virtiofs",
  packages ? [ ],
  allowedOrigins ? null,
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
            (throw "mkAgentVm: ${builtins.toJSON package} in packages is not in nixpkgs")
            pkgs;
    in
    {
      agentVm = {
        inherit share;
        packages = map find packages;
      };
      services.agent-mcp = lib.mkIf (allowedOrigins != null) {
        allowedOrigin = null;
        inherit allowedOrigins;
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
        # The guest is made anew with each nixpkgs and keeps no state that another release wrote.
        system.stateVersion = lib.mkDefault lib.trivial.release;
      }
    )
  ]
  ++ modules;
}).config.system.build.agentVm
