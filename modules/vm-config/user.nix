# The agent's account, which cannot become root.
{ lib, ... }:
let
  policy = import ../../lib/policy;
  inherit (policy) user;
in
{
  config = {
    users = {
      # No password: only the host's key logs in.
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
