"""Renders and validates the nginx configuration of the reverse proxy. No function here touches the system.

Nothing is quoted: each value must match a grammar that excludes special characters.
"""

import re
from collections import namedtuple

from policy import LONGEST_MESSAGE, MCP, grammar

# Not dataclasses: their import would take longer than everything else here.
Endpoint = namedtuple(
    "Endpoint",
    [
        # Address, `*` or a single one, and port to listen on.
        "listen",
        # Port of mcp-proxy on the loopback.
        "inner_port",
        # Web origins that may call; "*" allows any.
        "origins",
        # Names by which clients may call this endpoint, as in the Host header without the port.
        "hosts",
        # Paths of the certificate and key; None without TLS.
        "certificate",
        "key",
        # Token that clients must send; None if anyone may call.
        "token",
        # Token that allows replacing the certificate by another one for the same key; None forbids it.
        "renewal_token",
        # URL path for replacing the certificate.
        "renewal_path",
        # Directory that only nginx's account can access.
        "runtime",
    ],
)

PORT = re.compile(grammar("port"))
LISTEN = re.compile(rf"(?:{grammar('ipv4')}|\[[0-9A-Fa-f:.]+\]):(?:{PORT.pattern})")
# nginx's map ignores case, so tokens must not differ in case alone.
TOKEN = re.compile(r"[0-9a-f]{32,128}")
ORIGIN = re.compile(grammar("origin"))
HOST = re.compile(grammar("endpoint_host"))
PATH = re.compile(r"/[A-Za-z0-9._@/-]+")
MOST_HOSTS = 64

TOO_LONG = f"the message is longer than {LONGEST_MESSAGE >> 20} MiB, the maximum for this server"

HEALTH = MCP["healthPath"]
# Paths that are passed on to mcp-proxy: of the default server, and of named servers.
PATHS = f"({MCP['serversPath']}/{grammar('server_name')})?({MCP['mcpPath']}|{MCP['ssePath']}|{MCP['messagesPath']})/?"


class Refused(Exception):
    """Why there is no endpoint. The message contains no secret."""


def settings(value: object) -> tuple[bool, bool, list[str]]:
    """Returns whether TLS is on, whether a token is required, and the hosts, from `{"tls", "auth", "hosts"}`."""
    if not isinstance(value, dict) or set(value) != {"tls", "auth", "hosts"}:
        raise Refused("the endpoint's settings must be an object with exactly tls, auth and hosts")
    tls, auth, hosts = value["tls"], value["auth"], value["hosts"]
    if not (isinstance(tls, bool) and isinstance(auth, bool)):
        raise Refused("the endpoint's settings tls and auth must be true or false")
    if not (isinstance(hosts, list) and 0 < len(hosts) <= MOST_HOSTS and all(isinstance(host, str) for host in hosts)):
        raise Refused("the endpoint's setting hosts must be a list of names")
    return tls, auth, hosts


def matching(pattern: re.Pattern, what: str, value: str) -> str:
    if not pattern.fullmatch(value):
        raise Refused(f"invalid {what}")
    return value


def render(endpoint: Endpoint) -> str:
    """Returns the whole configuration; refuses invalid values."""
    listen = matching(LISTEN, "address to listen on", endpoint.listen)
    inner = matching(PORT, "port", endpoint.inner_port)
    runtime = matching(PATH, "directory", endpoint.runtime)
    hosts = " ".join(matching(HOST, "name of a host", host) for host in endpoint.hosts)
    if not endpoint.hosts:
        raise Refused("the endpoint has no host name")
    anywhere = "*" in endpoint.origins
    origins = "".join(
        f'    "{matching(ORIGIN, "web origin", origin)}" allowed;\n' for origin in endpoint.origins if origin != "*"
    )
    ssl = " ssl" if endpoint.certificate is not None else ""
    return f"""\
worker_processes 1;
pid {runtime}/nginx.pid;
error_log stderr warn;
events {{
  worker_connections 1024;
}}
http {{
  # Requests that fail while mcp-proxy starts would fill the journal.
  error_log stderr crit;
  # Requests may contain private data.
  access_log off;
  server_tokens off;
  default_type text/plain;
  map_hash_bucket_size 256;
  server_names_hash_bucket_size 256;
  client_body_temp_path {runtime}/body;
  proxy_temp_path {runtime}/proxy;
  fastcgi_temp_path {runtime}/fastcgi;
  uwsgi_temp_path {runtime}/uwsgi;
  scgi_temp_path {runtime}/scgi;
{tls(endpoint)}
{token("agent_token", endpoint.token, otherwise="right")}
{token("agent_renewal", endpoint.renewal_token, otherwise="wrong")}
  map $http_origin $agent_origin {{
    default {"allowed" if anywhere else "foreign"};
    "" none;
{origins}  }}
  # A browser asks for permission (CORS preflight) without the token. The answer must come from here: mcp-proxy would open a
  # session.
  map "$request_method $agent_origin $agent_token" $agent_verdict {{
    default 401;
    "~ foreign " 403;
    "~^OPTIONS allowed " 204;
    "~^(GET|POST|DELETE|PUT) [a-z]+ right$" "";
    "~ right$" 405;
  }}
  map $agent_verdict $agent_challenge {{
    default "";
    401 'Bearer realm="agent-vm"';
  }}
  map $agent_verdict $agent_methods {{
    default "";
    405 "GET, POST, DELETE";
  }}
  # Response headers of a CORS preflight (Fetch standard); nginx does not send empty ones.
  map $agent_verdict $agent_cors_origin {{
    default "";
    204 $http_origin;
  }}
  map $agent_verdict $agent_cors_methods {{
    default "";
    204 "GET, POST, DELETE";
  }}
  map $agent_verdict $agent_cors_headers {{
    default "";
    204 "authorization, content-type, accept, mcp-session-id, mcp-protocol-version, last-event-id";
  }}
  map $agent_verdict $agent_cors_age {{
    default "";
    204 600;
  }}
  map $agent_verdict $agent_vary {{
    default "";
    204 Origin;
  }}
  client_max_body_size {LONGEST_MESSAGE};
  client_header_timeout 20s;
  client_body_timeout 120s;
  large_client_header_buffers 4 16k;
  keepalive_timeout 120s;

  # The first server catches all other host names: a web page may have pointed its own name to this address.
  server {{
    listen {listen}{ssl};
    server_name "";
    return 421;
  }}
  server {{
    listen {listen}{ssl};
    server_name {hosts};
    add_header WWW-Authenticate $agent_challenge always;
    add_header Allow $agent_methods always;
    add_header Access-Control-Allow-Origin $agent_cors_origin always;
    add_header Access-Control-Allow-Methods $agent_cors_methods always;
    add_header Access-Control-Allow-Headers $agent_cors_headers always;
    add_header Access-Control-Max-Age $agent_cors_age always;
    add_header Vary $agent_vary always;
    if ($agent_verdict = 403) {{
      return 403;
    }}
    if ($agent_verdict = 204) {{
      return 204;
    }}
    if ($agent_verdict = 401) {{
      return 401;
    }}
    if ($agent_verdict = 405) {{
      return 405;
    }}
    error_page 413 @too_long;
    location @too_long {{
      default_type application/json;
      return 413 '{{"jsonrpc":"2.0","id":null,"error":{{"code":-32600,"message":"{TOO_LONG}"}}}}';
    }}
    location = {HEALTH} {{
      if ($request_method != GET) {{
        return 405;
      }}
      # The normalized path, not the one the client wrote.
      proxy_pass http://127.0.0.1:{inner}{HEALTH};
      proxy_set_header Authorization "";
      proxy_set_header Host localhost;
    }}
    # Only the matched path is passed on: nginx has decoded and normalized it, and it contains no other characters.
    location ~ "^(?<agent_path>{PATHS})\z" {{
      if ($request_method = PUT) {{
        return 405;
      }}
      proxy_pass http://127.0.0.1:{inner}$agent_path$is_args$args;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host localhost;
      # The servers run as the agent: they must not get the token.
      proxy_set_header Authorization "";
      # Nor may they redirect a request inside nginx.
      proxy_ignore_headers X-Accel-Redirect;
      proxy_buffering off;
      proxy_request_buffering off;
      proxy_cache off;
      # A tool may run for a long time, and an event stream may be silent for a long time.
      proxy_read_timeout 1d;
      proxy_send_timeout 1h;
      send_timeout 1h;
    }}
{renewal(endpoint)}    location / {{
      return 404;
    }}
  }}
}}
"""


def renewal(endpoint: Endpoint) -> str:
    """Returns the location that accepts a new certificate before the current one expires."""
    if endpoint.certificate is None or endpoint.renewal_token is None:
        return ""
    certificate = matching(PATH, "path of a certificate", endpoint.certificate)
    return f"""\
    location = {matching(PATH, "path of the renewal", endpoint.renewal_path)} {{
      if ($agent_renewal != right) {{
        return 401;
      }}
      limit_except PUT {{
        deny all;
      }}
      alias {certificate};
      dav_methods PUT;
      dav_access user:rw;
      client_max_body_size 64k;
    }}
"""


def tls(endpoint: Endpoint) -> str:
    if endpoint.certificate is None:
        return "  # TLS is off by the host's settings.\n"
    return f"""\
  # As variables, the files are read at each handshake: a new certificate needs no restart.
  map "" $agent_certificate {{
    default {matching(PATH, "path of a certificate", endpoint.certificate)};
  }}
  map "" $agent_key {{
    default {matching(PATH, "path of a key", endpoint.key)};
  }}
  ssl_certificate $agent_certificate;
  ssl_certificate_key $agent_key;
  ssl_protocols TLSv1.2 TLSv1.3;
  # Suites for TLS 1.2; all of TLS 1.3 are good.
  ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305;
  ssl_prefer_server_ciphers off;
  ssl_ecdh_curve X25519:prime256v1;
  ssl_session_cache shared:tls:1m;
  ssl_session_tickets off;
"""


def token(variable: str, value: str | None, otherwise: str) -> str:
    """Returns the map that checks a token. It is a hash lookup, whose duration does not depend on how much of a guess is right."""
    if value is None:
        return f'  map "" ${variable} {{\n    default {otherwise};\n  }}\n'
    value = matching(TOKEN, "token: 32 to 128 digits of 0-9 and a-f", value)
    return f'  map $http_authorization ${variable} {{\n    default wrong;\n    "Bearer {value}" right;\n  }}\n'
