# Returns the outputs that flake.nix lacks and the output paths that do not exist. Needs no nixpkgs.
let
  outputs = (import ../flake.nix).outputs {
    self = outputs;
    nixpkgs = {
      lib = {
        genAttrs =
          names: f:
          builtins.listToAttrs (
            map (name: {
              inherit name;
              value = f name;
            }) names
          );
        nixosSystem = throw "listing the outputs evaluates nixpkgs";
      };
      legacyPackages = throw "listing the outputs evaluates nixpkgs";
    };
  };

  systems = [
    "aarch64-linux"
    "x86_64-linux"
  ];
  wanted = {
    # Every step of checks/run, without its number.
    checks = builtins.concatMap (
      step: if builtins.substring 0 1 step == "." then [ ] else builtins.match "[0-9]+-(.*)" step
    ) (builtins.attrNames (builtins.readDir ./steps));
    apps = [
      "agent"
      "agent-direct"
      "agent-vm"
      "default"
      "integration-test"
    ];
    devShells = [ "default" ];
    packages = [
      "agent-vm"
      "codemcp"
      "default"
    ];
  };
  missing = names: set: builtins.filter (name: !(set ? ${name})) names;
  ofEachSystem =
    output: names:
    builtins.concatMap (
      system:
      map (name: "${output}.${system}.${name}") (missing names (outputs.${output}.${system} or { }))
    ) systems;
  files =
    output: pathOf:
    map (name: "${output}.${name}") (
      builtins.filter (name: !(builtins.pathExists (pathOf outputs.${output}.${name}))) (
        builtins.attrNames outputs.${output}
      )
    );
in
builtins.concatMap (output: ofEachSystem output wanted.${output}) (builtins.attrNames wanted)
++ map (system: "formatter.${system}") (missing systems outputs.formatter)
++ map (name: "nixosModules.${name}") (
  missing [ "agent-service" "default" "host" "vm-config" ] outputs.nixosModules
)
++ files "nixosModules" (path: path)
++ map (name: "templates.${name}") (
  missing [ "default" "fleet" "host" "nixos-module" "project" ] outputs.templates
)
++ files "templates" (template: template.path + "/flake.nix")
++ map (name: "lib.${name}") (missing [ "mkAgentVm" "mkMCPDevServers" "policy" ] outputs.lib)
++ map (name: "overlays.${name}") (missing [ "default" ] outputs.overlays)
