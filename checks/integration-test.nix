# A program that creates, uses and destroys a machine on this host, which a build sandbox cannot do.
{
  writeShellApplication,
  agent-vm,
  curl,
  git,
}:
writeShellApplication {
  name = "integration-test";
  runtimeInputs = [
    agent-vm
    curl
    git
  ];
  text = ''
    scratch=$(mktemp -d -t agent-vm-integration.XXXXXXXXXX)
    export HOME=$scratch/home XDG_DATA_HOME=$scratch/home/.local/share
    mkdir -p "$HOME" "$scratch/repository"
    finish() {
      status=$?
      agent-vm destroy --yes || :
      rm -rf -- "$scratch"
      [ "$status" = 0 ] || echo "integration-test: failed" >&2
      exit "$status"
    }
    cd "$scratch/repository"
    git init --quiet --initial-branch main
    git -c user.name=test -c user.email=test@localhost commit --quiet --allow-empty --message first
    trap finish EXIT

    agent-vm --timeout 900 "$@"
    # The second run finds the existing machine.
    agent-vm
    agent-vm exec -- sh -c 'echo from the guest >/workspace/seen; id -un'
    url=$(agent-vm status --json | tr -d ' \n' | sed 's/.*"mcp":{"url":"\([^"]*\)".*/\1/')
    keys=$(echo "$XDG_DATA_HOME"/agent-vms/*/tls)
    answers() {
      [ "$(curl --silent --max-time 20 --output /dev/null --write-out '%{http_code}' --cacert "$keys/ca.pem" "$@" "''${url%/mcp}/status")" = "$code" ]
    }
    code=200 answers --header "Authorization: Bearer $(cat "$keys/token")"
    code=401 answers
    agent-vm stop
    echo "integration-test: passed"
  '';
}
