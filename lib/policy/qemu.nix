# How QEMU is started. Memory, processors, accelerator, control socket, credentials and the workspace device are
# the host's to add; see docs/reference/contract.md.
let
  network = import ./network.nix;
in
rec {
  # The runner starts what AGENT_VM_QEMU names instead, if it is set: what agent-vm has found and tried.
  binary = "qemu-system-x86_64";

  # Before the name of a systemd credential, as systemd.system-credentials(7) looks for it in fw_cfg.
  credentialPrefix = "opt/io.systemd.credentials/";
  /**
    Arguments that hand a credential over; `file`: path on the host.
  */
  credential = name: file: [
    "-fw_cfg"
    "name=${credentialPrefix}${name},file=${file}"
  ];

  # The guest may be more careful about its processor than fast: without hardware help every feature is emulated.
  cpu = {
    kvm = "host";
    # Less to emulate: a level of every page walk, and wide registers to save at every switch of tasks.
    tcg = "max,la57=off,avx=off,avx2=off,mpx=off,pku=off";
  };

  noUserConfig = "-no-user-config";

  # Quiet: no device that is not named below, and no configuration file of the host's. The KVM probe has it, too.
  quiet = [
    "-nodefaults"
    noUserConfig
    "-display"
    "none"
    # A panic or a reboot ends QEMU: who started the machine sees it and says so.
    "-no-reboot"
  ];

  # i8042 stays: its ctrl-alt-delete is the power-off key.
  machine = [
    "-machine"
    "q35,usb=off,vmport=off,smm=off,hpet=off,sata=off,smbus=off,dump-guest-core=off"
  ];

  sandbox = [
    "-sandbox"
    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
  ];

  # Standard output is the serial console. signal=off: a ^C in it must not kill the machine.
  console = [
    "-chardev"
    "stdio,id=console,signal=off"
    "-serial"
    "chardev:console"
  ];

  /**
    Port of the guest agent, which the guest starts where it finds one; `socket`: path on the host.
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

  /**
    User network that reaches nothing: restrict=on closes the host's loopback, its resolver and the world, while
    forwards from the host still work. `forwards` is appended as it is: "" or ",hostfwd=…".
  */
  net = forwards: [
    "-netdev"
    "user,id=net0,restrict=on,ipv6=off,net=${network.subnet},dhcpstart=${network.address}${forwards}"
    "-device"
    # No boot ROM: nothing boots from the network.
    "virtio-net-pci,netdev=net0,romfile="
  ];

  /**
    Disks: the guest's read-only base on NVMe, which the kernel finds without an initrd, and the machine's own on
    virtio-blk. One disk a bus, so that neither name depends on which was found first.
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
    Everything but kernel and command line.
  */
  args =
    {
      base,
      disk,
      forwards,
    }:
    quiet ++ machine ++ sandbox ++ console ++ random ++ net forwards ++ disks { inherit base disk; };
}
