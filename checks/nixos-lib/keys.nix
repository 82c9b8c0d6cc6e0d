# Keys for the tests' machines. They are used nowhere else.
{ pkgs }:
pkgs.runCommand "agent-vm-test-keys"
  {
    nativeBuildInputs = [
      pkgs.openssh
      pkgs.openssl
    ];
    # The reverse proxy's settings, with the names of the tests' machines.
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
    for name in host user root stranger; do
      ssh-keygen -q -t ed25519 -N "" -C "$name" -f "$out/$name"
    done
    p256() { openssl ecparam -name prime256v1 -genkey -noout; }
    # A second authority that no machine trusts.
    for name in ca other-ca; do
      p256 >"$name.key"
      openssl req -x509 -new -key "$name.key" -days 3650 -subj "/CN=$name" \
        -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign -out "$out/$name.pem"
    done
    # AUTHORITY NAME SUBJECT-ALTERNATIVE-NAMES
    certificate() {
      p256 >"$out/$2.key"
      openssl req -new -key "$out/$2.key" -subj "/CN=$2" |
        openssl x509 -req -CA "$out/$1.pem" -CAkey "$1.key" -CAcreateserial -days 3650 -out "$out/$2.pem" \
          -extfile <(echo "subjectAltName=$3")
    }
    certificate ca mcp DNS:localhost,DNS:machine,DNS:one,DNS:two,IP:127.0.0.1
    certificate ca site DNS:client
    certificate other-ca other-site DNS:client
    echo TEST_SECRET=placeholder >"$out/environment"
    openssl rand -hex 32 >"$out/token"
    cp "$endpointPath" "$out/endpoint"
  ''
