"""nginx's configuration for the gate: pure, from values that are checked here.

Nothing is quoted, because nothing that would need it is let in: each value has to match the grammar of what it is.
"""

import re
from collections import namedtuple

# dataclasses would take longer to import than everything else here together.
Endpoint = namedtuple(
    "Endpoint",
    [
        # Address and port, of all interfaces or one.
        "listen",
        # Where mcp-proxy listens, on loopback.
        "inner_port",
        # Web origins that may call; "*" is any.
        "origins",
        # Names that clients may call this endpoint by, as in the Host header without the port.
        "hosts",
        # Files; None without TLS.
        "certificate",
        "key",
        # None lets everybody in.
        "token",
        # Directory that is this account's own.
        "runtime",
    ],
)

LISTEN = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")
PORT = re.compile(r"[0-9]{1,5}")
# nginx compares them without regard to case, which takes nothing from digits that have none.
TOKEN = re.compile(r"[0-9a-f]{32,128}")
ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?")
HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]")
PATH = re.compile(r"/[A-Za-z0-9._@/-]+")
MOST_HOSTS = 64

# A name of a server, as workspace_servers.py has it.
NAMES = "[A-Za-z0-9][A-Za-z0-9_.-]*"


class Refused(Exception):
    """Why there is no endpoint. Says nothing of a secret's value."""


def settings(value: object) -> tuple[bool, bool, list[str]]:
    """Whether there is TLS, whether a token is asked for, and the hosts: from `{"tls", "auth", "hosts"}`."""
    if not isinstance(value, dict) or set(value) != {"tls", "auth", "hosts"}:
        raise Refused("the endpoint's settings are not an object of tls, auth and hosts")
    tls, auth, hosts = value["tls"], value["auth"], value["hosts"]
    if not (isinstance(tls, bool) and isinstance(auth, bool)):
        raise Refused("tls and auth of the endpoint's settings have to be true or false")
    if not (isinstance(hosts, list) and 0 < len(hosts) <= MOST_HOSTS and all(isinstance(host, str) for host in hosts)):
        raise Refused("hosts of the endpoint's settings has to be a list of names")
    return tls, auth, hosts


def matching(pattern: re.Pattern, what: str, value: str) -> str:
    if not pattern.fullmatch(value):
        raise Refused(f"what is given is no {what}")
    return value


def render(endpoint: Endpoint) -> str:
    """The whole configuration; refuses values that are not what they should be."""
    listen = matching(LISTEN, "address to listen on", endpoint.listen)
    inner = matching(PORT, "port", endpoint.inner_port)
    runtime = matching(PATH, "directory", endpoint.runtime)
    hosts = " ".join(matching(HOST, "name of a host", host) for host in endpoint.hosts)
    if not endpoint.hosts:
        raise Refused("an endpoint without a name cannot be called")
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
  # Requests that fail because mcp-proxy is not up yet would fill the journal.
  error_log stderr crit;
  # What it would log of a request helps nobody, and nothing is ever in it by mistake.
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
{token(endpoint)}
  map $http_origin $agent_origin {{
    default {"allowed" if anywhere else "foreign"};
    "" none;
{origins}  }}
  # A browser asks whether it may, without the token, before it does.
  map "$request_method $agent_origin $agent_token" $agent_let_in {{
    default 0;
    "~ right$" 1;
    "~^OPTIONS allowed " 1;
  }}
  map $status $agent_challenge {{
    default "";
    401 'Bearer realm="agent-vm"';
  }}
  client_max_body_size 64m;
  client_header_timeout 20s;
  client_body_timeout 120s;
  large_client_header_buffers 4 16k;
  keepalive_timeout 120s;

  # The first one is for every name that is not in the second: a page whose name was made to point here is told so.
  server {{
    listen {listen}{ssl};
    server_name "";
    return 421;
  }}
  server {{
    listen {listen}{ssl};
    server_name {hosts};
    add_header WWW-Authenticate $agent_challenge always;
    if ($agent_origin = foreign) {{
      return 403;
    }}
    if ($agent_let_in = 0) {{
      return 401;
    }}
    location = /status {{
      proxy_pass http://127.0.0.1:{inner};
      proxy_set_header Authorization "";
      proxy_set_header Host localhost;
    }}
    location ~ ^(/servers/{NAMES})?/(mcp|sse|messages)/?$ {{
      proxy_pass http://127.0.0.1:{inner};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host localhost;
      # The servers behind this are the agent's: the token is none of their business.
      proxy_set_header Authorization "";
      proxy_buffering off;
      proxy_request_buffering off;
      proxy_cache off;
      # A tool may take its time, and an event stream may have nothing to say for long.
      proxy_read_timeout 1d;
      proxy_send_timeout 1h;
      send_timeout 1h;
    }}
    location / {{
      return 404;
    }}
  }}
}}
"""


def tls(endpoint: Endpoint) -> str:
    if endpoint.certificate is None:
        return "  # No TLS: the host has said so.\n"
    return f"""\
  ssl_certificate {matching(PATH, "path of a certificate", endpoint.certificate)};
  ssl_certificate_key {matching(PATH, "path of a key", endpoint.key)};
  ssl_protocols TLSv1.2 TLSv1.3;
  # With TLS 1.2; those of 1.3 are all good.
  ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305;
  ssl_prefer_server_ciphers off;
  ssl_ecdh_curve X25519:prime256v1;
  ssl_session_cache shared:gate:1m;
  ssl_session_tickets off;
"""


def token(endpoint: Endpoint) -> str:
    """A look-up by hash: how long it takes says nothing of how much of a guess was right."""
    if endpoint.token is None:
        return '  map "" $agent_token {\n    default right;\n  }\n'
    value = matching(TOKEN, "token: 32 to 128 digits of 0-9 and a-f", endpoint.token)
    return f'  map $http_authorization $agent_token {{\n    default wrong;\n    "Bearer {value}" right;\n  }}\n'
