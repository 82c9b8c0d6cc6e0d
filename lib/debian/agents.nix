# Coding agents of the Debian guest. Those from npm name only the package for x86_64 with glibc. For another version, change
# agents/NAME/package.json, and run there
#   npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved
# Those from PyPI have an `entry` point, and agents/NAME/requirements.in says how to compile their lock file.
let
  policy = import ../policy;
  inherit (import ./paths.nix) agentsDirectory;
  node = import ./node.nix;
in
/**
  Returns what the agents with these names add to the guest: their installations from `npm` and from PyPI (`python`), and
  `links` of the former's programs and of the Node that runs some of them.

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
  fromPython = builtins.filter (name: agents.${name}.debian ? entry) names;
  fromNpm = builtins.filter (name: !(agents.${name}.debian ? entry)) names;
  programs =
    builtins.listToAttrs (
      map (name: {
        name = agents.${name}.command;
        value = "${at name}/${agents.${name}.debian.program}";
      }) fromNpm
    )
    // (if fromNpm == [ ] || hasNode then { } else node.programs);
in
{
  python = map (name: {
    directory = at name;
    requirements = "agents/${name}/requirements.txt";
    programs.${agents.${name}.command} = agents.${name}.debian.entry;
  }) fromPython;
  npm = map (
    name:
    node.installation {
      directory = at name;
      lock = "agents/${name}";
      inherit (agents.${name}.debian) program;
    }
  ) fromNpm;
  links = builtins.listToAttrs (
    map (name: {
      name = "/usr/local/bin/${name}";
      value = programs.${name};
    }) (builtins.attrNames programs)
  );
}
