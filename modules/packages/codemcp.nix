# codemcp, which nixpkgs does not have.
{
  lib,
  git,
  makeWrapper,
  python3Packages,
}:
let
  # Only its own chat program (codemcp.agno) imports these, and nothing runs ruff.
  unused = [
    "agno"
    "anthropic"
    "google-genai"
    "ruff"
  ];
in
python3Packages.buildPythonApplication rec {
  pname = "codemcp";
  version = "0.6.0";
  pyproject = true;
  disabled = python3Packages.pythonOlder "3.12";

  src = python3Packages.fetchPypi {
    inherit pname version;
    sha256 = "87e0d20e53920bff59165d8fff01689988d0ae72efe1da1aff16acc66dda51e3";
  };

  build-system = [ python3Packages.hatchling ];
  nativeBuildInputs = [ makeWrapper ];
  dependencies = [
    python3Packages.anyio
    python3Packages.click
    python3Packages.editorconfig
    python3Packages.fastapi
    python3Packages.mcp
    python3Packages.pathspec
    python3Packages.pyyaml
    python3Packages.starlette
    python3Packages.toml
    python3Packages.tomli
    python3Packages.typer
    python3Packages.uvicorn
  ];
  pythonRemoveDeps = unused;
  pythonRelaxDeps = true;

  makeWrapperArgs = [
    "--prefix"
    "PATH"
    ":"
    (lib.makeBinPath [ git ])
  ];
  # Its tests drive git repositories and a model's API.
  doCheck = false;
  pythonImportsCheck = [ "codemcp" ];

  meta = {
    description = "MCP server that reads, edits and commits the files of a project";
    homepage = "https://github.com/ezyang/codemcp";
    license = lib.licenses.asl20;
    mainProgram = "codemcp";
  };
}
