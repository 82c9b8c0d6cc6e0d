# A program that runs another one in a development shell.
{ lib, pkgs }:
let
  # Variables of the build itself: their values are gone afterwards, or the caller sets them.
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
    # Not exported, so not written to the file.
    result=$out
    unset ${lib.concatStringsSep " " ofTheBuild}
    # With structured attributes this is a plain bash variable.
    [ -z "''${shellHook:-}" ] || export shellHook
    export -p | ${pkgs.gnused}/bin/sed '/^declare -x [A-Za-z_][A-Za-z0-9_]*$/d' >"$result"
  '';

  # A derivation that builds the shell's environment, so that no evaluation has to wait for it.
  environmentOf =
    shell:
    if shell ? overrideAttrs then
      shell.overrideAttrs (old: {
        name = "${old.name or old.pname or "shell"}-environment";
        outputs = [ "out" ];
        buildCommand = writeEnvironment;
      })
    else
      # One without stdenv, as numtide's devshell makes it.
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
  Path of a program `in-dev-shell PROGRAM ARGUMENT…` that runs PROGRAM with the packages, variables and shellHook of
  `shell`, in the same process. What the shellHook prints goes to standard error.

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
