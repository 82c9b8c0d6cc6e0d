# Arguments and environment variables of named MCP servers that both guests have (agent-mcp.nix names the servers).
workspace: {
  filesystem.arguments = [ workspace ];
  git.arguments = [ "--repository=${workspace}" ];
  # What the server remembers stays on the machine's disk.
  memory.environment = home: { MEMORY_FILE_PATH = "${home}/.mcp-memory.jsonl"; };
  playwright.arguments = home: [
    "--headless"
    # Chromium's sandbox needs user namespaces, which the machine forbids.
    "--no-sandbox"
    # Two clients cannot share a profile.
    "--isolated"
    # Not in the workspace, where it would be uncommitted work.
    "--output-dir=${home}/.cache/playwright-mcp"
  ];
}
