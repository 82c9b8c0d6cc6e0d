# Script that makes the system's directories writable for root: changes are on the machine's disk, over the read-only image.
let
  policy = import ../policy;
  paths = import ./paths.nix;
  inherit (policy) egress;
in
''
  # With the argument `boot`, only if root has used it before. Needs util-linux, tar and gzip.
  set -eu
  image=$(cat ${paths.imageId})
  changes=${paths.changes}/$image
  [ "''${1-}" != boot ] || [ -d "$changes" ] || exit 0
  exec 9>/run/agent-vm-writable.lock
  flock 9

  if [ ! -d "$changes" ]; then
    # What root changed over another image would not fit this one.
    rm -rf ${paths.changes} /var/lib/dpkg
    mkdir -p -m 0700 ${paths.changes}
    tar -C / -xzf ${paths.packageState}
    mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial /var/cache/debconf /var/log/apt
    mkdir "$changes"
  fi
  for dir in etc opt root usr; do
    ! mountpoint -q "/$dir" || continue
    mkdir -p "$changes/$dir" "$changes/.$dir"
    chmod --reference="/$dir" "$changes/$dir"
    # nosuid: a package's setuid programs give nobody root's rights.
    mount -t overlay -o "nosuid,nodev,noatime,lowerdir=/$dir,upperdir=$changes/$dir,workdir=$changes/.$dir" changes "/$dir"
    # The overlay on /etc hides it.
    if [ "$dir" = etc ] && [ -e ${egress.authorities} ]; then
      mount --bind ${egress.authorities} ${egress.bundle}
    fi
  done
''
