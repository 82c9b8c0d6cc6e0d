# The agent fetches, pulls and pushes with the copy that `origin` leads to, and the host reads what it pushed. New commits
# of the host reach the copy, and nothing else of the workspace changes.
{
  nodes.machine = ../nixos-lib/agent.nix;
  testScript = ''
    machine.wait_for_unit("agent-mcp.service")
    identity = "-c user.name=host -c user.email=host@example.invalid"
    copy = "/workspace/.git/origin.git"

    def agent(command: str) -> str:
        return machine.succeed(f"as-dev 'export HOME=/home/dev; cd /workspace && {command}'").strip()

    # The host's repository, and the workspace that agent-vm makes of it.
    machine.succeed("git init -q -b main /srv/host && cd /srv/host && echo one >file && git add file")
    machine.succeed(f"git -C /srv/host {identity} commit -q -m one")
    machine.succeed("git -C /srv/host bundle create -q /tmp/one main")
    agent("git clone -q -b main /tmp/one .")
    agent(f"git clone -q --bare . {copy} && git config remote.origin.url file://{copy} && git config push.autoSetupRemote true")

    # The agent's git.
    agent("git fetch -q && git ls-remote -q --exit-code origin main")
    agent("git switch -q -c fix && echo two >>file && git commit -q -am two && git push -q")
    # Without an identity of the host, the commits have the agent's.
    assert agent("git log -1 --format=%ae") == "dev@localhost"
    assert agent("git rev-parse --abbrev-ref @{upstream}") == "origin/fix"
    assert agent("git status --porcelain") == ""
    pushed = machine.shared_dir / ".git" / "origin.git" / "refs" / "heads" / "fix"
    assert pushed.read_text().strip() == agent("git rev-parse HEAD")
    # Control: a repository of another user is refused, so the settings allow only the workspace.
    refused = machine.fail("as-dev 'git -C /srv/host status' 2>&1")
    assert "dubious ownership" in refused, refused

    # The host's newer commits.
    machine.succeed(f"cd /srv/host && echo three >other && git add other && git {identity} commit -q -m three")
    machine.succeed("git -C /srv/host bundle create -q /tmp/three main~1..main")
    before = agent("git rev-parse HEAD main")
    agent(f"cd {copy} && git fetch -q /tmp/three main:main")
    assert agent("git rev-parse HEAD main") == before
    agent("git switch -q main && git pull -q --ff-only && test -e other")
    assert agent("git rev-parse HEAD") == machine.succeed("git -C /srv/host rev-parse main").strip()
  '';
}
