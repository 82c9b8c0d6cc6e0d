# Fake packages for a nixpkgs that has only `lib/` and `nixos/`: each is an empty derivation, so that modules evaluate. The
# results cannot be built.
{
  lib,
  # Possible package names, taken from the modules' text.
  words,
  system ? "x86_64-linux",
}:
let
  # `with pkgs;` must not shadow `lib`.
  names = builtins.filter (word: word != "" && !(lib ? ${word})) words;
  platform = lib.systems.elaborate system;

  package =
    name: attributes:
    let
      self =
        derivation {
          inherit system;
          name = builtins.unsafeDiscardStringContext (lib.strings.sanitizeDerivationName name);
          builder = "/no-builder";
          # A text's contents determine its store path, as in nixpkgs.
          contents = builtins.toJSON (attributes.contents or "");
        }
        // lib.genAttrs [
          "bin"
          "data"
          "debug"
          "dev"
          "doc"
          "fd"
          "info"
          "lib"
          "man"
          "out"
          "terminfo"
        ] (_: self)
        // {
          inherit name;
          pname = name;
          version = "999";
          meta.mainProgram = name;
          override = _: self;
          overrideAttrs = _: self;
          passthru = { };
          # Some attributes are functions that return packages.
          __functor = self: _: self;
          dynamicLinker = "/lib/ld.so";
          compressorExecutableFunction = _: "gzip";
          compressorArgs = [ ];
          shellPath = "/bin/${name}";
          interfaceVersion = 2;
          enabledCryptSchemeIds = [ ];
          enablePrivSep = false;
          withPackages = _: self;
          interpreter = "/bin/${name}";
        }
        // lib.genAttrs [
          "ga"
          "kbd"
          "kmod"
          "login"
          "mount"
          "swap"
          "su"
          "util-linux"
          "unbundled"
        ] (_: self)
        // removeAttrs attributes [ "contents" ];
    in
    self;

  text = name: contents: package (lib.strings.sanitizeDerivationName name) { inherit contents; };

  kernel = package "linux" {
    modDirVersion = "999";
    features = { };
    config = lib.genAttrs [ "isSet" "isEnabled" "isYes" "isModule" ] (_: _: true) // {
      isNo = _: false;
    };
    kernelOlder = _: false;
    kernelAtLeast = _: true;
  };
  kernels = lib.genAttrs names (name: package name { }) // {
    inherit kernel;
    extend = _: kernels;
  };
  format = _: {
    type = lib.types.anything;
    lib.types.atom = lib.types.anything;
    generate = text;
  };

  pkgs = lib.genAttrs names (name: package name { }) // {
    _type = "pkgs";
    inherit lib system;
    path = "/no-nixpkgs";
    config = { };
    overlays = [ ];
    stdenv = {
      inherit (platform)
        is64bit
        isAarch64
        isDarwin
        isLinux
        isi686
        isx86_32
        isx86_64
        ;
      hostPlatform = platform;
      buildPlatform = platform;
      cc = package "cc" { bintools = package "bintools" { }; };
      shell = "/bin/sh";
      inherit system;
      mkDerivation = attributes: package (attributes.name or attributes.pname) { };
    };
    hostPlatform = platform;
    appendOverlays = _: pkgs;
    extend = _: pkgs;
    buildPackages = pkgs;
    pkgsBuildBuild = pkgs;
    __splicedPackages = pkgs;
    callPackage =
      file: arguments:
      let
        function = if lib.isFunction file then file else import file;
      in
      function (builtins.intersectAttrs (lib.functionArgs function) pkgs // arguments);
    runtimeShell = "/bin/sh";
    runCommand =
      name: environment: command:
      package name (
        removeAttrs environment [ "passthru" ] // environment.passthru or { } // { contents = command; }
      );
    runCommandLocal = pkgs.runCommand;
    runCommandCC = pkgs.runCommand;
    pkgsStatic = pkgs;
    pkgsi686Linux = pkgs;
    unixtools = pkgs;
    writeText = text;
    writeTextDir = name: text (baseNameOf name);
    writeScript = text;
    writeScriptBin = text;
    writeShellScript = text;
    writeShellScriptBin = text;
    writeTextFile = file: text file.name file.text;
    writeShellApplication = file: text file.name file.text;
    buildEnv = environment: package environment.name { };
    symlinkJoin = environment: package environment.name { };
    linkFarm = text;
    closureInfo = { rootPaths }: text "closure-info" (map toString rootPaths);
    formats = lib.genAttrs [
      "json"
      "yaml"
      "toml"
      "ini"
      "keyValue"
      "gitIni"
      "iniWithGlobalSection"
      "systemd"
    ] (_: format);
    glibcLocales = package "glibc-locales" { override = _: package "glibc-locales" { }; };
    linux = kernel;
    linuxPackages = kernels;
    linuxPackages_latest = kernels;
    linuxPackagesFor = _: kernels;
    linuxKernel = {
      packages = lib.genAttrs names (_: kernels);
      packagesFor = _: kernels;
    };
    python3 = package "python3" { pkgs = pkgs.python3Packages; };
    python3Packages = lib.genAttrs names (name: package name { }) // {
      buildPythonApplication = attributes: package attributes.pname { };
      pythonOlder = _: false;
    };
    rustPlatform.buildRustPackage = attributes: package (lib.fix attributes).pname { };
    nixosTests = { };
  };
in
pkgs
