# One profile for all that a machine's unit starts. By name and not by path: QEMU of other services is none of ours.
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

      # Programs come from the store and nowhere else: what a machine writes is never run on this host.
      /nix/store/** mrix,
      /run/current-system/sw/** mrix,
      /nix/var/nix/** r,
      /nix/var/nix/daemon-socket/socket rw,

      # QEMU's accelerator and what virtiofsd does in its own namespaces.
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
      # virtiofsd makes the workspace its root, so that its files are at / for it, called what the guest likes. A profile of
      # its own it cannot have: NoNewPrivileges lets nobody leave this one. What else the account owns on this host, as
      # homes, is kept from it by the unit's mounts.
      / r,
      owner /** rwkl,
      # bubblewrap's, before it is the root.
      /newroot/ r,
      /newroot/nix/store/{,**} r,
    ${rules}
      deny /home/*/.ssh/** rwkl,
      deny /root/** rwkl,
      deny /etc/shadow* rwkl,
      deny /etc/ssh/ssh_host_* rwkl,
    }
  '';

  # `enable` and `enforce` until 24.11, `state` since.
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
