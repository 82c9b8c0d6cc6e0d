# Addresses, web origins and destinations.
{ lib }:
let
  policy = import ../../lib/policy;
  inherit (import ./checked.nix { inherit lib; }) checkedString firstOf shown;
  inherit (builtins) match;

  is = pattern: text: match policy.grammar.${pattern} text != null;
  isIPv4 = is "ipv4";
  isIPv6 = is "ipv6";
  # A name in the domain name system.
  isName = text: is "host_name" text && lib.stringLength text <= 253;
  # Host and port of a URL or of a similar text.
  ofURL =
    text:
    let
      parts = match "([A-Za-z][A-Za-z0-9+.-]*://)?([^/@]*@)?([^/]*)(/.*)?" text;
    in
    if parts == null then "" else lib.elemAt parts 2;

  address =
    { what, isOther }:
    checkedString {
      description = "${what}, or localhost";
      example = ''"127.0.0.1"'';
      wrong =
        value:
        if value == "localhost" || isIPv4 value || isOther value then
          null
        else
          firstOf [
            {
              broken = match "[0-9.]+/[0-9]+" value != null;
              why = "which is a network, not an address of this host";
              write = shown (lib.head (lib.splitString "/" value));
            }
            {
              broken = match "[^:]+:[0-9]+" value != null;
              why = "which is no address: a port is an option of its own";
              write = shown (lib.head (lib.splitString ":" value));
            }
            {
              broken = value == "*";
              why = "which is no address; every address of this host is 0.0.0.0";
              write = ''"0.0.0.0"'';
            }
            {
              broken = true;
              why = "which is no ${what}: neither interfaces nor names of hosts are";
              write = ''"192.0.2.10"'';
            }
          ];
    };
in
{
  /**
    IPv4 address of this host.
  */
  hostAddress = address {
    what = "IPv4 address of this host";
    isOther = _: false;
  };

  /**
    IPv4 or IPv6 address of this host.
  */
  listenAddress = address {
    what = "IPv4 or IPv6 address of this host";
    isOther = isIPv6;
  };

  /**
    Web origin: what browsers send as `Origin`; `*` is any.
  */
  origin = checkedString {
    description = "web origin: scheme, host and port, and no path";
    example = ''"https://app.example.org"'';
    wrong =
      value:
      let
        host = ofURL value;
        scheme = if lib.hasPrefix "http://" value then "http" else "https";
      in
      if is "origin" value then
        null
      else
        {
          why =
            if match "https?://[^/]+/.*" value != null then
              "which has a path, if only a slash, and an origin has none"
            else if match "https?://.*[*].*" value != null then
              "but a * stands for every origin or for none"
            else if match "https?://.*" value == null then
              "which has no http:// or https:// before its host"
            else
              "which is no scheme, host and port";
          write =
            if is "origin" "${scheme}://${host}" then
              ''"${scheme}://${host}"''
            else
              ''"https://app.example.org"'';
        };
  };

  /**
    Name or address that clients call an endpoint by, without the port. IPv6 addresses stand in brackets.
  */
  endpointHost = checkedString {
    description = "host name or address, without scheme and port";
    example = ''"agent.example.org"'';
    wrong =
      value:
      let
        bare = lib.head (lib.splitString ":" (ofURL value));
        isHost = is "endpoint_host";
      in
      if isHost value then
        null
      else
        {
          why =
            if isIPv6 value then
              "which is an IPv6 address without brackets"
            else if lib.hasInfix "/" value then
              "which is a URL"
            else if lib.hasInfix ":" value then
              "which has a port, and a name is the same for every port"
            else if lib.hasInfix "*" value then
              "but each name stands for itself"
            else
              "which is no host name";
          write =
            if isIPv6 value then
              ''"[${value}]"''
            else if isHost bare then
              shown bare
            else
              ''"agent.example.org"'';
        };
  };

  /**
    Destination of the guest, as `agent-vm egress allow` takes it: a host, with or without a port, `*.DOMAIN`, `*`, or a group.
  */
  destination = checkedString {
    description = "host, host:port, *.domain, or group such as @npm";
    example = ''"api.example.org"'';
    wrong =
      value:
      let
        groups = builtins.attrNames policy.egress.groups;
        group = lib.removePrefix "@" value;
        # A pattern cannot check the length of a name.
        isWell =
          is "destination" value && lib.all (part: lib.stringLength part <= 253) (lib.splitString ":" value);
        better = lib.toLower (ofURL value);
        betterHost = lib.head (lib.splitString ":" better);
        write = if betterHost != "" && isName betterHost then shown betterHost else ''"api.example.org"'';
      in
      firstOf [
        {
          broken = lib.hasPrefix "@" value && !lib.elem group groups;
          why = "which is not one of the groups ${lib.concatMapStringsSep " " (name: "@${name}") groups}";
          write = ''"@npm"'';
        }
        {
          broken = !lib.hasPrefix "@" value && lib.hasInfix "/" value;
          why = "which has a scheme or a path, and only hosts and ports are decided on";
          inherit write;
        }
        {
          broken = !lib.hasPrefix "@" value && !isWell;
          why = "which is no host, host:port (1 to 65535), *.domain or group";
          inherit write;
        }
      ];
  };
}
