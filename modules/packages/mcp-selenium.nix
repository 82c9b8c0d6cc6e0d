# An MCP server for Selenium with Chromium, which nixpkgs does not have.
{
  lib,
  chromedriver,
  chromium,
  makeWrapper,
  python3Packages,
}:
python3Packages.buildPythonApplication rec {
  pname = "mcp-selenium";
  version = "1.0.2";
  pyproject = true;
  disabled = python3Packages.pythonOlder "3.11";

  src = python3Packages.fetchPypi {
    pname = "mcp_selenium";
    inherit version;
    hash = "sha256-mDG0Wt7mtrjhyepaLKi/mdNSBYVLJnsgmzAOQi2al/k=";
  };

  # chromedriver searches for a browser only in standard directories.
  postPatch = ''
    substituteInPlace driver/factory.py --replace-fail 'opts = ChromeOptions()' \
      'opts = ChromeOptions(); opts.binary_location = "${lib.getExe chromium}"'
  '';

  build-system = [
    python3Packages.setuptools
    python3Packages.wheel
  ];
  nativeBuildInputs = [ makeWrapper ];
  dependencies = [
    python3Packages.mcp
    python3Packages.pyyaml
    python3Packages.selenium
  ];
  # It would download drivers; nothing imports it.
  pythonRemoveDeps = [ "webdriver-manager" ];
  pythonRelaxDeps = true;

  # Selenium uses this driver and downloads no other.
  makeWrapperArgs = [
    "--set"
    "SE_CHROMEDRIVER"
    (lib.getExe chromedriver)
    "--set"
    "SE_OFFLINE"
    "true"
  ];
  # Its tests drive a browser.
  doCheck = false;
  pythonImportsCheck = [ "server" ];

  meta = {
    description = "MCP server that drives a browser with Selenium";
    homepage = "https://github.com/SCV-Consultants/selenium-mcp";
    license = lib.licenses.mit;
    mainProgram = "mcp_selenium";
    platforms = lib.platforms.linux;
  };
}
