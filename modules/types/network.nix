# Addresses, web origins and destinations.
{ lib }:
let
  policy = import ../../lib/policy;
  inherit (import ./checked.nix { inherit lib; }) checkedString firstOf shown;
  inherit (builtins) match;

  is = pattern: text: match policy.grammar.${pattern} text != null;
  isIPv4 = is "ipv4";
  isIPv6 = is "ipv6";
  # DNS allows 253 characters.
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
              why = "a network, but an address of this host is needed";
              write = shown (lib.head (lib.splitString "/" value));
            }
            {
              broken = match "[^:]+:[0-9]+" value != null;
              why = "which is not an address: the port is a separate option";
              write = shown (lib.head (lib.splitString ":" value));
            }
            {
              broken = value == "*";
              why = "which is not an address; 0.0.0.0 means every address of this host";
              write = ''"0.0.0.0"'';
            }
            {
              broken = true;
              why = "which is not an ${what}; names of interfaces and hosts are not accepted";
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
    Web origin, as browsers send it in the `Origin` header, or `*` for any.
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
              "but an origin has no path, not even a slash"
            else if match "https?://.*[*].*" value != null then
              "but * is only allowed alone, for every origin"
            else if match "https?://.*" value == null then
              "which does not begin with http:// or https://"
            else
              "which is not a scheme, host and port";
          write =
            if is "origin" "${scheme}://${host}" then
              ''"${scheme}://${host}"''
            else
              ''"https://app.example.org"'';
        };
  };

  /**
    Host name or address of an endpoint, without the port. IPv6 addresses are in brackets.
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
              "an IPv6 address without brackets"
            else if lib.hasInfix "/" value then
              "a URL, but a host name is needed"
            else if lib.hasInfix ":" value then
              "which has a port, but a name applies to every port"
            else if lib.hasInfix "*" value then
              "but wildcards are not supported"
            else
              "which is not a host name";
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
    Destination, as in `agent-vm egress allow`: a host, with or without a port, `*.DOMAIN`, `*`, or a group.
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
          why = "which has a scheme or a path, but rules apply to hosts and ports only";
          inherit write;
        }
        {
          broken = !lib.hasPrefix "@" value && !isWell;
          why = "which is not a host, host:port (1 to 65535), *.domain or group";
          inherit write;
        }
      ];
  };
}
