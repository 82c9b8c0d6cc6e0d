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
      modules = [ "9pnet_virtio" "9p" ];
    };
  };
}
