# The clean-up of a host runs the real agent-vm. It removes a machine that is no longer declared, and keeps the commits that
# only the machine's workspace has.
{ pkgs, ... }:
{
  nodes.host = {
    imports = [ ../../modules/host.nix ];
    services.agent-vms.enable = true;
    environment.systemPackages = [
      pkgs.git
      pkgs.util-linux
    ];
    users.users.former = {
      isSystemUser = true;
      group = "users";
    };
  };
  testScript = ''
    host.wait_for_unit("multi-user.target")
    state = "/var/lib/agent-vms/gone"
    directory = f"{state}/app-main"
    host.succeed(f"install -d -o former -g users /srv/app && install -d -o former -g users -m 700 -D {state}")
    former = f"env HOME={state} setpriv --reuid former --regid users --clear-groups"
    git = f"{former} git -c user.name=t -c user.email=t@example.invalid"
    host.succeed(f"{git} -C /srv/app init -q -b main && {git} -C /srv/app commit -q --allow-empty -m one")
    host.succeed("echo '{\"branch\": \"main\"}' >/etc/gone.json")
    host.succeed(f"{former} agent-vm --state-dir {state} apply --create --source /srv/app --config /etc/gone.json")
    commit = host.succeed(
        f"cd {directory}/workspace && {git} commit -q --allow-empty -m 'only in the machine' && {git} rev-parse HEAD"
    ).strip()
    # Control: the repository does not have the commit.
    host.fail(f"{git} -C /srv/app cat-file -e {commit}")

    # Changed a moment ago: the machine stays.
    host.succeed("rm /etc/gone.json && systemctl start agent-vms-cleanup")
    host.succeed(f"test -d {directory}")
    host.succeed(f"find {state} -exec touch --no-dereference --date '-60 days' {{}} +")
    host.succeed("systemctl start agent-vms-cleanup")
    host.fail(f"test -e {directory}")
    bundle = host.succeed(f"ls {state}/.bundles/*").strip()
    heads = host.succeed(f"{git} bundle list-heads {bundle}")
    assert commit in heads, heads
    # The repository can fetch from the bundle.
    host.succeed(f"{git} -C /srv/app fetch -q {bundle} 'refs/*:refs/kept/*' && {git} -C /srv/app cat-file -e {commit}")
    assert host.succeed(f"stat -c %U {bundle}").strip() == "former"
  '';
}
