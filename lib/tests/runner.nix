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
  argumentsAreForQemu = {
    expr = contains "QEMU_OPTS:-" spec.runner && contains " \"$@\"\n" spec.runner;
    expected = true;
  };
  # The KVM probe and the runner must use the same QEMU.
  binaryIsFromTheManifest = {
    expr = contains "AGENT_VM_QEMU:-${guest.qemu.binary}" spec.runner;
    expected = true;
  };
  # Each device makes the boot slower.
  guestAgentPortIsOptional = {
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
