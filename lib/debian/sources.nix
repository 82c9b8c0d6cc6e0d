# The builder and the files that it installs, with their hashes.
let
  # One store path of its own: with a lazily copied flake, a path inside the flake need not exist on disk.
  lib = "${../.}";

  hashesOf =
    dir:
    let
      entries = builtins.readDir dir;
      wanted = builtins.filter (name: match name) (builtins.attrNames entries);
      # Without Python's caches and the Nix files, whose result is in the spec.
      match = name: builtins.match "__pycache__|tests|.*\\.(pyc|nix|in)" name == null;
    in
    builtins.listToAttrs (
      map (name: {
        inherit name;
        value =
          if entries.${name} == "directory" then
            hashesOf (dir + "/${name}")
          else
            builtins.hashFile "sha256" (dir + "/${name}");
      }) wanted
    );
in
{
  builder = "${lib}/debian/build-image";
  hashes = {
    debian = hashesOf ./.;
    guest = hashesOf ../guest;
  };
}
