# Keys of the tests' machines, and of nothing else.
{ pkgs }:
pkgs.runCommand "agent-vm-test-keys"
  {
    nativeBuildInputs = [
      pkgs.openssh
      pkgs.openssl
    ];
    # As the host describes an endpoint; the names are those of the tests' machines.
    endpoint = builtins.toJSON {
      tls = true;
      auth = true;
      hosts = [
        "localhost"
        "127.0.0.1"
        "machine"
        "one"
        "two"
      ];
    };
    passAsFile = [ "endpoint" ];
  }
  ''
    mkdir "$out"
    for name in host user stranger; do
      ssh-keygen -q -t ed25519 -N "" -C "$name" -f "$out/$name"
    done
    p256() { openssl ecparam -name prime256v1 -genkey -noout; }
    # A second authority, which has nothing to say.
    for name in ca other-ca; do
      p256 >"$name.key"
      openssl req -x509 -new -key "$name.key" -days 3650 -subj "/CN=$name" \
        -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign -out "$out/$name.pem"
    done
    p256 >"$out/mcp.key"
    openssl req -new -key "$out/mcp.key" -subj /CN=agent-vm |
      openssl x509 -req -CA "$out/ca.pem" -CAkey ca.key -CAcreateserial -days 3650 -out "$out/mcp.pem" \
        -extfile <(echo subjectAltName=DNS:localhost,DNS:machine,DNS:one,DNS:two,IP:127.0.0.1)
    openssl rand -hex 32 >"$out/token"
    cp "$endpointPath" "$out/endpoint"
  ''
