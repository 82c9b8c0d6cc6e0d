# Coding agents of the Debian guest. Each names only the package for x86_64 with glibc. For another version, change
# agents/NAME/package.json, and run there
#   npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved
let
  policy = import ../policy;
  inherit (import ./paths.nix) agentsDirectory;
  node = import ./node.nix;
in
/**
  Returns what the agents with these names add to the guest: `npm`, their installations, and `links` of their programs and of
  the Node that runs some of them.

  `packages`: names of the guest's Debian packages. Debian's own Node takes precedence over that of the agents.

  Type: attrset → attrset
*/
{ names, packages }:
let
  at = name: "${agentsDirectory}/${name}";
  inherit (policy) agents;
  hasNode = builtins.any (name: builtins.elem name packages) [
    "nodejs"
    "npm"
  ];
  programs =
    builtins.listToAttrs (
      map (name: {
        name = agents.${name}.command;
        value = "${at name}/${agents.${name}.debian.program}";
      }) names
    )
    // (if names == [ ] || hasNode then { } else node.programs);
in
{
  npm = map (
    name:
    node.installation {
      directory = at name;
      lock = "agents/${name}";
      inherit (agents.${name}.debian) program;
    }
  ) names;
  links = builtins.listToAttrs (
    map (name: {
      name = "/usr/local/bin/${name}";
      value = programs.${name};
    }) (builtins.attrNames programs)
  );
}
