# Runs MCP servers with a development shell's programs, on the host or in a machine.
{ nixosSystem }:
/**
  Returns a program `name` that serves a directory's MCP servers on 127.0.0.1 until it is interrupted. Its arguments are
  `[--port PORT] [--workspace DIR]`, by default 8000 and the current directory.

  `shell`: development shell whose packages, variables and shellHook the servers get. `pkgs`: the nixpkgs of `nixosSystem`.
  `servers`: like `services.agent-mcp.servers`. `useVM`: whether to run the servers in a virtual machine that sees only the
  directory, instead of on the host with the caller's rights. `modules`: additional NixOS modules; on the host, only their
  servers, origins and environment are used.

  Type: attrset → derivation

  Example: mkMCPDevServers { name = "dev-servers"; inherit pkgs; shell = pkgs.mkShell { packages = [ pkgs.nodejs ]; }; }
*/
{
  name,
  shell,
  pkgs,
  servers ? { },
  useVM ? false,
  modules ? [ ],
}:
let
  inherit (pkgs) lib;
  policy = import ./policy;
  inherit (policy) agentMcp credentials ports;

  # Options that are the same on this host and in a machine.
  settings = {
    nixpkgs = { inherit pkgs; };
    system.stateVersion = lib.mkDefault lib.trivial.release;
    services.agent-mcp = {
      enable = true;
      inherit shell servers;
    };
  };

  machine = nixosSystem {
    modules = [
      ../modules/vm-config.nix
      settings
      {
        # --port sets the port at run time, and ssh is not used.
        agentVm.mcpPort = null;
        agentVm.sshPort = null;
      }
    ]
    ++ modules;
  };

  host = nixosSystem {
    modules = [
      ../modules/agent-service.nix
      settings
    ]
    ++ modules;
  };
  # Only the settings of this system are read; it is never built.
  service = host.config.services.agent-mcp;

  inVM = ''
    state=$(mktemp -d -t ${lib.escapeShellArg name}.XXXXXXXXXX)
    trap 'rm -rf -- "$state"' EXIT
    mkdir "$state/run"
    export NIX_DISK_IMAGE=$state/disk.qcow2 USE_TMPDIR=1 TMPDIR=$state/run SHARED_DIR=$workspace
    # The token keeps other users of the host out. The port is on loopback, so TLS is not needed.
    (
      umask 077
      od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$state/token"
      printf '%s' ${
        lib.escapeShellArg (
          builtins.toJSON {
            tls = false;
            auth = true;
            hosts = [
              "localhost"
              "127.0.0.1"
            ];
          }
        )
      } >"$state/endpoint"
    )
    echo "The token for 'Authorization: Bearer TOKEN' is in $state/token" >&2
    # Relative to TMPDIR, since QEMU_OPTS is split at white space.
    QEMU_OPTS="''${QEMU_OPTS:+$QEMU_OPTS }${
      lib.concatMapStringsSep " " (file: toString (policy.qemu.credential file.name "../${file.value}")) [
        (lib.nameValuePair credentials.mcpToken "token")
        (lib.nameValuePair credentials.mcpEndpoint "endpoint")
      ]
    }"
    export QEMU_OPTS
    QEMU_NET_OPTS="hostfwd=tcp:127.0.0.1:$port-:${toString ports.mcp}''${QEMU_NET_OPTS:+,$QEMU_NET_OPTS}"
    export QEMU_NET_OPTS
    ${lib.getExe machine.config.system.build.vm} </dev/null &
    vm=$!
    trap 'kill "$vm" 2>/dev/null || :' INT TERM
    # A signal ends `wait` before the machine has ended.
    wait "$vm" || :
    wait "$vm" || :
  '';

  direct = ''
    RUNTIME_DIRECTORY=$(mktemp -d -t ${lib.escapeShellArg name}.XXXXXXXXXX)
    export RUNTIME_DIRECTORY
    trap 'rm -rf -- "$RUNTIME_DIRECTORY"' EXIT
    export ${
      lib.escapeShellArgs (
        agentMcp.pythonEnvironment
        ++ lib.mapAttrsToList (variable: value: "${variable}=${value}") service.extraEnvironment
      )
    }
    ${import ./in-dev-shell.nix { inherit lib pkgs; } shell} ${
      lib.escapeShellArgs (
        [ (lib.getExe service.package) ]
        ++ agentMcp.arguments {
          exe = {
            mcpProxy = if service.proxy == "mcp-proxy" then lib.getExe service.proxyPackage else null;
            codemcp = service.serverPrograms.${service.defaultServer};
          };
          default = service.defaultServer;
          serversFiles = [
            "${service.serversFile}"
          ]
          ++ lib.optional (service.mcpConfigFile != null) service.mcpConfigFile;
          # The program uses the last of two values.
          host = "127.0.0.1";
          origins = lib.unique (
            lib.optional (service.allowedOrigin != null) service.allowedOrigin ++ service.allowedOrigins
          );
        }
      )
    } --workspace="$workspace" --port="$port" &
    servers=$!
    trap 'kill "$servers" 2>/dev/null || :' INT TERM
    wait "$servers" || :
    wait "$servers" || :
  '';
in
pkgs.writeShellApplication {
  inherit name;
  # Values in single quotes are literal.
  excludeShellChecks = [ "SC2016" ];
  text = ''
    usage="usage: ${name} [--port PORT] [--workspace DIR]"
    port=${toString ports.mcp} workspace=$PWD
    while [ $# -gt 0 ]; do
      case $1 in
        --port=*) port=''${1#*=} ;;
        --workspace=*) workspace=''${1#*=} ;;
        --port | --workspace)
          [ $# -gt 1 ] || { echo "error: $1 needs a value; $usage" >&2; exit 2; }
          declare "''${1#--}=$2"
          shift ;;
        -h | --help) echo "$usage"; exit 0 ;;
        *) echo "error: unknown argument $1; $usage" >&2; exit 2 ;;
      esac
      shift
    done
    case $port in
      "" | *[!0-9]*) echo "error: --port $port is not a number; $usage" >&2; exit 2 ;;
    esac
    workspace=$(cd -- "$workspace" && pwd -P)
    echo "MCP: http://127.0.0.1:$port${agentMcp.mcpPath} (${
      if useVM then "in a virtual machine" else "on this host, with your rights"
    }; workspace $workspace)" >&2
    ${if useVM then inVM else direct}
  '';
  meta = {
    description = "MCP servers of a development shell${lib.optionalString useVM ", in a virtual machine"}";
    platforms = lib.platforms.linux;
  };
}
