# The sources of root's apt. The egress group @debian has these hosts.
{ suite }:
let
  keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
in
''
  Types: deb
  URIs: https://deb.debian.org/debian
  Suites: ${suite} ${suite}-updates
  Components: main
  Signed-By: ${keys}

  Types: deb
  URIs: https://security.debian.org/debian-security
  Suites: ${suite}-security
  Components: main
  Signed-By: ${keys}
''
