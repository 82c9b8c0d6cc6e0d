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
    # Compiled here, once: what is in the store is never compiled again. unchecked-hash: its times say nothing.
    ${lib.getExe python3} -m compileall -q --invalidation-mode unchecked-hash "$out/lib/guest"
    # The interpreter takes a directory with a __main__.py for a program; -I keeps the caller's Python settings out.
    printf '#!%s\nexec %s -I %s "$@"\n' ${runtimeShell} ${lib.getExe python3} "$out/lib/guest/agent_mcp" >"$out/bin/agent-mcp"
    chmod +x "$out/bin/agent-mcp"
    "$out/bin/agent-mcp" serve --help >/dev/null
  ''
