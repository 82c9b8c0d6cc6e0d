# One account, and no way from it to root.
{ lib, ... }:
let
  policy = import ../../lib/policy;
  inherit (policy) user;
in
{
  config = {
    users = {
      # Nobody logs in with one: the host's key is the only way in.
      allowNoPasswordLogin = true;
      users = {
        root.hashedPassword = lib.mkDefault "!";
        ${user.name} = {
          inherit (user) extraGroups;
          hashedPassword = lib.mkDefault "!";
          description = "Agent";
        };
      };
      groups.${user.name}.gid = user.gid;
    };
    security.sudo.enable = lib.mkDefault false;
    security.polkit.enable = lib.mkDefault false;
  };
}
