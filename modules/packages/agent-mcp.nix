# The MCP gateway, agent-vm-rs/gateway. A static build (pkgsStatic) also runs in the Debian guest.
{
  lib,
  rustPlatform,
}:
let
  crates = ../../agent-vm-rs;
in
rustPlatform.buildRustPackage (finalAttrs: {
  pname = "agent-mcp";
  inherit ((lib.importTOML (crates + "/gateway/Cargo.toml")).package) version;

  src = lib.fileset.toSource {
    root = ../..;
    fileset = lib.fileset.unions [
      (crates + "/Cargo.toml")
      (crates + "/Cargo.lock")
      (crates + "/gateway")
      # Compiled in.
      ../../lib/policy/grammar.json
      ../../lib/policy/mcp.json
    ];
  };
  sourceRoot = "${finalAttrs.src.name}/agent-vm-rs";
  # Cargo reads the manifest of agent-vm, the workspace's other package, and requires the files that it names.
  postPatch = ''
    mkdir src benches
    touch src/main.rs benches/render.rs
  '';
  cargoLock.lockFile = crates + "/Cargo.lock";
  cargoBuildFlags = [
    "--package"
    "agent-mcp"
  ];
  # Its tests need Python, and servers to test with. The check `rust-tests` (checks/named-steps.nix) runs them.
  doCheck = false;

  meta = {
    description = (lib.importTOML (crates + "/gateway/Cargo.toml")).package.description;
    license = lib.licenses.mit;
    mainProgram = "agent-mcp";
    platforms = lib.platforms.linux;
  };
})
