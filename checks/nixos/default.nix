# Every other file in this directory is a NixOS test, named after what it shows. The templates are checks too. Listing the
# names needs no nixpkgs.
{
  self,
  system,
  pkgs,
}:
let
  inherit (builtins)
    attrNames
    filter
    head
    listToAttrs
    match
    readDir
    ;

  claim =
    file:
    let
      name = head (match "(.*)\\.nix" file);
    in
    {
      inherit name;
      value = pkgs.testers.runNixOSTest {
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
        inherit name;
        # Emulated processors are slow.
        globalTimeout = pkgs.lib.mkDefault 1800;
      };
    };
  claims = map claim (
    filter (file: file != "default.nix" && match ".*\\.nix" file != null) (attrNames (readDir ./.))
  );

  # Each template as `nix flake init -t` copies it, with this toolkit instead of the published one.
  template =
    name:
    let
      value = self.templates.${name};
      flake = import "${value.path}/flake.nix";
      outputs = flake.outputs {
        self = outputs // {
          outPath = value.path;
        };
        agent-vm = self;
        inherit (self.inputs) nixpkgs;
      };
    in
    {
      name = "template-${name}";
      value = outputs.checks.${system}.default;
    };
in
# Templates and machines are for x86_64-linux.
if system == "x86_64-linux" then
  listToAttrs (claims ++ map template (attrNames self.templates))
else
  { }
