# A program that runs another program in a development shell.
{ lib, pkgs }:
let
  # Variables that are valid only during the build, or that the caller sets.
  ofTheBuild = [
    "HOME"
    "NIX_BUILD_CORES"
    "NIX_BUILD_TOP"
    "NIX_ENFORCE_PURITY"
    "NIX_LOG_FD"
    "NIX_REMOTE"
    "NIX_SSL_CERT_FILE"
    "NIX_STORE"
    "OLDPWD"
    "PWD"
    "SHELL"
    "SHLVL"
    "SSL_CERT_FILE"
    "TEMP"
    "TEMPDIR"
    "TERM"
    "TMP"
    "TMPDIR"
    "TZ"
    "allowSubstitutes"
    "buildCommand"
    "buildCommandPath"
    "buildPhase"
    "builder"
    "name"
    "out"
    "outputs"
    "passAsFile"
    "phases"
    "preferLocalBuild"
    "system"
  ];

  writeEnvironment = ''
    # A plain variable, because `out` is unset with the others.
    result=$out
    unset ${lib.concatStringsSep " " ofTheBuild}
    # With structured attributes, shellHook is not exported.
    [ -z "''${shellHook:-}" ] || export shellHook
    export -p | ${pkgs.gnused}/bin/sed '/^declare -x [A-Za-z_][A-Za-z0-9_]*$/d' >"$result"
  '';

  # A derivation that writes the shell's environment to a file at build time, not during evaluation.
  environmentOf =
    shell:
    if shell ? overrideAttrs then
      shell.overrideAttrs (old: {
        name = "${old.name or old.pname or "shell"}-environment";
        outputs = [ "out" ];
        buildCommand = writeEnvironment;
      })
    else
      # A shell without stdenv, such as numtide's devshell.
      derivation (
        removeAttrs shell.drvAttrs [ "outputs" ]
        // {
          name = "${shell.name}-environment";
          builder = pkgs.runtimeShell;
          args = [
            "-ec"
            writeEnvironment
          ];
        }
      );
in
/**
  Returns the path of a program `in-dev-shell PROGRAM ARGUMENT…` that executes PROGRAM with the packages, variables and
  shellHook of `shell`. The output of the shellHook goes to standard error.

  Type: derivation → path

  Example: inDevShell (pkgs.mkShell { packages = [ pkgs.nodejs ]; shellHook = "export A=1"; })
*/
shell:
pkgs.writeShellScript "in-dev-shell" ''
  path=''${PATH-}
  source ${environmentOf shell}
  PATH=$PATH''${path:+:$path}
  if [ -n "''${shellHook:-}" ]; then
    hook=$shellHook
    unset shellHook
    eval "$hook" >&2
  fi
  exec "$@"
''
