# Accounts and groups that an agent's programs must not run as.
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
  # Accounts of NixOS modules that this configuration may not enable.
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
    Returns why an agent must not run as an account, as the end of a sentence, or null if it may. Accounts of the system and
    of other services are refused. A person's account and one that the configuration declares for the agent are allowed.

    `units`: names of the services that may use the account.
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
      "which has all rights on this machine"
    else if account == "nobody" || lib.hasPrefix "nixbld" account then
      "which other programs run as too"
    else if isPersons then
      null
    else if
      lib.elem account (ofNixos ++ known)
      || config.ids.uids ? ${account}
      || lib.hasPrefix "systemd-" account
    then
      "an account of the system"
    else if others != { } then
      "the account of ${lib.head (builtins.attrNames others)}.service"
    else
      null;

  /**
    Returns why an agent must not have a group, as the end of a sentence, or null if it may.
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
      "a group that gives access to root's rights or to other users' data"
    else
      null;
}
