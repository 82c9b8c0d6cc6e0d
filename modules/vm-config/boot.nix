# Headless, started by QEMU without a boot loader, and fast.
{
  lib,
  modulesPath,
  options,
  ...
}:
let
  policy = import ../../lib/policy;
  unit = import ../../lib/systemd-unit.nix;
in
{
  imports = [ "${modulesPath}/profiles/qemu-guest.nix" ];

  config = {
    boot.loader.grub.enable = lib.mkOverride 900 false;
    boot.initrd.systemd = {
      enable = lib.mkDefault true;
    }
    # There is no TPM to wait for.
    // lib.optionalAttrs (options.boot.initrd.systemd ? tpm2) {
      tpm2.enable = lib.mkDefault false;
    };
    # Nothing is installed into a running machine: a new guest is a new package.
    system.switch.enable = lib.mkDefault false;
    nix.enable = lib.mkDefault false;
    nix.channel.enable = lib.mkDefault false;

    documentation.enable = lib.mkDefault false;
    environment.defaultPackages = lib.mkDefault [ ];
    programs.command-not-found.enable = lib.mkDefault false;
    fonts.fontconfig.enable = lib.mkDefault false;
    xdg = {
      icons.enable = lib.mkDefault false;
      mime.enable = lib.mkDefault false;
      sounds.enable = lib.mkDefault false;
    };
    services.logrotate.enable = lib.mkDefault false;
    # There is no swap, without which it has nothing to go by.
    systemd.oomd.enable = lib.mkDefault false;
    # A machine has no persistent store, and one that is looked for takes five seconds to be missed.
    systemd.services.mount-pstore.enable = lib.mkDefault false;
    systemd.services.systemd-pstore.enable = lib.mkDefault false;
    services.udisks2.enable = lib.mkDefault false;
    # A way in beside ssh, for the host alone: it starts where QEMU has the port for it.
    services.qemuGuest.enable = lib.mkDefault true;
    environment.etc = {
      "systemd/system.conf.d/agent-vm.conf".text = unit { Manager = policy.manager; };
      "systemd/journald.conf.d/agent-vm.conf".text = unit { Journal = policy.journald; };
    };
    # The serial console is a log, not a way in.
    systemd.services."serial-getty@ttyS0".enable = lib.mkDefault false;
    systemd.services."getty@tty1".enable = lib.mkDefault false;
    systemd.services."autovt@".enable = lib.mkDefault false;
  };
}
