# The script that starts QEMU.
{
  contains,
  guest,
  nineP,
  spec,
  ...
}:
let
  inherit (builtins) map match;
in
{
  nothingUnquoted = {
    expr = match ".*@[a-z]+@.*" spec.runner;
    expected = null;
  };
  initrdOnlyWhereNeeded = {
    expr = map (g: contains "-initrd" g.image.spec.runner) [
      guest
      nineP
    ];
    expected = [
      false
      true
    ];
  };
  kernelOfTheShare = {
    expr = nineP.image.spec.kernel.package;
    expected = "linux-image-amd64";
  };
}
