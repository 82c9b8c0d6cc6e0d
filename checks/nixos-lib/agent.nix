# An agent machine as a node of a NixOS test, with credentials as from a host.
{
  lib,
  options,
  pkgs,
  ...
}:
let
  policy = import ../../lib/policy;
  inherit (policy) credentials;
  keys = import ./keys.nix { inherit pkgs; };
  share = options.virtualisation.sharedDirectories.type.getSubOptions [ ];
  # A removed option still exists as an invisible placeholder.
  isBy9p = share ? securityModel && share.securityModel.visible or true != false;
  credential = name: file: toString (policy.qemu.credential name file);
in
{
  imports = [
    ../../modules/vm-config.nix
    ../../modules/vm-config/qemu-vm.nix
    ./as-dev.nix
  ];

  # The test must not use ports of the machine that runs it.
  agentVm.sshPort = null;
  agentVm.mcpPort = null;
  virtualisation = {
    memorySize = lib.mkForce 1536;
    cores = lib.mkForce 2;
    diskSize = lib.mkForce 1024;
    # For a 9p share: a Nix build cannot set extended attributes.
    sharedDirectories.workspace = lib.optionalAttrs isBy9p {
      securityModel = lib.mkForce "mapped-file";
    };
    qemu.options = [
      (credential credentials.sshHostKey "${keys}/host")
      (credential credentials.authorizedKeys "${keys}/user.pub")
      (credential credentials.rootKeys "${keys}/root.pub")
      (credential credentials.mcpCertificate "${keys}/mcp.pem")
      (credential credentials.mcpKey "${keys}/mcp.key")
      (credential credentials.mcpToken "${keys}/token")
      (credential credentials.mcpEndpoint "${keys}/endpoint")
      (credential credentials.egressAuthority "${keys}/ca.pem")
      (credential credentials.egressEnvironment "${keys}/environment")
      (credential credentials.timeZone "${pkgs.writeText "time-zone" "Europe/Berlin"}")
    ];
    # The test driver starts the machine itself.
    qemu.guestAgent.enable = false;
  };
  # The driver sets 2, which turns every kill by a memory limit into a panic.
  boot.kernel.sysctl."vm.panic_on_oom" = lib.mkForce 0;

  # A server that needs no other package.
  services.agent-mcp.servers.echo = {
    command = lib.getExe pkgs.python3;
    args = [ "${./echo_server.py}" ];
  };
}
