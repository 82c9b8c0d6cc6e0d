# Templates for `nix flake init -t`.
let
  welcome = command: ''
    Next:

        ${command}

    Comments in flake.nix explain each part.
  '';
in
{
  default = {
    path = ./default;
    description = "An agent machine with your own packages and MCP servers";
    welcomeText = welcome "nix build .#guest && ls result/share/agent-vm";
  };
  nixos-module = {
    path = ./nixos-module;
    description = "MCP servers for coding agents as a service of a NixOS machine";
    welcomeText = welcome "nixos-rebuild build --flake .#example";
  };
  host = {
    path = ./host;
    description = "A NixOS host that runs a machine for each of several branches";
    welcomeText = welcome "nixos-rebuild build --flake .#example";
  };
  fleet = {
    path = ./fleet;
    description = "Ten NixOS hosts that run agent machines, deployed with colmena";
    welcomeText = welcome "nix run nixpkgs#colmena -- build";
  };
  project = {
    path = ./project;
    description = "MCP servers with a project's development shell, on the host or in a machine";
    welcomeText = welcome "nix run .#dev-servers";
  };
}
