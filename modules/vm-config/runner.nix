# system.build.agentVm: the guest package of docs/reference/contract.md.
{
  config,
  pkgs,
  ...
}:
let
  policy = import ../../lib/policy;
  inherit (config.system.build) toplevel;
  inherit (pkgs.stdenv.hostPlatform) system;

  # From the guest's closure: the KVM probe tries the QEMU that runs the machine, independent of PATH.
  binary = "${pkgs.qemu_kvm}/bin/${policy.qemu.binary}";

  manifest = import ../../lib/manifest.nix {
    guest = "nixos";
    inherit binary;
    inherit system;
    inherit (config.agentVm) share;
    # Nix has built the image already.
    image = null;
    runner = "bin/run-agent-vm";
    kernel = "kernel";
    powerOff = "acpi";
  };

  script = import ../../lib/runner.nix {
    interpreter = pkgs.runtimeShell;
    inherit binary;
    kernel = "\"$package/kernel\"";
    initrd = "\"$package/initrd\"";
    parameters = [
      "init=${toplevel}/init"
    ]
    ++ config.boot.kernelParams;
    guestAgent = config.services.qemuGuest.enable;
  };

  closure = pkgs.closureInfo { rootPaths = [ toplevel ]; };
in
{
  config.system.build.agentVm =
    pkgs.runCommand "agent-vm-guest"
      {
        nativeBuildInputs = [
          pkgs.erofs-utils
          pkgs.gnutar
          pkgs.jq
        ];
        manifest = builtins.toJSON manifest;
        inherit script;
        passAsFile = [
          "manifest"
          "script"
        ];
        passthru = { inherit config; };
        meta = {
          description = "Agent machine for agent-vm";
          mainProgram = "run-agent-vm";
          platforms = [ "x86_64-linux" ];
        };
      }
      ''
        mkdir -p "$out/bin" "$out/share/agent-vm"
        cp "$scriptPath" "$out/bin/run-agent-vm"
        chmod +x "$out/bin/run-agent-vm"
        ln -s ${config.system.build.kernel}/${config.system.boot.loader.kernelFile} "$out/kernel"
        ln -s ${config.system.build.initialRamdisk}/${config.system.boot.loader.initrdFile} "$out/initrd"

        # Only the machine's own closure. Times and owners are fixed for a reproducible image.
        tar --create --absolute-names --verbatim-files-from \
          --transform 'flags=rSh;s|${builtins.storeDir}/||' \
          --files-from ${closure}/store-paths |
          mkfs.erofs --quiet --force-uid=0 --force-gid=0 -T 0 \
            -U 2e1ffd27-2b6c-4b6f-a8a3-0f6f9d2c9a51 -L ${policy.disk.storeLabel} \
            --tar=f "$out/base.img"

        # Values that agent-vm would refuse in a manifest are refused here.
        jq --exit-status --slurpfile expected ${../../lib/manifest-shape.json} '
          def shape: if type == "object" then map_values(shape) else type end;
          if shape == $expected[0] then . else error("the manifest has another shape than manifest-shape.json") end
        ' "$manifestPath" >"$out/share/agent-vm/manifest.json"
        for file in runner kernel; do
          test -e "$out/$(jq --raw-output ".$file" "$manifestPath")"
        done
        bash -n "$out/bin/run-agent-vm"
      '';
}
