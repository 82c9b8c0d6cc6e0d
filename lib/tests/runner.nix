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
  # A device more is a moment more of every boot.
  agentPortOnlyWhereAsked = {
    expr =
      map
        (
          guestAgent:
          contains "'virtserialport,chardev=guest-agent,name=org.qemu.guest_agent.0'" (
            import ../runner.nix {
              interpreter = "/bin/bash";
              binary = "/bin/qemu";
              kernel = "/kernel";
              parameters = [ ];
              inherit guestAgent;
            }
          )
        )
        [
          true
          false
        ]
      ++ [ (contains "guest_agent" spec.runner) ];
    expected = [
      true
      false
      false
    ];
  };
}
