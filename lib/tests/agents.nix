# Coding agents: the policy, and their place in the Debian guest.
{
  debianGuest,
  policy,
  throws,
  attempt,
  spec,
  ...
}:
let
  inherit (builtins)
    all
    attrNames
    elem
    map
    ;
  names = attrNames policy.agents;
  installed =
    arguments:
    let
      inherit ((debianGuest arguments).image) spec;
    in
    {
      npm = map (installation: installation.lock) spec.npm.installations;
      node = map (installation: installation.requirements) spec.python.installations;
      links = builtins.filter (path: builtins.match "/usr/local/.*" path != null) (attrNames spec.links);
    };
in
{
  agentsHaveTheSameFields = {
    expr = all (name: attrNames policy.agents.${name} == attrNames policy.agents.claude) names;
    expected = true;
  };
  agentsNameKnownGroups = {
    expr = all (
      name:
      let
        agent = policy.agents.${name};
        groups =
          agent.groups
          ++ builtins.concatMap (secret: if secret ? group then [ secret.group ] else [ ]) agent.secrets;
      in
      all (group: elem group (attrNames policy.egress.groups)) groups
    ) names;
    expected = true;
  };
  # The machine's own switch for an agent's sandbox must not switch off its questions.
  agentsAskUnlessToldNotTo = {
    expr = builtins.filter (
      name:
      let
        agent = policy.agents.${name};
      in
      agent.unattended == [ ] || builtins.any (word: elem word agent.arguments) agent.unattended
    ) names;
    expected = [ ];
  };
  agentsAreInstalledWithTheirNode = {
    expr = installed {
      agents = [
        "codex"
        "claude"
        "codex"
      ];
    };
    expected = {
      npm = [
        "agents/claude"
        "agents/codex"
      ];
      node = [
        "requirements.txt"
        "node.txt"
      ];
      links = [
        "/usr/local/bin/claude"
        "/usr/local/bin/codex"
        "/usr/local/bin/node"
        "/usr/local/bin/npm"
        "/usr/local/bin/npx"
      ];
    };
  };
  debiansNodeTakesPrecedence = {
    expr =
      (installed {
        agents = [ "gemini" ];
        packages = [ "nodejs" ];
      }).links;
    expected = [ "/usr/local/bin/gemini" ];
  };
  guestsHaveNoAgentByDefault = {
    expr = spec.npm;
    expected = null;
  };
  unknownAgents = {
    expr =
      map
        (
          agents:
          attempt (debianGuest {
            inherit agents;
          })
        )
        [
          [ "x" ]
          [ "../claude" ]
          "claude"
          [ 1 ]
        ];
    expected = [
      throws
      throws
      throws
      throws
    ];
  };
}
