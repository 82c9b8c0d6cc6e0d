# Predefined MCP servers of the Debian guest besides codemcp, off by default. Each has its own directory of packages from PyPI
# or npm, so that their versions do not conflict.
let
  policy = import ../policy;
  inherit (import ./paths.nix) serversDirectory;
  node = import ./node.nix;
  named = policy.namedServers policy.workspace.path;

  # Entry in the format of .mcp.json.
  settings =
    command: arguments: environment:
    {
      inherit command;
    }
    // (if arguments == [ ] then { } else { args = arguments; })
    // (if environment == { } then { } else { env = environment; });

  # From PyPI: `entry` is the entry point, `packages` names Debian packages.
  python =
    {
      entry,
      packages ? [ ],
      arguments ? [ ],
      environment ? { },
    }:
    name: {
      inherit packages;
      npm = [ ];
      python = [
        {
          directory = "${serversDirectory}/${name}";
          # Relative to this directory.
          requirements = "servers/${name}.txt";
          programs."agent-mcp-${name}" = entry;
        }
      ];
      settings = settings "/usr/local/bin/agent-mcp-${name}" arguments environment;
    };

  # From npm: `package`, and in it the `program` that Node runs.
  npm =
    {
      package,
      program,
      packages ? [ ],
      arguments ? [ ],
      environment ? { },
    }:
    name:
    let
      installation = node.installation {
        directory = "${serversDirectory}/${name}";
        # Relative to this directory.
        lock = "servers/${name}";
        program = "node_modules/${package}/${program}";
      };
    in
    {
      inherit packages;
      npm = [ installation ];
      python = [ ];
      # The machine's PATH gets no Node.
      settings = settings node.programs.node ([ installation.program ] ++ arguments) environment;
    };
in
builtins.mapAttrs (name: server: server name) {
  # It queries search.nixos.org, so the machine's egress must allow that host.
  nixos = python { entry = "mcp_nixos.server:main"; };

  # mcp-selenium, which starts Chromium without its sandbox: the sandbox needs user namespaces, which the machine forbids.
  browser = python {
    entry = "server:main";
    packages = [
      "chromium"
      "chromium-driver"
    ];
    # Selenium uses this driver and downloads no other.
    environment = {
      SE_CHROMEDRIVER = "/usr/bin/chromedriver";
      SE_OFFLINE = "true";
    };
  };

  git = python {
    entry = "mcp_server_git:main";
    inherit (named.git) arguments;
  };

  fetch = python {
    entry = "mcp_server_fetch:main";
    # The machine's egress decides what it reaches. Otherwise it refuses the machine's own services, too.
    arguments = [ "--allow-private-ips" ];
    # If it finds Node, it runs `npm install` in its own directory at the first page. It needs no program.
    environment.PATH = "/nonexistent";
  };

  time = python { entry = "mcp_server_time:main"; };

  filesystem = npm {
    package = "@modelcontextprotocol/server-filesystem";
    program = "dist/index.js";
    inherit (named.filesystem) arguments;
  };

  memory = npm {
    package = "@modelcontextprotocol/server-memory";
    program = "dist/index.js";
    environment = named.memory.environment policy.user.home;
  };

  desktop-commander = npm {
    package = "@wonderwhy-er/desktop-commander";
    program = "dist/index.js";
    arguments = [ "--no-onboarding" ];
    environment = {
      DESKTOP_COMMANDER_DISABLE_TELEMETRY = "1";
      # Not from the vendor's site.
      DC_FLAG_URL = "data:application/json,{}";
    };
  };

  playwright = npm {
    package = "@playwright/mcp";
    program = "cli.js";
    packages = [ "chromium" ];
    arguments = named.playwright.arguments policy.user.home ++ [
      "--executable-path=/usr/bin/chromium"
    ];
  };
}
