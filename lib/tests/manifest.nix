# The manifest of the Debian guest.
{
  guest,
  hashOf,
  policy,
  ...
}:
let
  inherit (builtins)
    attrNames
    filter
    fromJSON
    length
    listToAttrs
    map
    match
    stringLength
    toJSON
    ;
in
{
  fields = {
    expr = attrNames guest;
    expected = [
      "credentials"
      "disk"
      "egress"
      "guest"
      "image"
      "kernel"
      "networkMark"
      "ports"
      "powerOff"
      "qemu"
      "rootSetup"
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
              { packages = [ "gcc" ]; }
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
  # QEMU truncates fw_cfg names to 55 characters.
  credentialNamesFit = {
    expr = filter (name: stringLength "${policy.qemu.credentialPrefix}${name}" > 55) (
      map (name: guest.credentials.${name}) (attrNames guest.credentials)
    );
    expected = [ ];
  };
  diskLabelFits = {
    expr = stringLength guest.disk.label <= 16;
    expected = true;
  };
}
