"""Which server a W&B run goes to: a key of the account goes to none that only the files of a run name."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

import tracking_core as tracking
from tests.support.commands import spawned
from tests.support.commands import tracking as command
from tests.support.wandb_client import client_env, wandb_client
from tests.support.wandb_server import WandbServer
from tracking_core.backends.plugins import find_adapter
from tracking_core.backends.targets import parse_target
from tracking_core.cli.app import app
from tracking_core.delivery.sync import sync_run
from tracking_wandb import places
from tracking_wandb.offline.run import read_offline_run

pytestmark = pytest.mark.system

KEY = "0123456789" * 4


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    with WandbServer() as server:
        env = server.env(tmp_path_factory.mktemp("client"))
        env.pop("WANDB_BASE_URL")
        with wandb_client(env) as wandb:
            wandb.setup()
            yield server, env


@pytest.fixture
def server(online, monkeypatch, tmp_path):
    for name, value in online[1].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "client"))
    return online[0]


@pytest.fixture
def listener():
    """A server that takes note of whatever is said to it, and answers nothing that a client could use."""
    said = []

    class Handler(BaseHTTPRequestHandler):
        def handle(self):
            said.append(self.connection.recv(10_000))

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}", said
        http.shutdown()


def recorded(target, run_id="r"):
    """A run that says it was started with a target, as somebody else may have written it."""
    with tracking.start_run("p", run_id=run_id, root="runs", backends="local") as run:
        run.log_scalars({"x": 1.0}, step=0)
    path = run.dir / "run.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "targets": [target]}))
    return run.dir


def sync(directory, target):
    notes: list = []
    (report,) = sync_run(
        directory, [parse_target(target)], status="finished", note=lambda *note: notes.append(note[:2])
    )
    return report, notes


# ---- who gets a key


def test_a_server_that_only_a_run_names_gets_no_request(server, listener):
    url, said = listener
    target = f"wandb://?base_url={url}"
    report, notes = sync(recorded(target), target)
    assert not report.ok
    assert f"names the server {url}" in report.last_error
    assert "--to" in report.last_error
    assert len(notes) == 1
    out = CliRunner().invoke(app, ["sync", "--all", "--root", "runs"])
    assert out.exit_code != 0
    assert said == []


def test_nor_one_that_a_file_in_the_working_directory_names(server, listener):
    url, said = listener
    for home in ("wandb", ".wandb"):
        Path(home).mkdir()
        (Path(home) / "settings").write_text(f"[default]\nbase_url = {url}\n")
        report, _ = sync(recorded("wandb", home.strip(".") + home[0].replace(".", "h")), "wandb")
        assert f"{home}/settings names the server {url}" in report.last_error
    assert said == []


@pytest.mark.parametrize(
    "line",
    [
        "https_proxy = http://127.0.0.1:1", "http_proxy = http://127.0.0.1:1", "insecure_disable_ssl = true",
        f"api_key = {KEY}", "identity_token_file = /x", 'x_extra_http_headers = {"a": "b"}', "x_files_dir = /tmp",
        "code_dir = /", "x_stats_open_metrics_endpoints = {}",
    ],
)  # fmt: skip
def test_nor_is_it_obeyed_in_what_leads_astray(server, line):
    Path("wandb").mkdir()
    Path("wandb/settings").write_text(f"[default]\nentity = me\n{line}\n")
    with pytest.raises(tracking.SettingsError, match=f"sets {line.split()[0]}"):
        tracking.start_run("p", root="runs", backends=f"wandb://?base_url={server.url}")
    report, _ = sync(recorded("wandb"), "wandb")
    assert f"sets {line.split()[0]}" in report.last_error


@pytest.mark.parametrize(
    "url",
    [
        "http://x@y",
        "http://a b",
        "http://a\\b",
        "http://a?b=c",
        "http://a#b",
        "http://[",
        "http://a:b",
        "//a",
        "http://a/ü b",
        "http://a:0",
    ],
)
def test_addresses_that_can_be_read_in_two_ways_are_refused(url):
    target = replace(parse_target("wandb"), options={"base_url": url}, named=True)
    with pytest.raises(tracking.SettingsError, match="expected an address"):
        find_adapter("wandb").check_target(target)


BAD = [
    "localhost",
    "ftp://x",
    "http://x@y",
    "http://[",
    "https://wandb.ai",
    "http://api.wandb.ai",
    "https://app.wandb.ai",
]


@pytest.mark.parametrize("url", BAD)
@pytest.mark.parametrize("mode", ["online", "offline"])
def test_an_address_that_is_none_is_refused_wherever_it_stands(tmp_path, monkeypatch, url, mode):
    """The client reads them all, and takes none of these, even where it is to send nothing."""
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    target = f"wandb?mode={mode}"
    says = "expected an address such as|W&B's own server is https://api.wandb.ai, not"
    with pytest.raises(tracking.SettingsError, match=f"the option base_url: ({says})"):
        tracking.start_run("p", root="runs", backends=replace(parse_target(target), options={"base_url": url}))
    monkeypatch.setenv("WANDB_BASE_URL", url)
    for backends in (target, f"{target}&base_url=https://own.example"):
        with pytest.raises(tracking.SettingsError, match=f"^wandb: WANDB_BASE_URL: ({says})"):
            tracking.start_run("p", root="runs", backends=backends)
    monkeypatch.delenv("WANDB_BASE_URL")
    for home in ("config", "wandb"):
        (tmp_path / home).mkdir()
        (tmp_path / home / "settings").write_text(f"[default]\nbase_url = {url}\n")
        with pytest.raises(tracking.SettingsError, match=f"base_url in \\S+/{home}/settings: ({says})"):
            tracking.start_run("p", root="runs", backends=target)
        (tmp_path / home / "settings").unlink()
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "url", ["https://api.wandb.ai", "https://api.wandb.ai/", "http://10.0.0.1:8080", "https://wandb.own.example/x"]
)
def test_addresses_that_are_right(tmp_path, monkeypatch, url):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    check = find_adapter("wandb").check_target
    check(replace(parse_target(f"wandb?base_url={url}"), named=True))
    monkeypatch.setenv("WANDB_BASE_URL", url)
    check(replace(parse_target("wandb?mode=online"), named=True))


def test_what_the_client_does_not_take_is_one_short_line(server, monkeypatch, troubles):
    """It says it in many lines, with an address where to read more."""
    import wandb

    wandb.teardown()
    monkeypatch.setenv("WANDB_CONSOLE", "loud")
    with tracking.start_run("p", root="runs", run_id="r", backends="wandb?mode=offline", delivery="inline") as run:
        run.log_scalars({"x": 1.0}, step=0)
    error = run.finish()["wandb"].last_error
    assert "the client refused the settings (console: Input should be 'auto', 'off'" in error
    assert "\n" not in error
    assert "errors.pydantic.dev" not in error
    monkeypatch.delenv("WANDB_CONSOLE")
    wandb.teardown()


def test_a_server_that_was_named_before_is_known_to_sync(server, monkeypatch):
    target = f"wandb://?base_url={server.url}&finish_timeout=20"
    with tracking.start_run("p", run_id="named", root="runs", backends=target) as run:
        run.log_scalars({"x": 1.0}, step=0)
    assert len(server.runs["named"].history) == 1
    # Another run of the same server, from the files alone; the spelling of the address does not matter.
    assert sync(recorded(target, "later"), f"wandb://?base_url={server.url.upper()}/&finish_timeout=20")[0].ok
    assert len(server.runs["later"].history) == 1
    # Another account has not named it.
    monkeypatch.setenv("XDG_STATE_HOME", str(Path("another").absolute()))
    assert not sync(recorded(target, "theirs"), target)[0].ok
    assert "theirs" not in server.runs


def test_it_is_named_by_the_environment_by_to_and_by_the_settings_of_the_account(server, tmp_path, monkeypatch):
    target = f"wandb://?base_url={server.url}&finish_timeout=20"
    # From another process, as it is done.
    environment = {**client_env(tmp_path / "c", "online"), "WANDB_API_KEY": KEY, "XDG_STATE_HOME": str(tmp_path / "s")}
    recorded(target, "to")
    out, err = command("sync", "to", "--root", "runs", cwd=tmp_path, code=1, **environment)
    assert "--to" in out + err
    assert "to" not in server.runs
    command("sync", "to", "--root", "runs", "--to", target, cwd=tmp_path, **environment)
    assert len(server.runs["to"].history) == 1
    recorded(target, "after")
    command("sync", "after", "--root", "runs", cwd=tmp_path, **environment)
    assert len(server.runs["after"].history) == 1

    monkeypatch.setenv("WANDB_BASE_URL", server.url + "/")
    assert sync(recorded(target, "env"), target)[0].ok
    monkeypatch.delenv("WANDB_BASE_URL")
    assert not sync(recorded(target, "noenv"), target)[0].ok
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "settings").write_text(f"[default]\nbase_url = {server.url}\n")
    assert sync(recorded(target, "file"), target)[0].ok
    # And it is where a run without an address goes.
    assert sync(recorded("wandb", "plain"), "wandb://?finish_timeout=20")[0].ok
    assert len(server.runs["plain"].history) == 1


def test_a_run_does_not_follow_the_server_of_the_run_before(server, listener):
    """The client remembers where it logged in last; that was another target's business."""
    target = f"wandb://?base_url={server.url}&finish_timeout=20"
    with tracking.start_run("p", run_id="before", root="runs", backends=target) as run:
        run.log_scalars({"x": 1.0}, step=0)
    import wandb

    from tracking_wandb import client
    from tracking_wandb.folders import Folders
    from tracking_wandb.options import read_options

    info = tracking.RunInfo(id="after", name="after")
    options = read_options(parse_target("wandb"))
    settings = client.run_settings(wandb, options, info, "online", Folders(Path(), info, ""), None)
    assert places.normal(settings.base_url) == places.OWN_SERVER


def test_the_diagnosis_follows_no_redirect(server, monkeypatch):
    said = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self):
            said.append(dict(self.headers))
            self.send_response(200)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_):
            pass

    class Redirects(Elsewhere):
        def do_POST(self):
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{other.server_address[1]}/")
            self.end_headers()

    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as other,
        ThreadingHTTPServer(("127.0.0.1", 0), Redirects) as first,
    ):
        for http in (other, first):
            threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        found = find_adapter("wandb").diagnose(
            parse_target(f"wandb://?mode=online&base_url=http://127.0.0.1:{first.server_address[1]}")
        )
        other.shutdown()
        first.shutdown()
    assert found[-1].level == "error"
    assert said == []


# ---- one place


def place(text, run=None, **env):
    run = run or tracking.RunInfo(id="r", name="r", project="moons", dir=Path("runs/moons/r"))
    return find_adapter("wandb").place(parse_target(text), run)


def test_spellings_of_one_place(monkeypatch):
    monkeypatch.setenv("WANDB_ENTITY", "stub")
    spellings = [
        "wandb://stub/moons", "wandb:stub/moons", "wandb?entity=stub&project=moons", "wandb", "wandb:moons",
        "wandb://stub", "wandb?entity=stub", "wandb?mode=online", "wandb?base_url=https://api.wandb.ai/",
        "wandb?base_url=HTTPS://API.wandb.ai:443", "wandb?base_url=https://api.forge.coreweave.com",
        "wandb?console=auto&git=off&init_timeout=3&finish_timeout=9&metadata=off&save_code=on&system_metrics=off",
    ]  # fmt: skip
    assert {place(text) for text in spellings} == {"https://api.wandb.ai/stub/moons"}
    monkeypatch.setenv("WANDB_MODE", "run")
    monkeypatch.setenv("WANDB_BASE_URL", "https://Own.example:443/")
    assert (
        place("wandb") == place("wandb://stub/moons?base_url=https://own.example") == "https://own.example/stub/moons"
    )


@pytest.mark.parametrize("target", ["wandb:moons", "wandb:stub/moons", "wandb://stub/moons"])
def test_what_stands_behind_the_name_is_no_path(server, target):
    with tracking.start_run("p", run_id="colon", root="runs", backends=f"{target}?mode=offline") as run:
        run.log_scalars({"x": 1.0}, step=0)
    (log,) = Path("client").rglob("run-colon.wandb")
    found = read_offline_run(log)
    assert (found.project, found.entity) == ("moons", "stub" if "stub" in target else None)


def test_other_places_are_others(monkeypatch, tmp_path):
    texts = [
        "wandb", "wandb:other", "wandb://stub/moons", "wandb://stub2/moons", "wandb?base_url=http://api.wandb.ai",
        "wandb://stub/moons?base_url=https://own.example", "wandb://stub/moons?base_url=https://own.example:444",
        "wandb://stub/moons?base_url=https://own.example/path", "wandb?mode=offline", "wandb://stub/moons?mode=offline",
        "wandb?mode=offline&dir=here", "wandb?mode=disabled",
    ]  # fmt: skip
    assert len({place(text) for text in texts}) == len(texts)


def test_offline_the_directory_is_the_place(monkeypatch, tmp_path):
    own = place("wandb?mode=offline")
    assert place("wandb?mode=offline&base_url=https://own.example&git=off") == own
    assert place(f"wandb?mode=offline&dir={tmp_path}/runs/moons/r") == own
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    assert place("wandb") == own
    # Moved with its root it is where it was.
    moved = tracking.RunInfo(id="r", name="r", project="moons", dir=tmp_path / "other")
    assert place("wandb", moved) == own
    monkeypatch.setenv("WANDB_DIR", "client")
    assert place("wandb") == place(f"wandb?dir={tmp_path}/x/../client") == place("wandb?dir=client") != own
    assert "wandb" not in sys.modules or place("wandb", moved) == place("wandb")


def test_offline_a_directory_is_one_place_whatever_links_lead_to_it(monkeypatch, tmp_path):
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "runs").symlink_to("elsewhere")
    one = place("wandb?mode=offline&dir=real")
    for spelling in ("link", "link/", "./link/below/..", f"{tmp_path}/link", "~/real"):
        monkeypatch.setenv("HOME", str(tmp_path))
        assert place(f"wandb?mode=offline&dir={spelling}") == one
    monkeypatch.setenv("WANDB_DIR", "link")
    assert place("wandb?mode=offline") == one
    # Not as it looks: what is above a directory is above the one that the link leads to.
    (tmp_path / "deep").symlink_to("real/below")
    assert place("wandb?mode=offline&dir=deep/..") == one
    assert place("wandb?mode=offline&dir=new/link") != one
    # The run's own directory, by whatever name.
    monkeypatch.delenv("WANDB_DIR")
    assert place("wandb?mode=offline") == place("wandb?mode=offline&dir=elsewhere/moons/r") != one
    assert place("wandb?mode=offline") == place("wandb?mode=offline&dir=runs/moons/r")


def test_what_else_decides_is_known_without_the_client(monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "set")
    run = tracking.RunInfo(id="r", name="r", project="default")
    assert place("wandb", run) == "https://api.wandb.ai/?/set"
    assert place("wandb:a%25b", run) == place("wandb?project=a%25b", run)
    Path("wandb").mkdir()
    Path("wandb/settings").write_text("[default]\nentity = me\nmode = offline\nbase_url = http://x\n")
    assert place("wandb", run) == place("wandb://me/set?mode=offline", run) != place("wandb?mode=online", run)


# ---- said at the start


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("wandb://?mode=ofline", "expected online, offline or disabled"),
        ("wandb://?init_timeout=soon", "positive number of seconds"),
        ("wandb://?finish_timeout=0", "positive number of seconds"),
        ("wandb://?finish_timeout=1e18", r"at most 604800 \(7 days\)"),
        ("wandb://?init_timeout=604801", r"at most 604800 \(7 days\)"),
        ("wandb://?finish_timeout=inf", "positive number of seconds"),
        ("wandb://?finish_timeout=nan", "positive number of seconds"),
        ("wandb://?dir=s3://bucket/x", "expected a directory on this machine"),
        ("wandb://?dir=~nobody-of-that-name/x", "home directory"),
        ("wandb://?base_url=nowhere", "expected an address"),
        ("wandb://?system_metrics=yes", "expected on or off"),
        ("wandb://a/b/c", "more than an entity and a project"),
        ("wandb", "no API key for https://api.wandb.ai.*wandb login.*WANDB_API_KEY.*mode=offline"),
        ("wandb://?base_url=https://own.example", "no API key for https://own.example"),
    ],
)
def test_what_cannot_work_is_refused_before_a_run_is_there(tmp_path, monkeypatch, target, message):
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "wandb", None)  # whoever imports it fails
    monkeypatch.setattr("tracking_core.backends.plugins._is_installed", lambda name: True)
    with pytest.raises(tracking.SettingsError, match=message):
        tracking.start_run("p", root="runs", backends=target)
    assert not Path("runs").exists()


@pytest.mark.parametrize("mode", ["ofline", "shared"])
def test_a_mode_of_the_environment_is_checked_too(monkeypatch, mode):
    monkeypatch.setenv("WANDB_MODE", mode)
    with pytest.raises(tracking.SettingsError, match=f"WANDB_MODE={mode}: expected online"):
        tracking.start_run("p", root="runs", backends="wandb")


def test_a_key_is_found_where_the_client_finds_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    # Nor does the program use the client already, and is logged in with it.
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr("tracking_core.backends.plugins._is_installed", lambda name: True)
    adapter = find_adapter("wandb")

    def check(text="wandb"):
        adapter.check_target(replace(parse_target(text), named=True))

    with pytest.raises(tracking.SettingsError, match="no API key"):
        check()
    check("wandb?mode=offline")
    check("wandb?mode=disabled")
    (tmp_path / ".netrc").write_text(f"machine own.example login user password {KEY}\n")
    with pytest.raises(tracking.SettingsError, match="no API key"):
        check()
    check("wandb?base_url=https://own.example")
    (tmp_path / ".netrc").unlink()
    (tmp_path / ".config" / "wandb").mkdir(parents=True)
    (tmp_path / ".config" / "wandb" / "settings").write_text(f"[default]\napi_key = {KEY}\n")
    check()
    (tmp_path / ".config" / "wandb" / "settings").write_text("[default]\nmode = offline\n")
    check()
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(tracking.SettingsError, match="no API key"):
        check()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    check()


def test_a_key_that_is_missing_later_is_said_once(server, monkeypatch, tmp_path):
    """The deliverer of another day has none: one message, without anything of the program in it."""
    environment = {**client_env(tmp_path / "c", "online"), "WANDB_BASE_URL": server.url}
    recorded("wandb")
    out, err = spawned("sync", "r", "--root", "runs", cwd=tmp_path, code=1, **environment)
    assert (out + err).count("there is no API key") == 1
    assert "{" not in out + err
