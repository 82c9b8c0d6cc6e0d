# System-wide git settings (/etc/gitconfig).
let
  user = import ./user.nix;
  workspace = import ./workspace.nix;
in
{
  # The share may show another owner than the user who runs git.
  safe.directory = workspace.path;
  # Only where the clone names nobody: an agent's commit must not fail for want of a name.
  user.name = "agent-vm";
  user.email = "${user.name}@localhost";
  init.defaultBranch = "main";
  # A commit in the guest must not wait for an editor or a pager that nobody sees.
  core.pager = "less -FRX";
}
