# QEMU's arguments. The host adds memory, processors, accelerator, control socket, credentials and the workspace device;
# see docs/reference/contract.md.
let
  network = import ./network.nix;
in
rec {
  # If AGENT_VM_QEMU is set, the runner starts that program instead: the QEMU that was found on the host and probed.
  binary = "qemu-system-x86_64";

  # Prefix of systemd credentials in fw_cfg (systemd.system-credentials(7)).
  credentialPrefix = "opt/io.systemd.credentials/";
  /**
    Arguments that pass a credential to the guest. `file`: path on the host.
  */
  credential = name: file: [
    "-fw_cfg"
    "name=${credentialPrefix}${name},file=${file}"
  ];

  # CPU models by accelerator.
  cpu = {
    kvm = "host";
    # Without features that are slow to emulate: five-level page tables, and wide registers to save at each task switch.
    tcg = "max,la57=off,avx=off,avx2=off,mpx=off,pku=off";
  };

  noUserConfig = "-no-user-config";

  # No default devices, and no configuration file of the host. agent-vm's KVM probe uses these arguments too.
  quiet = [
    "-nodefaults"
    noUserConfig
    "-display"
    "none"
    # A panic or a reboot ends QEMU, so that it is noticed and reported.
    "-no-reboot"
  ];

  # i8042 stays on, because ctrl-alt-delete is the power-off key.
  machine = [
    "-machine"
    "q35,usb=off,vmport=off,smm=off,hpet=off,sata=off,smbus=off,dump-guest-core=off"
  ];

  sandbox = [
    "-sandbox"
    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
  ];

  # Standard output is the serial console. signal=off: Ctrl-C on the console must not end QEMU.
  console = [
    "-chardev"
    "stdio,id=console,signal=off"
    "-serial"
    "chardev:console"
  ];

  # The hardware clock continues with the host's clock when the virtual machine or the host was paused; see clock.nix.
  clock = [
    "-rtc"
    "base=utc,clock=host"
  ];

  /**
    Virtio port for QEMU's guest agent, which the guest starts if the port exists. `socket`: path on the host.
  */
  guestAgent = socket: [
    "-device"
    "virtio-serial-pci"
    "-chardev"
    "socket,id=guest-agent,server=on,wait=off,path=${socket}"
    "-device"
    "virtserialport,chardev=guest-agent,name=org.qemu.guest_agent.0"
  ];

  random = [
    "-object"
    "rng-random,id=random,filename=/dev/urandom"
    "-device"
    "virtio-rng-pci,rng=random"
  ];

  # The guest reports memory that it has freed, and QEMU returns it to the host. `agent-vm set memory=…` takes memory from a
  # running guest by the same device.
  balloon = [
    "-device"
    "virtio-balloon-pci,id=balloon,free-page-reporting=on"
  ];

  /**
    User network without outgoing connections: restrict=on blocks the host's loopback, its resolver and the Internet, while
    port forwards from the host still work. `forwards`: text to append, "" or ",hostfwd=…".
  */
  net = forwards: [
    "-netdev"
    "user,id=net0,restrict=on,ipv6=off,net=${network.subnet},dhcpstart=${network.address}${forwards}"
    "-device"
    # No boot ROM, because the machine does not boot from the network.
    "virtio-net-pci,netdev=net0,romfile="
  ];

  /**
    The guest's read-only base image on NVMe, which the kernel finds without an initrd, and the machine's own disk on
    virtio-blk. With one disk on each bus, device names do not depend on the order of detection.
  */
  disks =
    { base, disk }:
    [
      "-drive"
      "if=none,id=base,format=raw,readonly=on,file=${base}"
      "-device"
      "nvme,serial=base,drive=base"
      "-drive"
      "if=none,id=disk,format=qcow2,discard=unmap,detect-zeroes=unmap,file=${disk}"
      "-device"
      "virtio-blk-pci,drive=disk"
    ];
  rootDevice = "/dev/nvme0n1";
  diskDevice = "/dev/vda";

  /**
    All arguments except kernel, initrd and kernel command line.
  */
  args =
    {
      base,
      disk,
      forwards,
    }:
    quiet
    ++ machine
    ++ sandbox
    ++ console
    ++ clock
    ++ random
    ++ balloon
    ++ net forwards
    ++ disks { inherit base disk; };
}
