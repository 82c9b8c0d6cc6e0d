{
  description = "Every git branch gets its own virtual machine for coding agents and their MCP servers";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs = _: {
    # Plain builtins: evaluates without fetching nixpkgs.
    lib = import ./lib;
  };
}
