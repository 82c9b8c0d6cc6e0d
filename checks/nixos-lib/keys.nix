# Keys of the tests' machines, and of nothing else.
{ pkgs }:
pkgs.runCommand "agent-vm-test-keys" { nativeBuildInputs = [ pkgs.openssh ]; } ''
  mkdir "$out"
  for name in host user stranger; do
    ssh-keygen -q -t ed25519 -N "" -C "$name" -f "$out/$name"
  done
''
