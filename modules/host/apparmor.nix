# One AppArmor profile for every process of a machine's unit. It has a name and no path, so that it does not apply to the QEMU
# of other services.
{
  config,
  lib,
  options,
  ...
}:
let
  cfg = config.services.agent-vms;
  instances = lib.filterAttrs (_: instance: instance.enable) cfg.instances;
  name = "agent-vm";

  rules = lib.concatMapStrings (instance: ''
    ${builtins.toJSON (instance.repository + "/")} r,
    ${builtins.toJSON (instance.repository + "/**")} r,
  '') (builtins.attrValues instances);

  profile = ''
    abi <abi/4.0>,
    include <tunables/global>

    profile ${name} flags=(attach_disconnected,mediate_deleted) {
      include <abstractions/base>
      include <abstractions/nameservice>

      # Programs come from the store only. Files that a machine writes are never executed on this host.
      /nix/store/** mrix,
      /run/current-system/sw/** mrix,
      /nix/var/nix/** r,
      /nix/var/nix/daemon-socket/socket rw,

      # QEMU's accelerator, and what virtiofsd needs in its namespaces.
      /dev/kvm rw,
      userns,
      mount,
      umount,
      pivot_root,
      capability sys_admin,
      capability sys_chroot,
      capability sys_ptrace,
      capability setpcap,
      capability net_admin,
      capability dac_override,
      capability fowner,

      network unix,
      network inet,
      network inet6,
      network netlink raw,
      signal peer=${name},
      ptrace read peer=${name},
      unix,

      @{PROC}/** rw,
      /sys/** r,
      /dev/{null,zero,full,random,urandom,tty,ptmx} rw,
      /dev/pts/* rw,
      /etc/** r,
      /{,run/}tmp/** rwk,
      /var/tmp/** rwk,
      /run/systemd/notify rw,
      /var/lib/${cfg.stateDirectory}/ r,
      owner /var/lib/${cfg.stateDirectory}/** rwkl,
      owner /var/cache/${cfg.stateDirectory}/** rwkl,
      # virtiofsd makes the workspace its root, so that the workspace's files have any path below /. It cannot have a profile of
      # its own, because NoNewPrivileges forbids a change of profile. The unit's mounts hide other files of the account, such as
      # homes.
      / r,
      owner /** rwkl,
      # bubblewrap's new root, before it becomes the root.
      /newroot/ r,
      /newroot/nix/store/{,**} r,
    ${rules}
      deny /home/*/.ssh/** rwkl,
      deny /root/** rwkl,
      deny /etc/shadow* rwkl,
      deny /etc/ssh/ssh_host_* rwkl,
    }
  '';

  # Releases up to 24.11 have `enable` and `enforce`, later ones `state`.
  policy = options.security.apparmor.policies.type.getSubOptions [ ];
in
{
  config = lib.mkIf (cfg.enable && cfg.apparmor.enable) {
    security.apparmor.policies.${name} = {
      inherit profile;
    }
    // (
      if policy ? state then
        { state = "enforce"; }
      else
        {
          enable = true;
          enforce = true;
        }
    );
    systemd.services = lib.mapAttrs' (
      instance: _: lib.nameValuePair "agent-vm-${instance}" { serviceConfig.AppArmorProfile = name; }
    ) instances;
  };
}
