# The branch's clone, shared by the host.
let
  user = import ./user.nix;
  path = "/workspace";
  safe = [
    "nosuid"
    "nodev"
    "noatime"
  ];
in
{
  inherit path;
  # However it is shared.
  mountOptions = safe;
  tag = "workspace";
  claimUnit = "workspace-owner.service";
  /**
    Command that gives the workspace's files to the agent's user; `exe`: paths of `find` and `chown`.
  */
  claim =
    exe:
    # -: a link made on the host cannot be given an owner.
    "-${exe.find} ${path} -xdev ! -user ${user.name} -exec ${exe.chown} --no-dereference ${user.name}:${user.name} {} +";
  shares = {
    virtiofs = {
      fsType = "virtiofs";
      options = safe;
      modules = [ "virtiofs" ];
      # The daemon on the host maps owners.
      claim = false;
    };
    "9p" = {
      fsType = "9p";
      # cache=mmap: the host edits these files too, so nothing but mapped pages may be kept.
      options = safe ++ [
        "trans=virtio"
        "version=9p2000.L"
        "msize=512000"
        "cache=mmap"
      ];
      modules = [
        "9pnet_virtio"
        "9p"
      ];
      # Files show the owner they have on the host, and an owner given to them in the guest is only noted beside them
      # (mapped-xattr). So the guest gives them to its user once it is up.
      claim = true;
    };
  };
}
