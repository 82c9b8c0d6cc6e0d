# Accounts that an agent's programs must not run as.
{
  config,
  lib,
  modulesPath,
  options,
}:
let
  # Accounts that enabled parts of NixOS declare.
  ofNixos = lib.concatMap (
    definition:
    lib.optionals (lib.hasPrefix "${toString modulesPath}/" (toString definition.file)) (
      builtins.attrNames definition.value
    )
  ) options.users.users.definitionsWithLocations;
  # Some accounts of parts that are disabled.
  known = [
    "avahi"
    "bin"
    "daemon"
    "dhcpcd"
    "gdm"
    "git"
    "lightdm"
    "messagebus"
    "nginx"
    "nscd"
    "polkituser"
    "postgres"
    "redis"
    "rtkit"
    "sddm"
    "sshd"
    "tss"
    "unbound"
    "usbmux"
    "www-data"
  ];
in
{
  /**
    Why an account is not an agent's to run as, or null.

    `units`: names of services that may have the account. A person's own account is taken, and so is one that a configuration
    declares for this; accounts of the system and of other services are not.
  */
  obstacle =
    { account, units }:
    let
      isPersons = (config.users.users.${account} or { }).isNormalUser or false;
      others = lib.filterAttrs (
        name: service: !lib.elem name units && service.serviceConfig.User or null == account
      ) config.systemd.services;
    in
    if account == "root" then
      "which may do everything on this machine"
    else if account == "nobody" || lib.hasPrefix "nixbld" account then
      "which other programs run as, too"
    else if isPersons then
      null
    else if
      lib.elem account (ofNixos ++ known)
      || config.ids.uids ? ${account}
      || lib.hasPrefix "systemd-" account
    then
      "the account of a part of the system"
    else if others != { } then
      "the account of ${lib.head (builtins.attrNames others)}.service"
    else
      null;

  /**
    Why a group is not an agent's to have, or null.
  */
  groupObstacle =
    group:
    if
      lib.elem group [
        "adm"
        "disk"
        "docker"
        "incus-admin"
        "kmem"
        "libvirtd"
        "lxd"
        "nixbld"
        "podman"
        "root"
        "shadow"
        "sudo"
        "systemd-journal"
        "wheel"
      ]
    then
      "a group that leads to root's rights or to others' data"
    else
      null;
}
