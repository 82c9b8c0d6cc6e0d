# The mount of the branch's clone, which the host shares.
let
  user = import ./user.nix;
  # In JSON, because agent-vm reads it too.
  inherit (builtins.fromJSON (builtins.readFile ./workspace.json)) path;
  safe = [
    "nosuid"
    "nodev"
    "noatime"
  ];
in
{
  inherit path;
  # Mount options with either share.
  mountOptions = safe;
  tag = "workspace";
  claimUnit = "workspace-owner.service";
  /**
    Command that changes the owner of the workspace's files to the agent's user. `exe`: paths of `find` and `chown`.
  */
  claim =
    exe:
    # `-` ignores failures: the owner of a symbolic link that was created on the host cannot be changed.
    "-${exe.find} ${path} -xdev ! -user ${user.name} -exec ${exe.chown} --no-dereference ${user.name}:${user.name} {} +";
  shares = {
    virtiofs = {
      fsType = "virtiofs";
      options = safe;
      modules = [ "virtiofs" ];
      # virtiofsd on the host maps owners.
      claim = false;
    };
    "9p" = {
      fsType = "9p";
      # cache=mmap: cache nothing except mapped pages, because the host changes these files too.
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
      # Files appear with their owner on the host, so the guest changes the owner after boot. With mapped-xattr, the new
      # owner is stored in an extended attribute, and the file on the host is unchanged.
      claim = true;
    };
  };
}
