"""JupyterLab in a real headless browser opens the first notebook, runs all cells, and shows figures."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from nbutils.files import ROOT

pytestmark = pytest.mark.lab
START_SECONDS, RUN_SECONDS = 60, 240


def browser_paths():
    """Return browser and driver of this machine; they are installed, never downloaded."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (browser and driver):
        pytest.fail("make test-lab needs chromium and chromedriver on the PATH (Debian: chromium, chromium-driver).")
    return browser, driver


@pytest.fixture
def lab(tmp_path):
    """Start JupyterLab on a copy of the notebooks, and yield its address."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "jupyter",
        "lab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        "--expose-app-in-browser",
    ]
    options = [f"--port={port}", "--IdentityProvider.token=", f"--ServerApp.root_dir={tmp_path / 'notebooks'}"]
    settings = tmp_path / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"windowingMode": "none"}))  # else only what is on the screen is in the page
    folders = {"JUPYTER_CONFIG_DIR": tmp_path / "config", "JUPYTERLAB_SETTINGS_DIR": tmp_path / "settings"}
    environment = {**os.environ, **{name: str(path) for name, path in folders.items()}, "NBUTILS_SCALE": "smoke"}
    with open(tmp_path / "lab.log", "w") as log:
        server = subprocess.Popen(command + options, env=environment, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}/lab"
    try:
        wait_for(lambda: urllib.request.urlopen(f"{address}/api/themes", timeout=2) or True, START_SECONDS)
        yield address
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def browser(tmp_path):
    from selenium import webdriver

    path, driver = browser_paths()
    options = webdriver.ChromeOptions()
    options.binary_location = path
    quiet = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    for argument in [*quiet, "--window-size=1400,6000", f"--user-data-dir={tmp_path / 'profile'}"]:
        options.add_argument(argument)
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield window
    window.quit()


def wait_for(condition, seconds):
    """Wait until `condition()` is true; whatever it raises counts as not yet."""
    last = None
    for _ in range(int(seconds * 2)):
        try:
            if condition():
                return
        except Exception as error:
            last = error
        time.sleep(0.5)
    pytest.fail(f"{condition} did not come true within {seconds} s; last error: {last!r}")


FIGURES = ".jp-OutputArea-output img"
COUNTS = """
    return window.jupyterapp.shell.currentWidget.content.widgets
        .filter(cell => cell.model.type === "code").map(cell => cell.model.executionCount)
"""


def test_the_first_notebook_runs_in_the_browser_and_shows_figures(lab, browser):
    from selenium.webdriver.common.by import By

    def figures():
        return browser.find_elements(By.CSS_SELECTOR, FIGURES)

    def execution_counts():
        return browser.execute_script(COUNTS)

    def do(command):
        browser.execute_script("window.jupyterapp.commands.execute(arguments[0])", command)

    browser.get(f"{lab}/tree/00_start_here.ipynb?reset")
    wait_for(lambda: len(figures()) >= 2, START_SECONDS)  # the stored outputs
    wait_for(lambda: "Idle" in browser.page_source, START_SECONDS)
    do("notebook:clear-all-cell-outputs")
    wait_for(lambda: not figures() and not any(execution_counts()), START_SECONDS)
    do("notebook:run-all-cells")
    wait_for(lambda: len(execution_counts()) > 10 and all(execution_counts()), RUN_SECONDS)
    assert execution_counts() == sorted(execution_counts())
    assert len(figures()) >= 2
    assert all(int(figure.get_property("naturalWidth")) > 200 for figure in figures())
    errors = "[data-mime-type='application/vnd.jupyter.error']"
    assert not browser.find_elements(By.CSS_SELECTOR, errors)
    (ROOT / "runs").mkdir(exist_ok=True)
    browser.save_screenshot(str(ROOT / "runs" / "lab.png"))
