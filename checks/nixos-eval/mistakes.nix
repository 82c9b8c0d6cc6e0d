# Common mistakes in configurations, and what the error must contain: the option, the value, and what to write instead.
# `fine` is the corrected configuration.
{ lib, pkgs, ... }:
let
  # `path` of an instance, of the service, or of the machine.
  on =
    prefix: path: value:
    lib.setAttrByPath (prefix ++ lib.splitString "." path) value;
  app = path: value: {
    services.agent-vms = {
      enable = true;
      instances.app = lib.recursiveUpdate { repository = "/srv/git/app"; } (on [ ] path value);
    };
  };
  mcp =
    path: value:
    lib.recursiveUpdate { services.agent-mcp.enable = true; } (
      on [ "services" "agent-mcp" ] path value
    );
  machine = on [ ];
  guest = pkgs.runCommand "agent-vm-guest" { meta.mainProgram = "run-agent-vm"; } "";

  # An invalid and a valid value of an option, and texts that the error must contain besides the option.
  ofApp = path: wrong: right: words: {
    kind = "modules";
    mistake = app path wrong;
    fine = app path right;
    says = [ "services.agent-vms.instances.app.${path}" ] ++ words;
  };
  ofMcp = path: wrong: right: words: {
    kind = "modules";
    mistake = mcp path wrong;
    fine = mcp path right;
    says = [ "services.agent-mcp.${path}" ] ++ words;
  };
  ofMachine = path: wrong: right: words: {
    kind = "machine";
    mistake = machine path wrong;
    fine = machine path right;
    says = [ path ] ++ words;
  };
in
{
  # Names and locations.
  server-with-a-typo = ofApp "servers" [
    "nix0s"
  ] [ "nixos" ] [ ''"nix0s"'' ''servers = [ "nixos" ];'' ];
  instance-in-capitals = {
    kind = "modules";
    mistake.services.agent-vms = {
      enable = true;
      instances.App.repository = "/srv/git/app";
    };
    fine = app "branch" "main";
    says = [
      ''"App"''
      "services.agent-vms.instances.app = {"
    ];
  };
  instance-is-a-path = {
    kind = "modules";
    mistake.services.agent-vms = {
      enable = true;
      instances.app = "/srv/git/app";
    };
    fine = app "branch" "main";
    says = [
      "services.agent-vms.instances.app is "
      ''services.agent-vms.instances.app.repository = "/srv/git/app";''
    ];
  };
  instances-are-a-list = {
    kind = "modules";
    mistake.services.agent-vms = {
      enable = true;
      instances = [ { repository = "/srv/git/app"; } ];
    };
    fine = app "branch" "main";
    says = [
      "services.agent-vms.instances is [ {"
      "a list where"
      ''services.agent-vms.instances.app = { repository = "…"; };''
    ];
  };
  servers-are-names = ofMcp "servers" [ "nixos" ] { nixos.enable = true; } [
    "a list where"
    "servers.my-server = {"
  ];
  server-is-a-package = ofMcp "servers.x" pkgs.git { command = "x"; } [
    "a package where"
    "servers.x.command = "
  ];
  server-is-a-command = ofMcp "servers.x" "npx" { command = "npx"; } [
    ''"npx"''
    ''servers.x.command = "npx";''
  ];
  cleanup-is-not-a-calendar-expression = {
    kind = "modules";
    mistake = lib.recursiveUpdate (app "branch" "main") {
      services.agent-vms.cleanup.dates = "every 2 weeks";
    };
    fine = lib.recursiveUpdate (app "branch" "main") {
      services.agent-vms.cleanup.dates = "Sun,Wed *-*-* 03:00 Europe/Berlin";
    };
    says = [
      "services.agent-vms.cleanup.dates"
      ''"every 2 weeks"''
      ''cleanup.dates = "weekly";''
    ];
  };
  cleanup-is-an-interval = {
    kind = "modules";
    mistake = lib.recursiveUpdate (app "branch" "main") {
      services.agent-vms.cleanup.dates = "7d";
    };
    fine = lib.recursiveUpdate (app "branch" "main") {
      services.agent-vms.cleanup.dates = "daily";
    };
    says = [
      "services.agent-vms.cleanup.dates"
      ''"7d"''
      ''cleanup.dates = "weekly";''
    ];
  };
  repository-is-a-url = ofApp "repository" "git@github.com:me/app.git" "/srv/git/app.git" [
    "git@github.com"
    "a URL"
    ''repository = "/srv/git/app";''
  ];
  repository-is-relative = ofApp "repository" "~/app" "/home/alice/app" [
    ''"~/app"''
    ''repository = "/home/USER/app";''
  ];
  repository-is-a-nix-path = ofApp "repository" ./. "/srv/git/app" [
    "copies into its store"
    "repository = \"/"
  ];
  repository-in-tmp = ofApp "repository" "/tmp/app" "/srv/tmp/app" [
    ''"/tmp/app"''
    ''repository = "/srv/git/app";''
  ];
  branch-is-a-ref = ofApp "branch" "refs/heads/dev" "dev" [
    ''"refs/heads/dev"''
    ''branch = "dev";''
  ];
  branch-with-a-space = ofApp "branch" "feature login" "feature/login" [
    ''"feature login"''
    ''branch = "feature-login";''
  ];
  branch-is-empty = ofApp "branch" "" "main" [
    ''""''
    ''branch = "main";''
  ];
  state-directory-is-a-path = {
    kind = "modules";
    mistake = lib.recursiveUpdate (app "branch" "main") {
      services.agent-vms.stateDirectory = "/var/lib/machines";
    };
    fine = lib.recursiveUpdate (app "branch" "main") {
      services.agent-vms.stateDirectory = "machines";
    };
    says = [
      "services.agent-vms.stateDirectory"
      ''"/var/lib/machines"''
      ''stateDirectory = "machines";''
    ];
  };

  # Addresses and ports.
  host-is-an-interface = ofApp "host" "eth0" "0.0.0.0" [
    ''"eth0"''
    "host = \""
  ];
  host-is-a-network = ofApp "host" "10.0.0.0/24" "10.0.0.1" [
    ''"10.0.0.0/24"''
    "host = \""
  ];
  host-is-no-address = ofApp "host" "192.168.1.300" "192.168.1.30" [
    ''"192.168.1.300"''
    "host = \""
  ];
  port-zero = ofApp "port" 0 8000 [
    "is 0"
    "port = 8000;"
  ];
  port-is-a-string = ofApp "port" "8001" 8001 [
    ''"8001"''
    "port = 8001;"
  ];
  port-is-too-large = ofApp "sshPort" 70000 2222 [
    "70000"
    "sshPort = "
  ];
  port-below-1024 = ofApp "port" 443 8443 [
    "443"
    "port = 8443;"
  ];
  ports-are-equal = {
    kind = "modules";
    mistake = lib.recursiveUpdate (app "port" 8001) (app "sshPort" 8001);
    fine = lib.recursiveUpdate (app "port" 8001) (app "sshPort" 8002);
    says = [
      "instances.app.port and services.agent-vms.instances.app.sshPort"
      "8001"
      "port = 8002;"
    ];
  };
  port-of-both-services = {
    kind = "modules";
    mistake = lib.recursiveUpdate (app "port" 8000) (mcp "host" "127.0.0.1");
    fine = lib.recursiveUpdate (app "port" 8001) (mcp "host" "127.0.0.1");
    says = [
      "services.agent-vms.instances.app.port"
      "services.agent-mcp.port"
      "8000"
      "port = 8001;"
    ];
  };
  service-port-zero = ofMcp "port" 0 8000 [
    "is 0"
    "port = 8000;"
  ];
  service-port-below-1024 = ofMcp "port" 443 8443 [
    "443"
    "gate.enable = true;"
  ];
  service-host-is-a-name = ofMcp "host" "agent.example.org" "::" [
    ''"agent.example.org"''
    "host = \""
  ];
  origin-with-a-slash =
    ofMcp "allowedOrigins" [ "https://app.example.org/" ]
      [ "https://app.example.org" ]
      [
        ''"https://app.example.org/"''
        ''allowedOrigins = [ "https://app.example.org" ];''
      ];
  origin-without-a-scheme = ofMcp "allowedOrigin" "localhost:3000" "http://localhost:3000" [
    ''"localhost:3000"''
    "allowedOrigin = \"https://localhost:3000\";"
  ];
  endpoint-host-is-a-url =
    ofMcp "gate.hosts" [ "https://agent.example.org:8000" ]
      [ "agent.example.org" ]
      [
        "https://agent.example.org:8000"
        ''gate.hosts = [ "agent.example.org" ];''
      ];
  endpoint-without-hosts = ofMcp "gate.hosts" [ ] [ "localhost" ] [ "non-empty" ];
  egress-to-a-url =
    ofApp "egress.allow" [ "https://api.example.org/v1" ]
      [ "api.example.org" ]
      [
        "https://api.example.org/v1"
        ''egress.allow = [ "api.example.org" ];''
      ];
  egress-to-an-unknown-group = ofApp "egress.allow" [
    "@nope"
  ] [ "@npm" ] [ ''"@nope"'' "@pypi" ''egress.allow = [ "@npm" ];'' ];
  egress-to-an-invalid-port = ofApp "egress.allow" [
    "example.org:99999"
  ] [ "example.org:443" ] [ "example.org:99999" ''egress.allow = [ "example.org" ];'' ];
  egress-mode-with-a-typo = ofApp "egress.mode" "allow-list" "allowlist" [
    ''"allow-list"''
    ''"allowlist"''
  ];

  # Sizes, times and other units.
  memory-is-a-string = ofApp "resources.memory" "4G" 4096 [
    ''"4G"''
    "resources.memory = 4096;"
  ];
  memory-in-gibibytes = ofApp "resources.memory" 4 4096 [
    "is 4,"
    "MiB"
    "resources.memory = 4096;"
  ];
  memory-is-negative = ofApp "resources.memory" (-1) 1024 [
    "-1"
    "resources.memory = "
  ];
  disk-in-gibibytes = ofApp "resources.disk" 20 20480 [
    "is 20,"
    "MiB"
    "resources.disk = 20480;"
  ];
  no-cores = ofApp "resources.cores" 0 1 [
    "is 0"
    "resources.cores = 4;"
  ];
  quota-is-a-number = ofApp "resources.cpuQuota" 2 "200%" [
    "is 2"
    ''resources.cpuQuota = "200%";''
  ];
  bandwidth-with-a-unit = ofApp "resources.diskBandwidth" "10M" 104857600 [
    ''"10M"''
    "resources.diskBandwidth = 104857600;"
  ];
  workspace-in-gibibytes = ofApp "resources.workspaceSize" 10 10240 [
    "is 10"
    "MiB"
    "resources.workspaceSize = 10240;"
  ];
  limit-with-another-unit = ofApp "resources.memoryMax" "6GB" "6G" [
    ''"6GB"''
    ''resources.memoryMax = "6G";''
  ];
  limit-below-the-memory = ofApp "resources.memoryMax" "4G" "6G" [
    "4G"
    "4096 MiB"
    ''resources.memoryMax = "5120M";''
  ];
  timeout-with-a-unit = ofApp "startTimeout" "15min" 900 [
    ''"15min"''
    "startTimeout = 900;"
  ];
  interval-with-a-unit = ofMcp "healthCheck.interval" "60s" 60 [
    ''"60s"''
    "healthCheck.interval = 60;"
  ];
  service-limit-without-a-unit = ofMcp "resources.memoryMax" 2048 "2048M" [
    "2048"
    ''resources.memoryMax = "2048M";''
  ];

  # Programs and packages.
  command-is-a-shell-line = ofMcp "servers.x.command" "npx -y some-server" "npx" [
    ''"npx -y some-server"''
    ''command = "npx"; args = [ "-y" "some-server" ];''
  ];
  command-with-a-pipe = ofMcp "servers.x.command" "server | tee log" "server" [
    ''"server | tee log"''
    "writeShellScriptBin"
  ];
  command-with-arguments =
    ofMcp "servers.x.command" "${pkgs.git}/bin/git --version" "${pkgs.git}/bin/git"
      [
        "git --version"
        ''args = [ "--version" ];''
      ];
  arguments-are-a-string =
    ofMcp "servers.x.args" "-y server"
      [ "-y" "server" ]
      [ "list of string" "-y server" ];
  path-names-the-bin = ofMcp "servers.x.path" [
    "/opt/tools/bin"
  ] [ "/opt/tools" ] [ "/opt/tools/bin" ''path = [ "/opt/tools" ];'' ];
  server-in-two-words = ofMcp "servers" { "my server".command = "x"; } { My-Server.command = "x"; } [
    ''"my server"''
    "servers.my-server = {"
  ];
  shell-is-a-command = ofMcp "shell" "nix develop" pkgs.git [
    ''"nix develop"''
    "shell = pkgs.mkShell {"
  ];
  packages-of-this-host = ofApp "packages" [ pkgs.git ] [ "git" ] [ "git" ''packages = [ "git" ];'' ];
  packages-below-pkgs = ofApp "packages" [
    "pkgs.nodejs"
  ] [ "nodejs" ] [ ''"pkgs.nodejs"'' ''packages = [ "nodejs" ];'' ];
  arguments-of-nix-in-one =
    ofApp "nixArgs" [ "--override-input toolkit/nixpkgs nixpkgs" ]
      [ "--override-input" "toolkit/nixpkgs" "nixpkgs" ]
      [
        "--override-input toolkit/nixpkgs nixpkgs"
        ''nixArgs = [ "--override-input" "toolkit/nixpkgs" "nixpkgs" ];''
      ];
  machine-packages-are-names = ofMachine "agentVm.packages" [
    "nodejs"
  ] [ pkgs.git ] [ ''"nodejs"'' "agentVm.packages = [ pkgs.nodejs ];" ];

  # Guests that are built with the host.
  guest-of-two-kinds = {
    kind = "modules";
    mistake = lib.recursiveUpdate (app "config" { }) (app "guestPackage" guest);
    fine = app "guestPackage" guest;
    says = [
      "services.agent-vms.instances.app.config and services.agent-vms.instances.app.guestPackage"
      "services.agent-vms.instances.app.guestPackage = null;"
    ];
  };
  guest-package-with-packages = {
    kind = "modules";
    mistake = lib.recursiveUpdate (app "packages" [ "nodejs" ]) (app "guestPackage" guest);
    fine = lib.recursiveUpdate (app "packages" [ "nodejs" ]) (app "config" { });
    says = [
      ''app.packages is [ "nodejs" ]''
      "instances.app.guestPackage"
      "services.agent-vms.instances.app.packages = [ ];"
    ];
  };
  guest-config-with-arguments-of-nix = {
    kind = "modules";
    mistake = lib.recursiveUpdate (app "nixArgs" [ "--impure" ]) (app "config" { });
    fine = app "nixArgs" [ "--impure" ];
    says = [
      ''app.nixArgs is [ "--impure" ]''
      "instances.app.config"
      "services.agent-vms.instances.app.nixArgs = [ ];"
    ];
  };
  guest-package-is-another-package = ofApp "guestPackage" pkgs.git guest [
    "git"
    "is not a guest package"
    "guestPackage = nixosConfigurations.NAME.config.system.build.agentVm;"
  ];
  guest-config-is-a-package = ofApp "config" pkgs.git { } [
    "is a package where"
    "services.agent-vms.instances.app.guestPackage = the-package;"
  ];
  guest-config-is-a-system =
    ofApp "config"
      {
        config = { };
        options = { };
        pkgs = { };
      }
      { config = { }; }
      [
        "is a whole NixOS system"
        "guestPackage = nixosConfigurations.NAME.config.system.build.agentVm;"
      ];
  guest-config-is-a-text =
    ofApp "config" "nodejs"
      [
        { }
        (_: { })
      ]
      [
        "is a string where"
        "config = { pkgs, ... }: {"
      ];

  # Accounts, secrets and directories.
  user-of-a-service = ofMcp "user" "sshd" "sshd-agent" [
    ''"sshd"''
    ''user = "agent";''
  ];
  user-of-another-unit = {
    kind = "modules";
    mistake = lib.recursiveUpdate (mcp "user" "web") {
      systemd.services.web.serviceConfig.User = "web";
    };
    fine = lib.recursiveUpdate (mcp "user" "web") {
      systemd.services.web.serviceConfig.User = "other";
    };
    says = [
      "services.agent-mcp.user"
      ''"web"''
      "web.service"
      ''user = "agent";''
    ];
  };
  user-is-root = ofMcp "user" "root" "agent" [
    ''"root"''
    ''user = "agent";''
  ];
  group-is-wheel = ofMcp "group" "wheel" "agents" [
    ''"wheel"''
    ''group = "agent";''
  ];
  instance-is-root = ofApp "user" "root" "agent-vm-app" [
    ''"root"''
    ''user = "agent-vm-app";''
  ];
  instance-is-a-service = ofApp "user" "sshd" "sshd-app" [
    ''"sshd"''
    ''user = "agent-vm-app";''
  ];
  two-instances-with-one-account = {
    kind = "modules";
    mistake = lib.recursiveUpdate (app "user" "vms") {
      services.agent-vms.instances.b = {
        repository = "/b";
        user = "vms";
      };
    };
    fine = lib.recursiveUpdate (app "user" "vms") {
      services.agent-vms.instances.b = {
        repository = "/b";
        user = "vms-b";
      };
    };
    says = [
      "{app,b}.user"
      "vms"
      ''instances.b.user = "agent-vm-b";''
    ];
  };
  kvm-for-an-unknown-user = {
    kind = "modules";
    mistake = lib.recursiveUpdate (app "branch" "main") {
      services.agent-vms.kvmUsers = [ "alcie" ];
      users.users.alice.isNormalUser = true;
    };
    fine = lib.recursiveUpdate (app "branch" "main") {
      services.agent-vms.kvmUsers = [ "alice" ];
      users.users.alice.isNormalUser = true;
    };
    says = [
      "services.agent-vms.kvmUsers"
      ''"alcie"''
      "users.users.alcie.isNormalUser = true;"
    ];
  };
  token-in-the-configuration =
    ofMcp "gate"
      {
        enable = true;
        tokenFile = "0123456789abcdef";
      }
      {
        enable = true;
        tokenFile = "/run/secrets/token";
      }
      [
        "0123456789abcdef"
        ''gate.tokenFile = "/run/secrets/agent-mcp.token";''
      ];
  token-in-the-store =
    ofMcp "gate"
      {
        enable = true;
        tokenFile = "${builtins.storeDir}/x-token";
      }
      {
        enable = true;
        tokenFile = "/run/secrets/token";
      }
      [
        "x-token"
        "world-readable"
        ''gate.tokenFile = "/run/secrets/agent-mcp.token";''
      ];
  token-is-a-nix-path = ofMcp "environmentFile" ./mistakes.nix "/run/secrets/env" [
    "world-readable"
    ''environmentFile = "/run/secrets/agent-mcp";''
  ];
  token-without-the-reverse-proxy =
    ofMcp "gate" { tokenFile = "/t"; }
      {
        enable = true;
        tokenFile = "/t";
      }
      [
        ''"/t"''
        "services.agent-mcp.gate.enable = true;"
      ];
  certificate-without-a-key =
    ofMcp "gate"
      {
        enable = true;
        certificateFile = "/c";
      }
      {
        enable = true;
        certificateFile = "/c";
        certificateKeyFile = "/k";
      }
      [ "certificateKeyFile = " ];
  workspace-is-a-system-directory = ofMcp "workspaceDir" "/etc" "/srv/work" [
    ''"/etc"''
    ''workspaceDir = "/workspace";''
  ];
  workspace-is-relative = ofMcp "workspaceDir" "work" "/srv/work" [
    ''"work"''
    ''workspaceDir = "/srv/work";''
  ];
  config-file-in-a-home = ofMcp "mcpConfigFile" "/home/alice/.mcp.json" ".mcp.json" [
    "/home/alice/.mcp.json"
    "mcpConfigFile = \""
  ];
  variable-with-a-dash = ofMcp "extraEnvironment" { MY-VAR = "1"; } { MY_VAR = "1"; } [
    "MY-VAR"
    "extraEnvironment.MY_VARIABLE = "
  ];

  # Hardening and servers.
  directive-with-a-typo =
    ofMcp "hardening.settings" { PrivateDevice = false; } { PrivateDevices = false; }
      [
        "PrivateDevice "
        "hardening.settings.PrivateDevices = false;"
      ];
  unknown-directive =
    ofMcp "hardening.settings" { ExecStartPre = "x"; } { ReadWritePaths = [ "/srv/x" ]; }
      [
        "ExecStartPre"
        "systemd.services.agent-mcp.serviceConfig.ExecStartPre = "
      ];
  directive-with-an-invalid-value =
    ofMcp "hardening.settings" { ProtectSystem = "ful"; } { ProtectSystem = "full"; }
      [
        ''"ful"''
        "hardening.settings.ProtectSystem = true;"
      ];
  default-server-is-off = ofMcp "servers" { codemcp.enable = false; } { nixos.enable = true; } [
    "codemcp"
    "enable is false"
    ''services.agent-mcp.defaultServer = "my-server";''
  ];
  unknown-default-server = ofMcp "defaultServer" "codemcq" "codemcp" [
    ''"codemcq"''
    ''defaultServer = "codemcp";''
  ];
  unknown-option = ofMcp "servers.x" { cmd = "x"; } { command = "x"; } [
    "cmd"
    "does not exist"
  ];
  apparmor-is-off = {
    kind = "modules";
    mistake = lib.recursiveUpdate (app "branch" "main") { services.agent-vms.apparmor.enable = true; };
    fine = lib.recursiveUpdate (app "branch" "main") { security.apparmor.enable = true; };
    says = [
      "services.agent-vms.apparmor.enable"
      "security.apparmor.enable = true;"
    ];
  };

  # The machine.
  second-firewall = ofMachine "networking.firewall.enable" true false [
    "is true"
    "networking.firewall.enable = false;"
  ];
  additional-firewall-rules = {
    kind = "machine";
    mistake.networking.nftables.ruleset = "table inet mine { }";
    fine.networking.nftables.enable = true;
    says = [
      "networking.nftables.ruleset"
      "table inet mine"
      "Remove that definition"
    ];
  };
  user-of-a-service-that-is-on = {
    kind = "modules";
    mistake = lib.recursiveUpdate (mcp "user" "vault") { services.vault.enable = true; };
    fine = mcp "user" "vaults";
    says = [
      "services.agent-mcp.user"
      ''"vault"''
      ''user = "agent";''
    ];
  };
  passwords-by-ssh = ofMachine "services.openssh.settings.PasswordAuthentication" true false [
    "is true"
    "PasswordAuthentication = false;"
  ];
  ssh-on-another-port = ofMachine "services.openssh.ports" [
    2222
  ] [ 22 ] [ "2222" "services.openssh.ports = [ 22 ];" ];
  machine-without-servers = ofMachine "services.agent-mcp.enable" false true [
    "is false"
    "services.agent-mcp.enable = true;"
  ];
  endpoint-on-another-port = ofMachine "services.agent-mcp.port" 9000 8000 [
    "9000"
    "services.agent-mcp.port = 8000;"
  ];
  another-account = ofMachine "services.agent-mcp.user" "bob" "dev" [
    ''"bob"''
    ''services.agent-mcp.user = "dev";''
  ];
  sudo-in-the-machine = ofMachine "security.sudo.enable" true false [
    "is true"
    "security.sudo.enable = false;"
  ];
  docker-in-the-machine = ofMachine "users.users.dev.extraGroups" [
    "docker"
  ] [ "video" ] [ "docker" "users.users.dev.extraGroups = [ ];" ];
  machine-ports-are-equal = {
    kind = "machine";
    mistake.agentVm = {
      sshPort = 8000;
      mcpPort = 8000;
    };
    fine.agentVm = {
      sshPort = 8001;
      mcpPort = 8000;
    };
    says = [
      "agentVm.sshPort and agentVm.mcpPort"
      "8000"
      "agentVm.sshPort = 8001;"
    ];
  };
  machine-address-is-no-address = ofMachine "agentVm.hostAddress" "127.0.0.256" "127.0.0.1" [
    "127.0.0.256"
    "agentVm.hostAddress = "
  ];
  machine-memory-in-gibibytes = ofMachine "agentVm.memorySize" 8 8192 [
    "is 8,"
    "agentVm.memorySize = 8192;"
  ];
  machine-module-on-a-host = {
    kind = "machine";
    mistake = {
      fileSystems."/" = {
        device = "/dev/disk/by-uuid/0123";
        fsType = "ext4";
      };
      boot.loader.grub.device = "/dev/sda";
      boot.loader.grub.enable = true;
      networking.hostName = "laptop";
      networking.useDHCP = lib.mkDefault true;
      security.sudo.enable = true;
      users.users.alice.isNormalUser = true;
    };
    fine.networking.hostName = "laptop";
    says = [
      "/dev/disk/by-uuid/0123"
      "imports = [ agent-vm.nixosModules.host ];"
    ];
  };
  machine-module-beside-the-host-module = {
    kind = "machine";
    mistake = {
      imports = [ ../../modules ];
      services.agent-vms.enable = true;
    };
    fine.imports = [ ../../modules ];
    says = [
      "services.agent-vms.enable"
      "imports = [ agent-vm.nixosModules.host ];"
    ];
  };
}
