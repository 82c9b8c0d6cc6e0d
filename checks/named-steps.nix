# Every step of `checks/run` (steps/NUMBER-NAME) as a check NAME. It runs the step itself, with programs from nixpkgs instead
# of those that scripts/setup installs.
{
  pkgs,
  # NixOS tests to run as the check `machines`: a build cannot download the Debian guest's packages.
  machines,
}:
let
  inherit (builtins)
    attrNames
    attrValues
    elem
    filter
    head
    listToAttrs
    match
    readDir
    substring
    ;
  inherit (pkgs) lib;

  # The repository without build outputs.
  source = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.difference ../. (
      lib.fileset.unions (
        map lib.fileset.maybeMissing [
          ../.git
          ../agent-vm-rs/target
        ]
      )
    );
  };

  python = pkgs.python3.withPackages (python: [
    python.mcp
    python.paramiko
    python.prometheus-client
    python.pyflakes
    (python.toPythonModule pkgs.mcp-proxy)
  ]);

  programs = [
    pkgs.bubblewrap
    pkgs.cargo
    pkgs.cargo-nextest
    pkgs.clippy
    pkgs.curl
    pkgs.deadnix
    pkgs.e2fsprogs
    pkgs.git
    pkgs.iproute2
    pkgs.jq
    pkgs.mitmproxy
    pkgs.mypy
    pkgs.nginx
    pkgs.nix
    pkgs.nixfmt
    pkgs.nodejs
    pkgs.openssh
    pkgs.openssl
    (lib.getOutput "cli" pkgs.prometheus)
    pkgs.procps
    pkgs.qemu-utils
    pkgs.rustc
    pkgs.rustfmt
    pkgs.rustPlatform.cargoSetupHook
    pkgs.shellcheck
    pkgs.util-linux
    python
  ];

  # Steps that may skip tests, because some tests cannot run in a build, or not for this system.
  maySkip = [ "rust-tests" ] ++ lib.optional (!pkgs.stdenv.hostPlatform.isx86_64) "setup-prefix";

  step =
    name: file:
    pkgs.stdenv.mkDerivation {
      name = "check-${name}";
      src = source;
      cargoRoot = "agent-vm-rs";
      cargoDeps = pkgs.rustPlatform.importCargoLock { lockFile = ../agent-vm-rs/Cargo.lock; };
      nativeBuildInputs = programs;
      # A build has no /usr/bin/env.
      postPatch = "patchShebangs checks scripts lib";
      dontConfigure = true;
      dontFixup = true;
      AGENT_VM_NIXPKGS = pkgs.path;
      AGENT_VM_CLIENTS_PYTHON = python;
      AGENT_VM_CLIENTS_NODE = pkgs.importNpmLock.buildNodeModules {
        npmRoot = ./clients;
        inherit (pkgs) nodejs;
      };
      buildPhase = ''
        export HOME=$TMPDIR/home
        mkdir "$HOME"
        # Steps list files with git.
        git init --quiet
        git add --all
        checks/run ${file} | tee "$TMPDIR/output"
      ''
      + lib.optionalString (!elem name maySkip) ''
        if grep '^skipped: ' "$TMPDIR/output"; then
          echo "error: this step must not skip tests in the flake's checks" >&2
          exit 1
        fi
      '';
      installPhase = "touch $out";
    };

  named = listToAttrs (
    map (
      file:
      let
        name = head (match "[0-9]+-(.*)" file);
      in
      {
        inherit name;
        value = step name file;
      }
    ) (filter (file: substring 0 1 file != ".") (attrNames (readDir ./steps)))
  );
in
named // { machines = pkgs.linkFarmFromDrvs "machines" (attrValues machines); }
