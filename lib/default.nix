# Every public function of the library, one line each. Plain builtins: nothing here needs nixpkgs.
{
  /**
    What an agent machine is, as plain data; one file a concern.
  */
  policy = import ./policy;
  /**
    Manifest of the embedded Debian guest: `debianGuest { packages = [ "make" ]; share = "virtiofs"; }`.
  */
  debianGuest = import ./debian;
  /**
    Manifest of any guest; see docs/contract.md.
  */
  manifest = import ./manifest.nix;
  /**
    Text of a systemd unit from attribute sets.
  */
  systemdUnit = import ./systemd-unit.nix;
}
