# ssh in the guest: connections to other hosts go through the egress proxy, whose list needs the port, too.
let
  ports = import ./ports.nix;
in
{
  # For bash, with `cat` on PATH.
  script = builtins.readFile ./ssh-connect.sh;

  /**
    Text of ssh_config. `command`: the command that runs the script.
  */
  config = command: ''
    Host * !localhost !127.0.0.1 !::1
      ProxyCommand ${command} ${toString ports.egress} %h %p
  '';
}
