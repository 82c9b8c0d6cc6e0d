# The builder's path, and hashes of the builder and the files that it installs.
let
  # Copied to a separate store path: with lazy trees, the flake's own path may not exist on disk.
  lib = "${../.}";

  hashesOf =
    dir:
    let
      entries = builtins.readDir dir;
      wanted = builtins.filter (name: match name) (builtins.attrNames entries);
      # Without Python's caches, and without Nix files, because their result is in the spec.
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
  hashes = hashesOf ./.;
}
