# The toolkit's own packages.
final: _prev: {
  agent-mcp = final.callPackage ./agent-mcp.nix { };
  agent-vm = final.callPackage ../../agent-vm-rs/package.nix { };
  codemcp = final.callPackage ./codemcp.nix { };
  mcp-selenium = final.callPackage ./mcp-selenium.nix { };
}
