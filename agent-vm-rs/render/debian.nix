# Written by agent-vm for one machine and overwritten by it: change the machine's settings instead.
{
  description = "agent-vm guest for the branch {{ branch }}";

  inputs.toolkit.url = "{{ toolkit }}";

  outputs =
    { toolkit, ... }:
    {
      manifest = toolkit.lib.debianGuest {
        share = "{{ share }}";
        packages = [{% for package in packages %} "{{ package }}"{% endfor %} ];
        servers = [{% for server in servers %} "{{ server }}"{% endfor %} ];
        proxy = "{{ proxy }}";
        agents = [{% for agent in agents %} "{{ agent }}"{% endfor %} ];{% if let Some(snapshot) = snapshot %}
        snapshot = "{{ snapshot }}";{% endif %}
      };
    };
}
