# Unit tests of the library; failures as JSON:
#   nix-instantiate --eval --strict --json lib/tests.nix -A failures
# An empty object is success. A test is `{ expr; expected; }`; `throws` stands for an evaluation that must fail.
let
  lib = import ./.;
  inherit (lib) debianGuest policy systemdUnit;
  inherit (builtins)
    all
    any
    attrNames
    concatStringsSep
    deepSeq
    elem
    filter
    fromJSON
    hasAttr
    isString
    length
    listToAttrs
    map
    match
    split
    stringLength
    toJSON
    tryEval
    ;

  throws = "throws";
  attempt =
    value:
    let
      result = tryEval (deepSeq value value);
    in
    if result.success then result.value else throws;

  contains = part: text: length (split (escape part) text) > 1;
  escape =
    builtins.replaceStrings
      [
        "\\"
        "."
        "*"
        "+"
        "?"
        "("
        ")"
        "["
        "]"
        "{"
        "}"
        "^"
        "$"
        "|"
      ]
      [
        "\\\\"
        "\\."
        "\\*"
        "\\+"
        "\\?"
        "\\("
        "\\)"
        "\\["
        "\\]"
        "\\{"
        "\\}"
        "\\^"
        "\\$"
        "\\|"
      ];

  guest = debianGuest { };
  nineP = debianGuest { share = "9p"; };
  spec = guest.image.spec;
  text = path: spec.files.${path}.text;
  hashOf = arguments: (debianGuest arguments).image.hash;
  packagesOf = packages: (debianGuest { inherit packages; }).image.spec.packages;

  tests = {
    # Arguments: what is not in its grammar is refused, whatever else it is.
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
    packagesThatAreNoList = {
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

    # The manifest.
    fields = {
      expr = attrNames guest;
      expected = [
        "credentials"
        "disk"
        "guest"
        "image"
        "kernel"
        "networkMark"
        "ports"
        "powerOff"
        "qemu"
        "runner"
        "service"
        "system"
        "user"
        "version"
        "workspace"
      ];
    };
    manifestIsPlainData = {
      expr = (fromJSON (builtins.unsafeDiscardStringContext (toJSON guest))).user;
      expected = {
        name = "dev";
        uid = 1000;
        gid = 1000;
      };
    };
    hash = {
      expr = match "[0-9a-f]{64}" guest.image.hash != null;
      expected = true;
    };
    hashDependsOnEveryArgument = {
      expr = length (
        attrNames (
          listToAttrs (
            map
              (arguments: {
                name = hashOf arguments;
                value = null;
              })
              [
                { }
                { packages = [ "make" ]; }
                { share = "9p"; }
                { allowedOrigins = [ ]; }
              ]
          )
        )
      );
      expected = 4;
    };
    hashDoesNotDependOnOrder = {
      expr =
        hashOf {
          packages = [
            "make"
            "g++"
          ];
        } == hashOf {
          packages = [
            "g++"
            "make"
            "make"
          ];
        };
      expected = true;
    };
    builderIsAbsolute = {
      expr = match "/.*/debian/build-image" guest.image.builder != null;
      expected = true;
    };
    # QEMU cuts a fw_cfg name off at 55 characters.
    credentialNamesFit = {
      expr = filter (name: stringLength "opt/io.systemd.credentials/${name}" > 55) (
        map (name: guest.credentials.${name}) (attrNames guest.credentials)
      );
      expected = [ ];
    };
    diskLabelFits = {
      expr = stringLength guest.disk.label <= 16;
      expected = true;
    };

    # The policy.
    nothingGoesOut = {
      expr = contains ",restrict=on," (concatStringsSep " " (policy.qemu.net ""));
      expected = true;
    };
    sandboxed = {
      expr = all (word: contains word (concatStringsSep " " policy.qemu.sandbox)) [
        "obsolete=deny"
        "elevateprivileges=deny"
        "spawn=deny"
        "resourcecontrol=deny"
      ];
      expected = true;
    };
    sshd = {
      expr = all (line: contains line (text "/etc/ssh/sshd_config")) [
        "PasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\n"
        "PermitRootLogin no\n"
        "AllowUsers dev\n"
        "AllowAgentForwarding no\n"
        "AuthorizedKeysFile /run/"
      ];
      expected = true;
    };
    serviceIsHardened = {
      expr = filter (key: !hasAttr key policy.agentMcp.hardening) [
        "NoNewPrivileges"
        "ProtectSystem"
        "RestrictNamespaces"
        "SystemCallFilter"
      ];
      expected = [ ];
    };
    # What the NixOS module passes: any path, in place of this guest's.
    serviceTakesPaths = {
      expr =
        let
          service = policy.agentMcp.service {
            exe = {
              agentMcp = "/nix/store/x/bin/agent-mcp";
              mcpProxy = "/nix/store/y/bin/mcp-proxy";
              codemcp = "/nix/store/z/bin/codemcp";
            };
            path = "/nix/store/p/bin";
          };
        in
        any (contains "/usr/") (filter isString ([ service.ExecStart ] ++ service.Environment));
      expected = false;
    };

    # The runner.
    nothingUnquoted = {
      expr = match ".*@[a-z]+@.*" spec.runner;
      expected = null;
    };
    initrdOnlyWhereNeeded = {
      expr = map (g: contains "-initrd" g.image.spec.runner) [
        guest
        nineP
      ];
      expected = [
        false
        true
      ];
    };
    kernelOfTheShare = {
      expr = nineP.image.spec.kernel.package;
      expected = "linux-image-amd64";
    };

    # Unit files.
    unit = {
      expr = systemdUnit {
        Service = {
          ExecStart = "/bin/true";
          Environment = [
            "A=1"
            "B=2"
          ];
          RemainAfterExit = true;
          TimeoutSec = 5;
          Nothing = null;
          CapabilityBoundingSet = "";
        };
        Unit.Description = "a";
      };
      expected = ''
        [Unit]
        Description=a

        [Service]
        CapabilityBoundingSet=
        Environment=A=1
        Environment=B=2
        ExecStart=/bin/true
        RemainAfterExit=true
        TimeoutSec=5
      '';
    };
    unitOfBadValues = {
      expr =
        map
          (
            value:
            attempt (systemdUnit {
              Service.X = value;
            })
          )
          [
            "a\nExecStart=/bin/sh"
            { }
            1.5
            [ [ "a" ] ]
            [ "a\rb" ]
          ];
      expected = map (_: throws) (builtins.genList (n: n) 5);
    };
    unitOfUnknownSection = {
      expr = attempt (systemdUnit {
        Sevice = { };
      });
      expected = throws;
    };
  };
in
{
  inherit tests;
  count = length (attrNames tests);
  failures = listToAttrs (
    builtins.concatMap (
      name:
      let
        got = attempt tests.${name}.expr;
        inherit (tests.${name}) expected;
      in
      if got == expected then
        [ ]
      else
        [
          {
            inherit name;
            value = { inherit got expected; };
          }
        ]
    ) (attrNames tests)
  );
}
