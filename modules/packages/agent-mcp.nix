# The launcher of the agent service: lib/guest/agent_mcp, Python's standard library only.
{
  lib,
  python3,
  runCommand,
  runtimeShell,
}:
let
  policy = import ../../lib/policy;
  source = lib.fileset.toSource {
    root = ../../lib;
    fileset = lib.fileset.unions (
      [ (lib.fileset.fileFilter (file: file.hasExt "py") ../../lib/guest/agent_mcp) ]
      ++ builtins.attrValues policy.guestFiles
    );
  };
in
runCommand "agent-mcp"
  {
    meta = {
      description = "Serves the MCP servers of a workspace through mcp-proxy";
      license = lib.licenses.mit;
      mainProgram = "agent-mcp";
      platforms = lib.platforms.linux;
    };
  }
  ''
    mkdir -p "$out/bin"
    cp -R ${source} "$out/lib"
    chmod -R u+w "$out/lib"
    # Byte code is compiled here, because nothing writes to the store later. unchecked-hash, because store paths have no useful times.
    ${lib.getExe python3} -m compileall -q --invalidation-mode unchecked-hash "$out/lib/guest"
    # Python runs a directory with a __main__.py as a program. -I ignores the caller's Python settings.
    printf '#!%s\nexec %s -I %s "$@"\n' ${runtimeShell} ${lib.getExe python3} "$out/lib/guest/agent_mcp" >"$out/bin/agent-mcp"
    chmod +x "$out/bin/agent-mcp"
    "$out/bin/agent-mcp" serve --help >/dev/null
  ''
