# Command lines of a machine's unit, and the file that declares the machine's settings.
{
  config,
  lib,
  modulesPath,
  pkgs,
}:
let
  cfg = config.services.agent-vms;
  limits = lib.importJSON ../../lib/policy/limits.json;
  nixosSystem =
    arguments:
    import "${modulesPath}/../lib/eval-config.nix" (
      {
        inherit lib;
        system = null;
      }
      // arguments
    );
  mkAgentVm = import ../../lib/mk-agent-vm.nix { inherit nixosSystem; };
in
name: instance:
let
  agentVm =
    arguments:
    [
      (lib.getExe cfg.package)
      "--state-dir"
      "/var/lib/${cfg.stateDirectory}/${name}"
      "--timeout"
      instance.startTimeout
      "--color"
      "never"
    ]
    ++ arguments;

  # Built with this host, from this host's packages.
  guest =
    if instance.guestPackage != null then
      instance.guestPackage
    else if instance.config != null then
      mkAgentVm {
        inherit (pkgs.stdenv.hostPlatform) system;
        inherit (instance) packages servers agents;
        modules = [
          { nixpkgs.pkgs = lib.mkDefault pkgs; }
          instance.config
        ];
      }
    else
      null;

  # The path stays when the contents change. When the declaration is removed from the configuration, so is the file.
  file = "agent-vms/${name}.json";
in
{
  inherit guest file;

  # The format of `agent-vm create --config`.
  settings = lib.filterAttrs (_: value: value != null) {
    inherit (instance)
      branch
      host
      port
      tls
      auth
      packages
      servers
      agents
      ttl
      ;
    inherit (instance.resources) memory cores disk;
    inherit (instance.egress) allow;
    disk_iops = instance.resources.diskIops;
    disk_bandwidth = instance.resources.diskBandwidth;
    network_bandwidth = instance.resources.networkBandwidth;
    workspace_size = instance.resources.workspaceSize;
    keep_free = instance.resources.keepFree;
    # The unit enforces these, and agent-vm reports them.
    cpu_quota = lib.mapNullable (
      quota:
      lib.max limits.cpu_quota.least (
        lib.min limits.cpu_quota.most (lib.toIntBase10 (lib.removeSuffix "%" quota))
      )
    ) instance.resources.cpuQuota;
    pids = lib.max limits.pids.least instance.resources.tasksMax;
    ssh_port = instance.sshPort;
    nix_args = instance.nixArgs;
    idle_timeout = instance.idleTimeout;
    egress = instance.egress.mode;
    host_proxy = instance.egress.hostProxy;
  };

  apply = agentVm [
    "apply"
    "--create"
    "--source"
    instance.repository
    "--config"
    "/etc/${file}"
  ];

  start = agentVm (
    [
      "start"
      "--foreground"
      "--source"
      instance.repository
      "--branch=${instance.branch}"
    ]
    ++ lib.optionals (guest != null) [
      "--guest-package"
      "${guest}"
    ]
  );
}
