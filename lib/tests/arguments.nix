# Arguments of the Debian guest; invalid ones are refused.
{
  debianGuest,
  throws,
  attempt,
  contains,
  spec,
  packagesOf,
  ...
}:
let
  inherit (builtins)
    attrNames
    fromJSON
    elem
    map
    ;
in
{
  packageNames = {
    expr = map (name: attempt (elem name (packagesOf [ name ]))) [
      "make"
      "g++"
      "libc6.1-dev"
      "0ad"
    ];
    expected = [
      true
      true
      true
      true
    ];
  };
  hostilePackageNames = {
    expr = map (name: attempt (packagesOf [ name ])) [
      ""
      "a"
      "-o=x"
      "make gcc"
      "make,gcc"
      "Make"
      "make\n"
      "make/unstable"
      "make:i386"
      "make=1"
      "$(id)"
      "é"
      7
      null
      [ "make" ]
    ];
    expected = map (_: throws) (builtins.genList (n: n) 15);
  };
  packagesMustBeAList = {
    expr = attempt (debianGuest {
      packages = "make";
    });
    expected = throws;
  };
  packagesAreSortedAndUnique = {
    expr =
      packagesOf [
        "zsh"
        "git"
        "zsh"
      ] == builtins.sort builtins.lessThan (spec.packages ++ [ "zsh" ]);
    expected = true;
  };
  # Tools for which the documentation relies on the guest.
  commonToolsAreInstalled = {
    expr = map (name: elem name spec.packages) [
      "make"
      "python3-venv"
      "python3-pip"
      "gcc"
    ];
    expected = [
      true
      true
      true
      false
    ];
  };
  predefinedServersAreInstalledAndConfigured = {
    expr =
      let
        inherit
          (debianGuest {
            servers = [
              "nixos"
              "browser"
            ];
          })
          image
          ;
      in
      [
        (map (installation: installation.requirements) image.spec.python.installations)
        (attrNames (fromJSON image.spec.files."/etc/agent-mcp/servers.json".text).mcpServers)
        (contains "--servers-file=/etc/agent-mcp/servers.json"
          image.spec.files."/etc/systemd/system/agent-mcp.service".text
        )
        (spec.files ? "/etc/agent-mcp/servers.json")
      ];
    expected = [
      [
        "requirements.txt"
        "servers/browser.txt"
        "servers/nixos.txt"
      ]
      [
        "browser"
        "nixos"
      ]
      true
      false
    ];
  };
  # Servers from npm run with the Node of the image, which is not on the agent's PATH.
  serversFromNpmAreInstalledWithTheirNode = {
    expr =
      let
        inherit
          ((debianGuest {
            servers = [
              "memory"
              "time"
              "filesystem"
            ];
            agents = [ "codex" ];
          }).image
          )
          spec
          ;
        without = (debianGuest { servers = [ "memory" ]; }).image.spec;
        servers = (fromJSON spec.files."/etc/agent-mcp/servers.json".text).mcpServers;
        inherit (builtins) head;
      in
      {
        npm = map (installation: installation.lock) spec.npm.installations;
        python = map (installation: installation.requirements) spec.python.installations;
        inherit (servers.memory) env;
        node = servers.filesystem.command == spec.npm.node;
        args =
          servers.filesystem.args == [
            (head (builtins.filter (i: i.lock == "servers/filesystem") spec.npm.installations)).program
            "/workspace"
          ];
        onPath = map (it: it.links ? "/usr/local/bin/node") [
          without
          spec
        ];
      };
    expected = {
      npm = [
        "agents/codex"
        "servers/filesystem"
        "servers/memory"
      ];
      python = [
        "requirements.txt"
        "servers/time.txt"
        "node.txt"
      ];
      env.MEMORY_FILE_PATH = "/home/dev/.mcp-memory.jsonl";
      node = true;
      args = true;
      onPath = [
        false
        true
      ];
    };
  };
  # If it found Node, each page would start `npm install`.
  theFetchServerFindsNoProgram = {
    expr =
      (fromJSON
        (debianGuest { servers = [ "fetch" ]; }).image.spec.files."/etc/agent-mcp/servers.json".text
      ).mcpServers.fetch.env;
    expected.PATH = "/nonexistent";
  };
  serversWithChromiumRelaxTheSandbox = {
    expr =
      let
        parts =
          servers:
          let
            inherit ((debianGuest { inherit servers; }).image) spec;
          in
          [
            (builtins.elem "chromium" spec.packages)
            (contains "ProcSubset=" spec.files."/etc/systemd/system/agent-mcp.service".text)
            (contains "ProcSubset=" spec.files."/etc/systemd/system/agent-mcp-gate.service".text)
            (contains "SystemCallFilter=~@privileged @resources\nSystemCallFilter=capset\n"
              spec.files."/etc/systemd/system/agent-mcp.service".text
            )
          ];
      in
      map parts [
        [ ]
        [ "desktop-commander" ]
        [ "browser" ]
        [ "playwright" ]
      ];
    expected = [
      [
        false
        true
        true
        false
      ]
      [
        false
        true
        true
        false
      ]
      [
        true
        false
        true
        true
      ]
      [
        true
        false
        true
        true
      ]
    ];
  };
  unknownServers = {
    expr =
      map
        (
          servers:
          attempt (debianGuest {
            inherit servers;
          })
        )
        [
          [ "x" ]
          [ "../nixos" ]
          "nixos"
          [ 1 ]
        ];
    expected = [
      throws
      throws
      throws
      throws
    ];
  };
  unknownShare = {
    expr =
      map
        (
          share:
          attempt (debianGuest {
            inherit share;
          })
        )
        [
          "nfs"
          null
          { }
        ];
    expected = [
      throws
      throws
      throws
    ];
  };
  unknownSystem = {
    expr = attempt (debianGuest {
      system = "riscv64-linux";
    });
    expected = throws;
  };
  origins = {
    expr =
      map
        (
          origin:
          attempt (debianGuest {
            allowedOrigins = [ origin ];
          }) != throws
        )
        [
          "https://claude.ai"
          "http://localhost:6274"
          "*"
          "https://claude.ai/"
          "claude.ai"
          "https://a b"
          "https://a\nExecStart=/bin/sh"
          "https://%h"
          "-x"
        ];
    expected = [
      true
      true
      true
      false
      false
      false
      false
      false
      false
    ];
  };
  originsReachTheUnit = {
    expr = contains " --allow-origin=http://localhost:6274" (
      (debianGuest { allowedOrigins = [ "http://localhost:6274" ]; })
      .image.spec.files."/etc/systemd/system/agent-mcp.service".text
    );
    expected = true;
  };
}
