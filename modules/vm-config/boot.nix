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
    # The machine has no TPM, so systemd must not wait for one.
    // lib.optionalAttrs (options.boot.initrd.systemd ? tpm2) {
      tpm2.enable = lib.mkDefault false;
    };
    # Nothing is installed into a running machine. A changed guest is a new package.
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
    # systemd-oomd needs swap, which the machine does not have.
    systemd.oomd.enable = lib.mkDefault false;
    # The machine has no persistent store for pstore, and looking for one takes five seconds.
    systemd.services.mount-pstore.enable = lib.mkDefault false;
    systemd.services.systemd-pstore.enable = lib.mkDefault false;
    services.udisks2.enable = lib.mkDefault false;
    # For users of the run script's qga.sock (docs/reference/contract.md).
    services.qemuGuest.enable = lib.mkDefault true;
    environment.etc = {
      "systemd/system.conf.d/agent-vm.conf".text = unit { Manager = policy.manager; };
      "systemd/journald.conf.d/agent-vm.conf".text = unit { Journal = policy.journald; };
    };
    # The serial console is a log; nobody logs in there.
    systemd.services."serial-getty@ttyS0".enable = lib.mkDefault false;
    systemd.services."getty@tty1".enable = lib.mkDefault false;
    systemd.services."autovt@".enable = lib.mkDefault false;
  };
}
