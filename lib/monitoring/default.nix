# Alert rules for Prometheus and a dashboard for Grafana, for the metrics of `agent-vm metrics`.
{
  # In the format of a rule file, which is YAML; JSON is YAML.
  alerts = builtins.fromJSON (builtins.readFile ./alerts.json);
  alertsFile = ./alerts.json;
  dashboard = ./dashboard.json;
}
