# System-wide git settings (/etc/gitconfig).
let
  user = import ./user.nix;
  workspace = import ./workspace.nix;
in
{
  # The shared files may have another owner than the user who runs git, which git refuses by default.
  safe.directory = workspace.path;
  # Used if the clone sets no name, so that an agent's commit does not fail.
  user.name = "agent-vm";
  user.email = "${user.name}@localhost";
  init.defaultBranch = "main";
  # As `git lfs install --system` writes it. The hooks of LFS belong to a repository.
  filter.lfs = {
    clean = "git-lfs clean -- %f";
    smudge = "git-lfs smudge -- %f";
    process = "git-lfs filter-process";
    required = true;
  };
  # A machine that cannot reach the LFS server checks out the pointer, and a branch all the same.
  lfs.skipdownloaderrors = true;
  # -F: do not page output that fits on one screen.
  core.pager = "less -FRX";
}
