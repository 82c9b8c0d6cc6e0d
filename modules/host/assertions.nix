{
  config,
  lib,
  modulesPath,
  options,
  ...
}:
let
  policy = import ../../lib/policy;
  cfg = config.services.agent-vms;
  at = "services.agent-vms.instances";
  instances = lib.filterAttrs (_: instance: instance.enable) cfg.instances;

  accounts = import ../accounts.nix {
    inherit
      config
      lib
      modulesPath
      options
      ;
  };
  inherit (import ../types { inherit lib; }) shown;
  isName = name: builtins.match "[a-z][a-z0-9-]{0,20}" name != null;

  # A similar name that is valid.
  nameLike =
    name:
    let
      better = lib.substring 0 21 (
        lib.replaceStrings [ "_" " " "." "/" ] [ "-" "-" "-" "-" ] (lib.toLower name)
      );
    in
    if isName better then better else "my-branch";

  # Account → names of its machines, for accounts with more than one.
  sharedUsers = lib.filterAttrs (_: names: lib.length names > 1) (
    lib.groupBy (name: instances.${name}.user) (lib.filter isName (builtins.attrNames instances))
  );
  accountObstacle =
    instance:
    if service.enable && instance.user == service.user then
      "the account of services.agent-mcp"
    else
      accounts.obstacle {
        account = instance.user;
        # sharedUsers reports another machine's account.
        units = lib.concatMap (other: [
          "agent-vm-${other}"
          "agent-vm-${other}-metrics"
        ]) (builtins.attrNames instances);
      };

  firstPort = config.boot.kernel.sysctl."net.ipv4.ip_unprivileged_port_start" or 1024;
  lowPorts = lib.filter (one: one.port < firstPort) (
    lib.concatLists (lib.mapAttrsToList portsOf instances)
  );
  strangers = lib.filter (name: !config.users.users ? ${name}) cfg.kvmUsers;

  # Services that listen on this host, as far as these modules know.
  listener = option: host: port: {
    inherit option port;
    address = if host == "localhost" then "127.0.0.1" else host;
  };
  service = config.services.agent-mcp or { enable = false; };
  portsOf =
    name: instance:
    lib.filter (one: one.port != null) [
      (listener "${at}.${name}.port" instance.host instance.port)
      (listener "${at}.${name}.sshPort" instance.host instance.sshPort)
    ];
  listeners =
    lib.concatLists (lib.mapAttrsToList portsOf instances)
    ++ lib.optionals service.enable (
      [ (listener "services.agent-mcp.port" service.host service.port) ]
      ++ lib.optional service.gate.enable (
        listener "services.agent-mcp.gate.innerPort" "127.0.0.1" service.gate.innerPort
      )
    );
  isEvery = one: one.address == "0.0.0.0" || one.address == "::";
  conflict =
    one: other:
    one.port == other.port && (one.address == other.address || isEvery one || isEvery other);
  # Each pair once.
  conflicts =
    rest:
    if rest == [ ] then
      [ ]
    else
      map (other: {
        one = lib.head rest;
        inherit other;
      }) (lib.filter (conflict (lib.head rest)) (lib.tail rest))
      ++ conflicts (lib.tail rest);

  # Options of guests that the first start builds.
  guestOf = instance: if instance.guestPackage != null then "guestPackage" else "config";
  ignored = lib.concatLists (
    lib.mapAttrsToList (
      name: instance:
      map
        (option: {
          inherit name option;
          value = instance.${option};
        })
        (
          lib.filter (option: instance.${option} != [ ]) (
            if instance.guestPackage != null then
              [
                "packages"
                "servers"
                "agents"
                "nixArgs"
              ]
            else if instance.config != null then
              [ "nixArgs" ]
            else
              [ ]
          )
        )
    ) instances
  );

  tight = lib.filterAttrs (
    _: instance:
    let
      parts = builtins.match "([0-9]+)([KMGT]?)" instance.resources.memoryMax;
      # systemd's units: bytes, or multiples of powers of 1024.
      unit =
        {
          "" = 1;
          K = 1024;
          M = 1024 * 1024;
          G = 1024 * 1024 * 1024;
          T = 1024 * 1024 * 1024 * 1024;
        }
        .${lib.last parts};
    in
    instance.resources.memoryMax != null
    && lib.toIntBase10 (builtins.head parts) * unit <= instance.resources.memory * 1024 * 1024
  ) instances;
in
{
  config = lib.mkMerge [
    {
      warnings = lib.optional (!cfg.enable && instances != { }) ''
        services.agent-vms.instances has ${toString (builtins.attrNames instances)}, but services.agent-vms.enable is false: there are no machines.
        Write
          services.agent-vms.enable = true;
      '';
    }
    (lib.mkIf cfg.enable {
      assertions = [
        {
          assertion = sharedUsers == { };
          message = lib.concatStringsSep "\n" (
            lib.mapAttrsToList (user: names: ''
              ${at}.{${lib.concatStringsSep "," names}}.user are all ${user}, but each machine needs its own. Write
                ${at}.${lib.last names}.user = "agent-vm-${lib.last names}";
            '') sharedUsers
          );
        }
        {
          assertion = cfg.apparmor.enable -> config.security.apparmor.enable;
          message = ''
            services.agent-vms.apparmor.enable is true, but this host has no AppArmor. Write
              security.apparmor.enable = true;
          '';
        }
      ]
      ++ lib.mapAttrsToList (name: _: {
        assertion = isName name;
        message = ''
          ${at} has the name ${builtins.toJSON name}. It becomes the name of a unit and of an account: a lower-case letter, then
          lower-case letters, digits and "-", at most 21 characters. Write for example
            ${at}.${nameLike name} = { … };
        '';
      }) instances
      ++ map (
        { one, other }:
        {
          assertion = false;
          message = ''
            ${one.option} and ${other.option} are both ${toString one.port}, but only one of them can listen there. Write for example
              ${one.option} = ${toString (if one.port == 65535 then 65534 else one.port + 1)};
          '';
        }
      ) (conflicts listeners)
      ++ lib.mapAttrsToList (
        name: instance:
        let
          obstacle = accountObstacle instance;
        in
        {
          assertion = obstacle == null;
          message = ''
            ${at}.${name}.user is "${instance.user}", ${toString obstacle}: a guest that escapes from its machine would have that account. Write
              ${at}.${name}.user = "agent-vm-${name}";
          '';
        }
      ) instances
      ++ map (one: {
        assertion = false;
        message = ''
          ${one.option} is ${toString one.port}, where the machine's account cannot listen: only root can use ports below ${toString firstPort}. Write
            ${one.option} = ${toString (one.port + 8000)};
        '';
      }) lowPorts
      ++ map (name: {
        assertion = false;
        message = ''
          services.agent-vms.kvmUsers has "${name}", which is not an account of this configuration. Correct the name, or write
            users.users.${name}.isNormalUser = true;
        '';
      }) strangers
      ++ lib.mapAttrsToList (name: instance: {
        assertion = instance.config == null || instance.guestPackage == null;
        message = ''
          ${at}.${name}.config and ${at}.${name}.guestPackage are both set, but a machine has one guest. Remove one of them, or write
            ${at}.${name}.guestPackage = null;
        '';
      }) instances
      ++ lib.mapAttrsToList (
        name: instance:
        let
          program = instance.guestPackage.meta.mainProgram or "run-agent-vm";
        in
        {
          assertion = instance.guestPackage == null || program == "run-agent-vm";
          message = ''
            ${at}.${name}.guestPackage is ${
              instance.guestPackage.name or "a package"
            }, which is not a guest package. Write for example
              ${at}.${name}.guestPackage = nixosConfigurations.NAME.config.system.build.agentVm;
          '';
        }
      ) instances
      ++ map (
        {
          name,
          option,
          value,
        }:
        {
          assertion = false;
          message = ''
            ${at}.${name}.${option} is ${shown value}, which a guest of ${at}.${name}.${guestOf instances.${name}} does not use. Write
              ${at}.${name}.${option} = [ ];
          '';
        }
      ) ignored
      ++ lib.mapAttrsToList (name: instance: {
        assertion = !(tight ? ${name});
        message = ''
          ${at}.${name}.resources.memoryMax is ${toString instance.resources.memoryMax}, which is not more than the machine's own memory
          of ${toString instance.resources.memory} MiB. Write
            ${at}.${name}.resources.memoryMax = "${toString (instance.resources.memory + 1024)}M";
        '';
      }) instances;
      warnings =
        lib.mapAttrsToList
          (name: instance: ''
            ${at}.${name}.host is ${instance.host}: every client that reaches that address reaches ssh and the reverse proxy before MCP.
          '')
          (
            lib.filterAttrs (
              _: instance: instance.host != "localhost" && builtins.match "127\\..*" instance.host == null
            ) instances
          )
        ++
          lib.mapAttrsToList
            (name: instance: ''
              ${at}.${name}.egress.allow has ${toString instance.egress.allow}, but its egress.mode is "${instance.egress.mode}", which ignores the list. Write
                ${at}.${name}.egress.mode = "allowlist";
            '')
            (
              lib.filterAttrs (
                _: instance:
                instance.egress.allow != [ ]
                && lib.any (mode: mode.name == instance.egress.mode && !mode.goesByList) policy.egress.modes
              ) instances
            )
        ++ lib.mapAttrsToList (name: _: ''
          ${at}.${name}.tls is false: a program on the network path between a client and the machine can read the token and all messages.
        '') (lib.filterAttrs (_: instance: !instance.tls) instances)
        ++ lib.mapAttrsToList (name: _: ''
          ${at}.${name}.auth is false: every user of this host can use the machine's tools.
        '') (lib.filterAttrs (_: instance: !instance.auth) instances);
    })
  ];
}
