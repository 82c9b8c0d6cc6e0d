# The branch's clone, shared by the host.
let
  safe = [
    "nosuid"
    "nodev"
    "noatime"
  ];
in
{
  path = "/workspace";
  tag = "workspace";
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
