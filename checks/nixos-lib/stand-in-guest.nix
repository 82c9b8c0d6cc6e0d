# The module of a host whose instances run the real agent-vm without a guest: in their guest package a program stands in for QEMU
# and the guest. Everything on the host is real: agent-vm, the units, the sandbox, virtiofsd, the port forwarders, the watcher.
#
# `instances`: as in services.agent-vms.
instances:
{ lib, pkgs, ... }:
let
  # The states of the guest's MCP servers, which agent-vm reads over ssh.
  servers = pkgs.writeText "servers.json" (
    builtins.toJSON {
      servers = [
        {
          name = "codemcp";
          state = "running";
          restarts = 0;
          exit_code = null;
          signal = null;
          why = null;
          last_line = null;
          calls = {
            count = 3;
            errors = 1;
            time_ms = 90;
          };
        }
      ];
      problems = [ ];
    }
  );

  manifest = lib.recursiveUpdate (import ../../lib/manifest.nix {
    guest = "nixos";
    inherit (pkgs.stdenv.hostPlatform) system;
    share = "virtiofs";
    image = null;
    runner = "bin/run-agent-vm";
    kernel = "kernel";
    powerOff = "acpi";
    # agent-vm looks for it, and uses it for the disk and for the probe of KVM.
    binary = "${pkgs.qemu_kvm}/bin/qemu-system-x86_64";
  }) { service.serversState = servers; };

  package =
    pkgs.runCommand "agent-vm-stand-in-guest"
      {
        meta.mainProgram = "run-agent-vm";
        manifest = builtins.toJSON manifest;
        script = ''
          #!${pkgs.runtimeShell}
          exec ${lib.getExe pkgs.python3} -B ${./stand_in_guest.py} "$@"
        '';
        passAsFile = [
          "manifest"
          "script"
        ];
      }
      ''
        mkdir -p $out/bin $out/share/agent-vm
        cp $manifestPath $out/share/agent-vm/manifest.json
        install -m 755 $scriptPath $out/bin/run-agent-vm
        touch $out/kernel
      '';

  # A login always succeeds, and a command "in the guest" runs on this host.
  ssh = pkgs.writeShellScriptBin "ssh" ''
    for last; do :; done
    case " $* " in
      *' -O '*) exit ;;
      *' -M '*)
        for word; do
          case $word in ControlPath=*) : >"''${word#*=}" ;; esac
        done
        exec sleep infinity ;;
    esac
    exec sh -c "$last"
  '';

  units = name: [
    "agent-vm-${name}"
    "agent-vm-${name}-metrics"
  ];
in
{
  imports = [ ../../modules/host.nix ];
  services.agent-vms = {
    enable = true;
    instances = lib.mapAttrs (_: settings: { guestPackage = package; } // settings) instances;
  };
  # Before the ssh of agent-vm's wrapper.
  systemd.services = lib.genAttrs (lib.concatMap units (builtins.attrNames instances)) (_: {
    path = [ ssh ];
  });
}
