# systemd units and their environment.
{
  systemdUnit,
  throws,
  attempt,
  ...
}:
let
  inherit (builtins) map;
in
{
  environmentOfStrings = {
    expr = import ../environment.nix [
      "A=b=c"
      "EMPTY="
    ];
    expected = {
      A = "b=c";
      EMPTY = "";
    };
  };
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
}
