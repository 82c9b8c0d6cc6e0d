{
  lib,
  rustPlatform,
  bash,
  bubblewrap,
  coreutils,
  e2fsprogs,
  git,
  installShellFiles,
  makeWrapper,
  mitmproxy,
  nix,
  openssh,
  pkgsStatic,
  qemu_kvm,
  stdenv,
  systemd,
  util-linux,
  versionCheckHook,
  virtiofsd,
}:
let
  root = ../.;
  # What rendered flakes refer to, as `make install` puts it into share/agent-vm.
  toolkit = lib.fileset.toSource {
    inherit root;
    fileset = lib.fileset.unions [
      ../flake.nix
      ../flake.lock
      ../lib
      ../modules
      # The NixOS guest compiles the gateway.
      ./Cargo.toml
      ./Cargo.lock
      ./gateway
    ];
  };
  # For the Debian guest, whose image `lib/debian` builds.
  agent-mcp = pkgsStatic.callPackage ../modules/packages/agent-mcp.nix { };
in
rustPlatform.buildRustPackage (finalAttrs: {
  pname = "agent-vm";
  inherit ((lib.importTOML ./Cargo.toml).package) version;

  src = lib.fileset.toSource {
    inherit root;
    fileset = lib.fileset.unions [
      ./Cargo.toml
      ./Cargo.lock
      ./askama.toml
      # Cargo.toml names it.
      ./benches
      ./egress
      # A member of the workspace.
      ./gateway
      ./render
      ./src
      # Compiled in.
      ../lib/policy/agents/aider.json
      ../lib/policy/agents/claude.json
      ../lib/policy/agents/codex.json
      ../lib/policy/agents/gemini.json
      ../lib/policy/agents/opencode.json
      ../lib/policy/defaults.json
      ../lib/policy/egress-groups.json
      ../lib/policy/egress-modes.json
      ../lib/policy/grammar.json
      ../lib/policy/limits.json
      ../lib/policy/mcp.json
      ../lib/policy/ports.json
      ../lib/policy/user.json
      ../lib/policy/workspace.json
    ];
  };
  sourceRoot = "${finalAttrs.src.name}/agent-vm-rs";
  cargoLock.lockFile = ./Cargo.lock;

  nativeBuildInputs = [
    installShellFiles
    makeWrapper
  ];
  # The tests read the whole repository. The check `rust-tests` (checks/named-steps.nix) runs them.
  doCheck = false;

  postInstall = ''
    mkdir -p "$out/share"
    cp -R ${toolkit} "$out/share/agent-vm"
    chmod -R u+w "$out/share/agent-vm/lib/debian"
    install -D -t "$out/share/agent-vm/lib/debian/programs" ${lib.getExe agent-mcp}
    wrapProgram "$out/bin/agent-vm" \
      --set-default AGENT_VM_GUEST nixos \
      --set-default AGENT_VM_SOCKET_PROXYD ${systemd}/lib/systemd/systemd-socket-proxyd \
      --set-default AGENT_VM_TOOLKIT "$out/share/agent-vm" \
      --set-default AGENT_VM_VIRTIOFSD ${lib.getExe virtiofsd} \
      --suffix PATH : ${
        lib.makeBinPath [
          bash
          bubblewrap
          coreutils
          e2fsprogs
          git
          mitmproxy
          nix
          openssh
          qemu_kvm
          util-linux
        ]
      }
  ''
  + lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    mkdir pages
    "$out/bin/agent-vm" man pages
    installManPage pages/*.1
    for shell in bash zsh fish; do
      installShellCompletion --cmd agent-vm "--$shell" <("$out/bin/agent-vm" completions "$shell")
    done
  '';

  doInstallCheck = true;
  nativeInstallCheckInputs = [ versionCheckHook ];

  meta = {
    description = (lib.importTOML ./Cargo.toml).package.description;
    license = lib.licenses.mit;
    mainProgram = "agent-vm";
    platforms = lib.platforms.linux;
  };
})
