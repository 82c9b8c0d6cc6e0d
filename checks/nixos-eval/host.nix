# services.agent-vms
{
  eval,
  wrong,
  mentions,
  bare,
  ...
}:
let
  host =
    instances:
    eval [
      bare
      ../../modules
      {
        services.agent-vms = {
          enable = true;
          inherit instances;
        };
      }
    ];
in
{
  testHostHasAUnitAndAnAccountForEach = {
    expr =
      let
        config = host {
          app.repository = "/srv/app";
          off = {
            enable = false;
            repository = "/srv/app";
          };
        };
      in
      [
        (wrong config)
        (config.systemd.services ? agent-vm-app)
        (config.systemd.services ? agent-vm-off)
        config.users.users.agent-vm-app.isSystemUser
      ];
    expected = [
      [ ]
      true
      false
      true
    ];
  };
  testHostRefusesSharedPorts = {
    expr = mentions [ "{a,b}.port" "8000" ] (
      wrong (host {
        a.repository = "/a";
        a.port = 8000;
        b.repository = "/b";
        b.port = 8000;
      })
    );
    expected = true;
  };
  testHostRefusesMemoryThatCannotSuffice = {
    expr = mentions [ "a.resources.memoryMax" "5120M" ] (
      wrong (host {
        a.repository = "/a";
        a.resources.memoryMax = "4G";
      })
    );
    expected = true;
  };
}
