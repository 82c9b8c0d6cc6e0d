# The manifest describes a guest to agent-vm. docs/reference/contract.md describes its fields.
let
  policy = import ./policy;
in
{
  guest,
  system,
  share,
  image,
  runner,
  kernel,
  powerOff,
  networkMark ? null,
  # Program that root's sessions run first.
  rootSetup ? null,
  binary ? policy.qemu.binary,
}:
{
  version = 1;
  inherit
    guest
    system
    image
    runner
    kernel
    powerOff
    networkMark
    rootSetup
    ;
  qemu = {
    inherit binary;
    inherit (policy.qemu) cpu;
    start = {
      quiet = policy.qemu.quiet ++ policy.qemu.sandbox;
      inherit (policy.qemu) credentialPrefix;
    };
  };
  user = {
    inherit (policy.user) name uid gid;
  };
  workspace = {
    inherit (policy.workspace) path tag;
    inherit share;
  };
  ports = {
    inherit (policy.ports) ssh mcp;
  };
  service = {
    inherit (policy.agentMcp)
      unit
      mcpPath
      ssePath
      healthPath
      serversPath
      serversState
      ;
    gateUnit = policy.mcpReverseProxy.unit;
    inherit (policy.mcpReverseProxy) renewalPath;
  };
  egress = {
    inherit (policy.egress) port;
    groups = map (name: {
      inherit name;
      hosts = policy.egress.groups.${name};
    }) (builtins.attrNames policy.egress.groups);
  };
  inherit (policy) credentials;
  disk = {
    inherit (policy.disk) label;
  };
}
