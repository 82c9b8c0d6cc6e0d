# Returns the script of every NixOS test and the names of its nodes as { <test> = { script; nodes; }; }. Needs no nixpkgs:
# scripts use only the paths of packages, which are fake here.
let
  inherit (builtins)
    attrNames
    concatStringsSep
    filter
    functionArgs
    intersectAttrs
    isFunction
    listToAttrs
    mapAttrs
    match
    readDir
    ;

  package = name: {
    outPath = "/nix/store/${name}";
    inherit name;
    type = "derivation";
    meta.mainProgram = name;
  };
  # The names that the scripts use. Add a new one here if its evaluation fails.
  pkgs = {
    inherit lib;
    runCommand =
      name: _: _:
      package name;
    writeText = name: _: package name;
    writeShellScript = name: _: package name;
    writeShellScriptBin = name: _: package name;
    writeShellApplication = { name, ... }: package name;
  }
  // listToAttrs (
    map
      (name: {
        inherit name;
        value = package name;
      })
      [
        "busybox-sandbox-shell"
        "openssh"
        "openssl"
        "python3"
      ]
  );
  lib = {
    inherit (builtins) attrNames concatStringsSep filter;
    assertMsg = condition: message: condition || throw message;
    getExe = program: "${program}/bin/${program.meta.mainProgram}";
    getExe' = program: name: "${program}/bin/${name}";
    concatStrings = concatStringsSep "";
    subtractLists = out: filter (item: !builtins.elem item out);
    mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
  };

  call = f: if isFunction f then f (intersectAttrs (functionArgs f) { inherit lib pkgs; }) else f;
  of =
    file:
    let
      test = call (import file);
    in
    {
      script =
        if isFunction test.testScript then
          test.testScript {
            nodes = mapAttrs (_: _: throw "a script reads the configuration of a node") test.nodes;
          }
        else
          test.testScript;
      nodes = attrNames test.nodes;
    };
  files = filter (name: name != "default.nix" && match ".*\\.nix" name != null) (
    attrNames (readDir ../nixos)
  );
in
listToAttrs (
  map (name: {
    inherit name;
    value = of (../nixos + "/${name}");
  }) files
)
