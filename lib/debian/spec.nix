# The input of build-image: all names and files of the Debian guest.
{
  architecture,
  packages,
  share,
  allowedOrigins,
  servers,
  proxy,
  agents,
  snapshot,
}:
let
  policy = import ../policy;
  paths = import ./paths.nix;
  text = import ./text.nix;
  units = import ./units.nix {
    inherit
      share
      allowedOrigins
      servers
      proxy
      ;
    serversFiles = if servers == [ ] then [ ] else [ paths.serversFile ];
  };
  named = builtins.intersectAttrs (builtins.listToAttrs (
    map (name: {
      inherit name;
      value = null;
    }) servers
  )) (import ./servers.nix);
  withAgents = import ./agents.nix {
    inherit packages;
    names = unique agents;
  };
  withNode = (import ./node.nix).needs (
    withAgents.npm ++ builtins.concatMap (server: server.npm) (builtins.attrValues named)
  );
  unit = import ../systemd-unit.nix;
  init = import ./init.nix { inherit share; };
  kernel = import ./kernel.nix { inherit architecture share; };

  # In its own directory, like a predefined server: its versions do not conflict with those of codemcp.
  mcpProxy = {
    directory = "${paths.serversDirectory}/mcp-proxy";
    requirements = "mcp-proxy.txt";
    programs.mcp-proxy = "mcp_proxy.__main__:main";
  };

  suite = "trixie";
  emptyDirectories = map (section: "/usr/share/man/man${toString section}") [
    1
    2
    3
    4
    5
    6
    7
    8
  ];

  unique =
    list:
    builtins.attrNames (
      builtins.listToAttrs (
        map (name: {
          inherit name;
          value = null;
        }) list
      )
    );
in
{
  format = 1;
  inherit suite snapshot;
  inherit architecture;
  inherit (policy) locale;
  packages = unique (
    import ./packages.nix
    ++ policy.tools.debian
    ++ packages
    ++ builtins.concatMap (server: server.packages) (builtins.attrValues named)
  );
  inherit kernel;
  inherit (paths) programs;
  python = {
    version = paths.pythonVersion;
    # Newest first: pip uses the first tag that a wheel matches.
    platforms = map (glibc: "manylinux_2_${toString glibc}_x86_64") [
      41
      40
      39
      38
      37
      36
      35
      34
      31
      28
      17
    ];
    # Python's own directory first.
    installations = [
      {
        directory = paths.pythonPackages;
        requirements = "requirements.txt";
        programs = {
          codemcp = "codemcp:cli";
        };
      }
    ]
    ++ (if proxy == "mcp-proxy" then [ mcpProxy ] else [ ])
    ++ builtins.concatMap (server: server.python) (builtins.attrValues named)
    ++ withAgents.python
    ++ withNode.python;
  };
  inherit (withNode) npm;
  user = {
    inherit (policy.user)
      name
      uid
      gid
      home
      extraGroups
      ;
  };
  # Service accounts, which own no files and cannot log in.
  serviceAccounts = [ policy.mcpReverseProxy.account ];
  # What root's apt needs. The machine's disk hides the image's /var.
  packageState = {
    archive = paths.packageState;
    id = paths.imageId;
  };
  # Of manuals, which are left out: some packages make links there and fail without the directories, also if root installs
  # them later.
  inherit emptyDirectories;
  # Mount points, too.
  directories = [
    policy.workspace.path
  ]
  ++ emptyDirectories;
  files = {
    ${paths.init} = {
      mode = "0755";
      text = init;
    };
    ${paths.clockScript}.text = policy.clock.script;
    ${paths.writableScript} = {
      mode = "0755";
      text = "#!/bin/sh\n" + import ./writable.nix;
    };
    # Not the mirror that the image was built from.
    "/etc/apt/sources.list.d/debian.sources".text = import ./apt-sources.nix { inherit suite; };
    ${paths.timeZoneScript}.text = policy.timeZone.script { inherit (paths) zones; };
    ${paths.egressScript}.text = policy.egress.script {
      sessionEnvironment = [ "LANG=${policy.locale}" ];
      java = "/usr/bin/java";
      makeTrustStore = "/usr/bin/python3 -I -S ${paths.trustStoreScript}";
    };
    "/etc/fstab".text = "# Empty: ${paths.init} and systemd units mount the file systems.\n";
    "/etc/gitconfig".text = text.gitconfig policy.git;
    "/etc/hosts".text = "127.0.0.1 localhost\n::1 localhost\n";
    "/etc/nftables.conf".text = policy.firewall.ruleset;
    "/etc/profile.d/agent-vm.sh".text = "cd ${policy.workspace.path} 2>/dev/null || :\n";
    ${paths.trustStoreScript}.text = policy.egress.trustStoreScript;
    ${paths.sshScript}.text = policy.sshClient.script;
    "/etc/ssh/ssh_config.d/agent-vm.conf".text = policy.sshClient.config "/bin/bash ${paths.sshScript}";
    "/etc/ssh/sshd_config".text = text.sshdConfig policy.sshd.settingsWithoutPam;
    "/etc/systemd/journald.conf.d/agent-vm.conf".text = unit { Journal = policy.journald; };
    "/etc/systemd/system.conf.d/agent-vm.conf".text = unit { Manager = policy.manager; };
  }
  // import ./unavailable-programs.nix { python = paths.pythonVersion; }
  // (
    if servers == [ ] then
      { }
    else
      {
        ${paths.serversFile}.text = builtins.toJSON {
          mcpServers = builtins.mapAttrs (_: server: server.settings) named;
        };
      }
  )
  // builtins.listToAttrs (
    map (name: {
      name = "/etc/systemd/system/${name}";
      value.text = unit units.units.${name};
    }) (builtins.attrNames units.units)
  );
  inherit (units) remove;
  links = units.links // withAgents.links;
  runner = import ./runner.nix {
    inherit (paths) init;
    initrd = kernel.initrd != null;
  };
}
