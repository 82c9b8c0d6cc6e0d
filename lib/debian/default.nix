# The manifest of the Debian guest. build-image builds the image from its `image.spec`.
let
  policy = import ../policy;
  manifest = import ../manifest.nix;
  sources = import ./sources.nix;
  paths = import ./paths.nix;

  inherit (builtins)
    all
    attrNames
    concatStringsSep
    elem
    filter
    hashString
    head
    isList
    isString
    match
    toJSON
    ;

  architectures = {
    x86_64-linux = "amd64";
  };

  # Package names (Debian Policy 5.6.7) become arguments of apt, so other names are refused.
  isPackageName = name: isString name && match policy.grammar.debian_package name != null;
  # An origin (scheme, host and port) becomes an argument in a unit file.
  isOrigin = origin: isString origin && match policy.grammar.origin origin != null;

  knownServers = policy.agentMcp.knownServers.debian;

  oneOf = names: concatStringsSep ", " (map (name: "\"${name}\"") names);

  check =
    {
      system,
      packages,
      share,
      allowedOrigins,
      servers,
      proxy,
      agents,
      snapshot,
    }:
    if !(isString system && architectures ? ${system}) then
      throw "debianGuest: system is ${toJSON system}; supported systems: ${oneOf (attrNames architectures)}"
    else if !(isString share && policy.workspace.shares ? ${share}) then
      throw "debianGuest: share is ${toJSON share}; it must be one of ${oneOf (attrNames policy.workspace.shares)}"
    else if !isList packages then
      throw "debianGuest: packages is ${toJSON packages}; a list of Debian package names is needed"
    else if !all isPackageName packages then
      throw "debianGuest: ${
        toJSON (head (filter (name: !isPackageName name) packages))
      } in packages is not the name of a Debian package"
    else if !(isList allowedOrigins && all isOrigin allowedOrigins) then
      throw "debianGuest: allowedOrigins is ${toJSON allowedOrigins}; a list of origins such as \"https://claude.ai\" is needed"
    else if !isList servers then
      throw "debianGuest: servers is ${toJSON servers}; a list of names is needed"
    else if !all (name: elem name knownServers) servers then
      throw "debianGuest: ${
        toJSON (head (filter (name: !elem name knownServers) servers))
      } in servers is unknown; this guest has ${oneOf knownServers}"
    else if !elem proxy policy.agentMcp.proxies then
      throw "debianGuest: proxy is ${toJSON proxy}; it must be one of ${oneOf policy.agentMcp.proxies}"
    else if !(isString snapshot && match "[0-9]{8}T[0-9]{6}Z" snapshot != null) then
      throw "debianGuest: snapshot is ${toJSON snapshot}; a time such as \"20261101T000000Z\" is needed"
    else if !isList agents then
      throw "debianGuest: agents is ${toJSON agents}; a list of names is needed"
    else if !all (name: elem name (attrNames policy.agents)) agents then
      throw "debianGuest: ${
        toJSON (head (filter (name: !elem name (attrNames policy.agents)) agents))
      } in agents is unknown; this guest has ${oneOf (attrNames policy.agents)}"
    else
      true;
in
/**
  Manifest of a Debian guest.

  `system`: Nix system double. `packages`: names of more Debian packages. `share`: how /workspace is mounted,
  `virtiofs` or `9p`. `allowedOrigins`: web origins that may call the MCP endpoint. `servers`: MCP servers beside
  codemcp, by name (`servers.nix`). `proxy`: what serves MCP over HTTP, `gateway` or `mcp-proxy`. `agents`: coding agents, by
  name (`lib/policy/agents/`). `snapshot`: time of the snapshot of Debian that the packages are from.

  Type: attrset → attrset

  Example: debianGuest { packages = [ "make" "g++" ]; share = "9p"; }
*/
{
  system ? "x86_64-linux",
  packages ? [ ],
  share ? "virtiofs",
  allowedOrigins ? policy.agentMcp.allowedOrigins,
  servers ? [ ],
  proxy ? builtins.head policy.agentMcp.proxies,
  agents ? [ ],
  snapshot ? (builtins.fromJSON (builtins.readFile ./snapshot.json)).date,
}:
assert check {
  inherit
    system
    packages
    share
    allowedOrigins
    servers
    proxy
    agents
    snapshot
    ;
};
let
  spec = import ./spec.nix {
    inherit
      packages
      share
      allowedOrigins
      servers
      proxy
      agents
      snapshot
      ;
    architecture = architectures.${system};
  };
in
manifest {
  guest = "debian";
  inherit system share;
  runner = "bin/run-agent-vm";
  kernel = "vmlinux";
  powerOff = "ctrl-alt-delete";
  networkMark = policy.network.consoleMark;
  rootSetup = paths.writableScript;
  image = {
    inherit spec;
    inherit (sources) builder;
    # Depends only on contents: the same toolkit in another directory gives the same image.
    hash = hashString "sha256" (toJSON {
      inherit spec system;
      inherit (sources) hashes;
    });
  };
}
