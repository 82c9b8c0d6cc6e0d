# Every other file in this directory is a NixOS test named by its claim. `packages` and the templates are checks too.
{
  self,
  pkgs,
  packages,
}:
let
  inherit (pkgs) lib;
  inherit (pkgs.stdenv.hostPlatform) system;

  claims =
    lib.mapAttrs'
      (
        file: _:
        lib.nameValuePair (lib.removeSuffix ".nix" file) (
          pkgs.testers.runNixOSTest {
            imports = [
              (./. + "/${file}")
              # Without KVM the tests are slow but pass. Releases before 26.05 have no option for that.
              (
                { lib, options, ... }:
                {
                  config = lib.optionalAttrs (options ? requiredFeatures) {
                    requiredFeatures.kvm = lib.mkDefault false;
                  };
                }
              )
            ];
            name = lib.removeSuffix ".nix" file;
            # Emulated processors are slow.
            globalTimeout = lib.mkDefault 1800;
          }
        )
      )
      (
        removeAttrs (lib.filterAttrs (file: _: lib.hasSuffix ".nix" file) (builtins.readDir ./.)) [
          "default.nix"
        ]
      );

  # The Rust package with another build command.
  cargo =
    name: tools: command:
    packages.agent-vm.overrideAttrs (old: {
      pname = "agent-vm-${name}";
      nativeBuildInputs = old.nativeBuildInputs ++ tools;
      buildPhase = command;
      installPhase = "touch $out";
      postInstall = "";
      doCheck = false;
      doInstallCheck = false;
    });

  # Each template as `nix flake init -t` copies it, with this toolkit instead of the published one.
  template =
    name: value:
    let
      flake = import "${value.path}/flake.nix";
      outputs = flake.outputs {
        self = outputs // {
          outPath = value.path;
        };
        agent-vm = self;
        inherit (self.inputs) nixpkgs;
      };
    in
    lib.nameValuePair "template-${name}" outputs.checks.${system}.default;
in
# Templates and machines are for x86_64-linux.
lib.optionalAttrs (system == "x86_64-linux") (claims // lib.mapAttrs' template self.templates)
// {
  agent-vm = packages.agent-vm;
  agent-vm-clippy = cargo "clippy" [
    pkgs.clippy
  ] "cargo clippy --offline --all-targets -- --deny warnings";
  agent-vm-fmt = cargo "fmt" [ pkgs.rustfmt ] "cargo fmt --check";
  options-are-documented = pkgs.callPackage ../options.nix { };
  run-script-is-closed = import ../run-script.nix {
    inherit pkgs;
    inherit (self.inputs.nixpkgs.lib) nixosSystem;
  };
}
