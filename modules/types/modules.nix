# Modules of another NixOS system.
{ lib }:
let
  inherit (lib) types;
  inherit (import ./checked.nix { inherit lib; }) kindOf;

  # What the flake's nixosConfigurations have.
  isSystem = value: lib.isAttrs value && value ? config && value ? options && value ? pkgs;
  isModule =
    value:
    !lib.isDerivation value
    && !isSystem value
    && (lib.isAttrs value || lib.isFunction value || lib.isPath value);
  isRight = value: isModule value || (lib.isList value && lib.all isModule value);

  modules = types.coercedTo (types.listOf types.raw) (imports: {
    inherit imports;
  }) types.deferredModule;
in
{
  /**
    A NixOS module, or a list of them, for a system other than the one that has the option.

    `package`: name of the option that takes a built system in its place.

    Type: { package; } → option type
  */
  systemModules =
    { package }:
    modules
    // {
      description = "NixOS module, or a list of them";
      check = _: true;
      # The modules are not options of this system, which would rebuild the type from its parts.
      getSubOptions = _: { };
      getSubModules = null;
      merge =
        loc: defs:
        let
          wrong = lib.findFirst (def: !isRight def.value) null defs;
          option = lib.showOption loc;
          instead = lib.showOption (lib.init loc ++ [ package ]);
        in
        if wrong == null then
          modules.merge loc defs
        else if isSystem wrong.value then
          throw ''
            ${option} is a whole NixOS system where modules are needed. Write for example
              ${instead} = nixosConfigurations.NAME.config.system.build.agentVm;
            It is defined in ${toString wrong.file}.''
        else if lib.isDerivation wrong.value then
          throw ''
            ${option} is a package where NixOS modules are needed. Write for example
              ${instead} = the-package;
            It is defined in ${toString wrong.file}.''
        else
          throw ''
            ${option} is ${kindOf wrong.value} where NixOS modules are needed. Write for example
              ${option} = { pkgs, ... }: { agentVm.packages = [ pkgs.nodejs ]; };
            It is defined in ${toString wrong.file}.'';
    };
}
