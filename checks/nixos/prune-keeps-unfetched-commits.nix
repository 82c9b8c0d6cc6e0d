# Machines whose declarations are removed from a host's configuration stop. Some days later the clean-up removes them with the
# real agent-vm, and keeps the commits that only their workspaces have. Their accounts are gone by then.
{ lib, pkgs, ... }:
let
  host = import ../nixos-lib/stand-in-guest.nix;
  instances = lib.mapAttrs (
    branch: _: {
      repository = "/srv/app";
      inherit branch;
      autostart = false;
      resources.memory = 256;
    }
  );
in
{
  nodes.host =
    { options, ... }:
    {
      imports = [
        (host (instances {
          declared = { };
        }))
      ];
      services.agent-vms.cleanup.keepDays = 7;
      specialisation.before.configuration.imports = [
        (host (instances {
          fetched = { };
          unfetched = { };
        }))
      ];
      # Off by default in tests of some releases.
      system = lib.optionalAttrs (options.system ? switch) { switch.enable = true; };
      virtualisation.memorySize = 2048;
      environment.systemPackages = [
        pkgs.git
        pkgs.procps
        pkgs.util-linux
      ];
    };
  testScript = ''
    names = ("declared", "fetched", "unfetched")
    host.wait_for_unit("multi-user.target")
    # For repositories of several accounts. Options of git do not reach the git that serves a fetch.
    host.succeed("git config --file /tmp/gitconfig safe.directory '*'")
    git = "env GIT_CONFIG_GLOBAL=/tmp/gitconfig git -c user.name=t -c user.email=t@example.invalid"
    repository = f"{git} -C /srv/app"
    host.succeed(f"install -d /srv/app && {repository} init -q -b main && {repository} commit -q --allow-empty -m one")

    def workspace(name: str) -> str:
        return f"/var/lib/agent-vms/{name}/app-{name}/workspace"

    def exists(name: str) -> bool:
        return host.succeed(f"test -d {workspace(name)} && echo yes || echo no").strip() == "yes"

    def clean_up() -> str:
        host.succeed("systemctl start agent-vms-cleanup")
        return host.succeed("journalctl --no-pager -o cat _SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID agent-vms-cleanup)")

    host.succeed("/run/booted-system/specialisation/before/bin/switch-to-configuration test")
    commits = {}
    users = {}
    for name in names:
        host.succeed(f"systemctl start agent-vm-{name}")
        users[name] = host.succeed(f"id -u agent-vm-{name}").strip()
        account = f"env HOME=/tmp setpriv --reuid agent-vm-{name} --regid agent-vm-{name} --clear-groups"
        host.succeed(f"{account} {git} -C {workspace(name)} commit -q --allow-empty -m 'in {name}'")
        commits[name] = host.succeed(f"{git} -C {workspace(name)} rev-parse HEAD").strip()
    host.succeed(f"{repository} fetch -q {workspace('fetched')} HEAD && {repository} branch fetched FETCH_HEAD")
    # Control: the repository has one of the commits.
    host.succeed(f"{repository} cat-file -e {commits['fetched']}")
    host.fail(f"{repository} cat-file -e {commits['unfetched']}")

    with subtest("machines without a declaration stop"):
        host.succeed("systemctl is-active agent-vm-unfetched agent-vm-fetched")
        host.succeed("/run/booted-system/bin/switch-to-configuration test")
        for name in ("fetched", "unfetched"):
            host.fail(f"test -e /etc/agent-vms/{name}.json")
            host.fail(f"id agent-vm-{name}")
            host.fail(f"pgrep -u {users[name]}")
        host.succeed("systemctl is-active agent-vm-declared && systemctl stop agent-vm-declared")

    with subtest("they stay as long as they have changed lately"):
        clean_up()
        assert all(exists(name) for name in names)
        host.succeed("find /var/lib/agent-vms -exec touch --no-dereference --date '-6 days' {} +")
        clean_up()
        assert all(exists(name) for name in names)

    with subtest("then they are removed"):
        host.succeed("find /var/lib/agent-vms -exec touch --no-dereference --date '-8 days' {} +")
        said = clean_up()
        assert [exists(name) for name in names] == [True, False, False], said

    with subtest("the commits that only a workspace had are kept"):
        host.fail("ls /var/lib/agent-vms/fetched/.bundles/*")
        bundle = host.succeed("ls /var/lib/agent-vms/unfetched/.bundles/*").strip()
        assert host.succeed(f"stat -c %u {bundle}").strip() == users["unfetched"]
        # The repository can fetch from the bundle.
        host.succeed(f"{repository} fetch -q {bundle} 'refs/*:refs/kept/*'")
        host.succeed(f"{repository} cat-file -e {commits['unfetched']}")
  '';
}
