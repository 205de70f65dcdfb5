"""The command line: `tracking backends` and `tracking doctor`, in this process and as a real command."""

from __future__ import annotations

import importlib.metadata
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import tracking_core as tracking
from tests.support.distributions import good, install
from tests.support.programs import run as run_program
from tracking_core.cli.app import app
from tracking_core.cli.bounded import bounded
from tracking_core.cli.doctor import history, storage
from tracking_core.environment.mounts import find_mount, mount_of
from tracking_core.environment.settings import VARIABLES

pytestmark = pytest.mark.system

SECRET = "hunter2hunter2"


@pytest.fixture(autouse=True)
def _plain_home(monkeypatch, tmp_path):
    """The doctor looks at home and temporary directory as well: at those of the test."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)


def invoke(*arguments, code=0):
    """Call the command in this process; returns what it prints."""
    result = CliRunner().invoke(app, arguments, prog_name="tracking")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    return result.stdout if code != 2 else result.output


def doctor(*targets, code=0):
    """What the doctor finds, from its JSON."""
    return json.loads(invoke("doctor", "--json", *targets, code=code))


def command(*arguments, cwd, code=0, program=None, **env):
    """Run the command in a process of its own; returns (stdout, stderr)."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("TRACKING_", "WANDB_"))}
    done = subprocess.run(
        [*(program or [sys.executable, "-m", "tracking_core.cli"]), *arguments],
        cwd=cwd,
        env={**clean, **env},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == code, f"exit {done.returncode}, expected {code}:\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def findings(found, section=None, level=None):
    return [
        one
        for one in found["findings"]
        if (section is None or one["section"] == section) and (level is None or one["level"] == level)
    ]


def messages(found, section=None, level=None):
    return "\n".join(one["message"] for one in findings(found, section, level))


def advice(found, topic):
    [one] = [one for one in found["advice"] if one["topic"] == topic]
    return "\n".join(one["seen"]), "\n".join(one["remedies"])


# ---------------------------------------------------------------- the command itself


def test_the_installed_command_answers(tmp_path):
    installed = Path(sys.executable).parent / "tracking"
    for program in ([str(installed)], None):
        out, _ = command("--version", cwd=tmp_path, program=program)
        assert out == f"tracking, version {tracking.__version__}\n"
        out, _ = command("--help", cwd=tmp_path, program=program)
        assert "Usage: tracking " in out
        assert "backends" in out
        assert "doctor" in out


@pytest.mark.parametrize("arguments", [["--help"], ["doctor", "--help"], ["backends", "--help"], ["--version"]])
def test_help_imports_nothing_that_takes_time(arguments, tmp_path):
    code = f"""
    import sys
    sys.argv = ["tracking", *{arguments!r}]
    from tracking_core.cli import main
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
    heavy = {{"rich", "pluggy", "msgspec", "numpy", "PIL", "jax", "wandb", "tensorboardX", "importlib.metadata"}}
    print(sorted(heavy & set(sys.modules)), file=sys.stderr)
    """
    _, err = run_program(code, tmp_path)
    assert err.strip() == "[]"


@pytest.mark.parametrize(
    "arguments", [["--no-such-option"], ["no-such-verb"], ["backends", "a", "b"], ["doctor", "--timeout", "0"]]
)
def test_wrong_usage_ends_with_2(arguments):
    assert "Usage: tracking" in invoke(*arguments, code=2)


def test_a_working_directory_that_is_gone_is_said(tmp_path):
    code = """
    import os, sys
    os.mkdir("gone"); os.chdir("gone"); os.rmdir(os.getcwd())
    sys.argv = ["tracking", "doctor"]
    from tracking_core.cli import main
    main()
    """
    _, err = run_program(code, tmp_path, code_expected=1)
    assert err == "Error: the working directory is gone: change to one that exists\n"


def test_output_is_plain_where_nobody_looks_and_coloured_at_a_terminal(tmp_path):
    for arguments in (["backends"], ["backends", "wandb"], ["doctor"]):
        out, _ = command(*arguments, cwd=tmp_path)
        assert "\x1b" not in out
        assert not set("│─┃━╭╰") & set(out)
        assert not any(line.endswith(" ") for line in out.splitlines())
        seen = at_terminal(*arguments, cwd=tmp_path)
        assert "\x1b[32m" in seen
        assert "available" in seen


def at_terminal(*arguments, cwd):
    master, slave = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    env.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "tracking_core.cli", *arguments], cwd=cwd, env=env, stdout=slave, stderr=slave
    )
    os.close(slave)
    seen = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            # How Linux says that the other side is closed.
            break
        if not part:
            break
        seen += part
    os.close(master)
    assert process.wait(60) == 0
    return seen.decode()


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "ascii"])
def test_names_that_cannot_be_printed_are_no_reason_to_fail(encoding, tmp_path):
    (tmp_path / "tracking_runs").mkdir()
    env = {**os.environ, "PYTHONIOENCODING": encoding, "TRACKING_NAME": "日本 \udcff"}
    program = [sys.executable, "-m", "tracking_core.cli", "doctor"]
    out = subprocess.run(program, cwd=tmp_path, env=env, capture_output=True, timeout=100, check=True).stdout
    name = {"latin-1": b"\\u65e5\\u672c", "utf-8": "日本".encode()}.get(encoding, b"")
    assert name + b" \\udcff" in out


# ---------------------------------------------------------------- backends


def test_the_first_party_backends_are_listed_with_what_they_can_do():
    rows = {row["name"]: row for row in json.loads(invoke("backends", "--json"))["backends"]}
    assert set(rows) >= {"local", "none", "tensorboard", "wandb"}
    for name in ("local", "none", "tensorboard", "wandb"):
        row = rows[name]
        assert row["status"] == "available"
        assert (row["distribution"], row["version"]) == ("tracking-core", tracking.__version__)
        assert row["description"]
        assert row["guarantee"]
    version = importlib.metadata.version
    assert rows["wandb"]["packages"] == {"wandb": version("wandb")}
    assert rows["tensorboard"]["packages"] == {"tensorboardX": version("tensorboardX"), "crc32c": version("crc32c")}
    assert {"scalars", "images", "histograms", "artifacts", "tables"} <= set(rows["wandb"]["capabilities"])
    assert rows["none"]["capabilities"] == []


def test_the_list_has_a_line_for_each_backend():
    lines = invoke("backends").splitlines()
    assert lines[0].split() == ["backend", "status", "from", "needs", "guarantee", "capabilities", "description"]
    [line] = [line for line in lines if line.startswith("tensorboard ")]
    for part in (
        "available",
        "tracking-core",
        "tensorboardX",
        "exactly once",
        "scalars images histograms",
        "TensorBoard",
    ):
        assert part in line


def test_listing_imports_no_backend(tmp_path):
    code = """
    import sys
    from tracking_core.cli.backends import list_backends, print_table
    print_table(list_backends())
    assert not {"wandb", "tensorboardX", "crc32c", "jax"} & set(sys.modules)
    """
    run_program(code, tmp_path)


def test_one_backend_is_shown_with_its_options():
    text = invoke("backends", "TensorBoard")
    for part in (
        "hparams",
        "include",
        "every",
        "TRACKING_BACKEND_TENSORBOARD_OPTION",
        "[options.tensorboard]",
        "float32",
    ):
        assert part in text
    [row] = json.loads(invoke("backends", "tensorboard", "--json"))["backends"]
    assert "hparams" in row["options"]
    assert row["extra"] == "tracking-core[tensorboard]"


def test_a_name_that_nothing_provides_is_wrong_usage():
    text = invoke("backends", "tensorbord", code=2)
    assert "no backend 'tensorbord' is installed: did you mean 'tensorboard'?; installed are " in text


BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tensorboardX":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture
def zoo(tmp_path):
    """A directory with distributions that are broken in many ways, for PYTHONPATH; and tensorboardX is not there."""
    site = tmp_path / "site"
    install(site, "good-dist", "1.5", {"good": "good_m"}, {"good_m": good("good"), "sitecustomize": BLOCKER})
    install(site, "broken-dist", "0.9", {"broken": "broken_m"}, {"broken_m": "raise OSError('no luck today')"})
    install(site, "exits-dist", "0.9", {"exits": "exits_m"}, {"exits_m": "import sys; sys.exit(0)"})
    newer = good("newer").replace("api_version=1", "api_version=99")
    install(site, "newer-dist", "0.9", {"newer": "newer_m"}, {"newer_m": newer})
    for number in ("one", "two"):
        install(site, f"{number}-dist", "3.0", {"twice": f"{number}_m"}, {f"{number}_m": good("twice")})
    install(site, "garbled-dist", "1.0", "[tracking_core.adapters]\nno entry at all\n")
    return site


def test_what_is_wrong_with_one_backend_hides_no_other(tmp_path, zoo):
    out, _ = command("backends", "--json", cwd=tmp_path, code=1, PYTHONPATH=str(zoo))
    rows = [(row["name"], row["status"]) for row in json.loads(out)["backends"]]
    assert rows == [
        ("broken", "broken"),
        ("exits", "broken"),
        ("good", "available"),
        ("local", "available"),
        ("newer", "outdated"),
        ("none", "available"),
        ("tensorboard", "missing"),
        ("twice", "conflict"),
        ("twice", "conflict"),
        ("wandb", "available"),
    ]
    text, _ = command("backends", cwd=tmp_path, code=1, PYTHONPATH=str(zoo))
    for part in (
        "'broken' of broken-dist 0.9 cannot be imported: OSError: no luck today",
        "'exits' of exits-dist 0.9 cannot be imported: SystemExit: 0",
        "was built for adapter API 99, this is adapter API 1",
        "'twice' is provided by ",
        "one-dist 3.0",
        "two-dist 3.0",
        "tensorboard: tensorboardX is not installed",
        "pip install 'tracking-core[tensorboard]'",
    ):
        assert part in text
    text, _ = command("backends", "broken", cwd=tmp_path, code=1, PYTHONPATH=str(zoo))
    assert "no luck today" in text
    assert "upgrade broken-dist, or uninstall it" in text


def test_a_package_that_is_missing_is_no_error_until_it_is_asked_for(tmp_path):
    site = install(tmp_path / "site", "nothing", modules={"sitecustomize": BLOCKER})
    out, _ = command("backends", cwd=tmp_path, PYTHONPATH=str(site))
    assert "tensorboardX (missing)" in out
    out, _ = command("doctor", "--json", cwd=tmp_path, PYTHONPATH=str(site))
    [one] = [one for one in findings(json.loads(out), "backends") if "left out" in one["message"]]
    assert (one["level"], one["message"]) == (
        "ok",
        "left out, as nothing asks for them: tensorboard (needs tensorboardX)",
    )
    assert one["remedy"] == "pip install 'tracking-core[tensorboard]'"
    out, _ = command("doctor", "--json", "tensorboard:./tb", cwd=tmp_path, code=1, PYTHONPATH=str(site))
    [error] = findings(json.loads(out), level="error")
    assert error["message"] == "tensorboard:./tb: tensorboardX is not installed"
    assert error["remedy"] == "pip install 'tracking-core[tensorboard]'"


def test_the_doctor_names_every_adapter_that_is_broken(tmp_path, zoo):
    out, _ = command("doctor", "--json", cwd=tmp_path, code=1, PYTHONPATH=str(zoo))
    found = json.loads(out)
    errors = messages(found, "backends", "error")
    for part in ("broken-dist", "exits-dist", "newer-dist", "one-dist", "two-dist"):
        assert part in errors
    assert "garbled_dist-1.0.dist-info" in messages(found, "backends", "warning")
    assert "not available" not in messages(found, "backends")
    assert "tensorboard (needs tensorboardX)" in messages(found, "backends", "ok")
    assert messages(found, "targets", "error") == "", "the target itself, local, is fine"


# ---------------------------------------------------------------- doctor: settings


def test_all_is_fine_in_an_empty_directory(tmp_path):
    found = doctor()
    assert found["ok"] is True
    assert found["version"] == tracking.__version__
    assert [row["key"] for row in found["settings"]] == [variable.key for variable in VARIABLES]
    assert {row["origin"] for row in found["settings"]} == {"default"}
    assert found["settings_file"] is None
    assert found["store"]["root"] == str(tmp_path / "tracking_runs")
    assert not findings(found, level="error")
    assert not findings(found, level="warning")
    assert [target["target"] for target in found["targets"]] == ["local"]
    assert not (tmp_path / "tracking_runs").exists(), "looking creates nothing"
    assert "Everything is fine." in invoke("doctor")


def test_every_value_says_where_it_came_from(tmp_path, monkeypatch):
    file = tmp_path / "tracking.toml"
    file.write_text('project = "p"\n[options.tensorboard]\nhparams = "off"\nevery = 2\n[options.wandb]\nentity = "e"\n')
    monkeypatch.setenv("TRACKING_GROUP", "g")
    monkeypatch.setenv("TRACKING_BACKEND_TENSORBOARD_EVERY", "10")
    found = doctor("tensorboard:./tb?media=off")
    origins = {row["key"]: (row["value"], row["origin"]) for row in found["settings"]}
    assert found["settings_file"] == str(file)
    assert origins["project"] == ("p", str(file))
    assert origins["group"] == ("g", "environment variable TRACKING_GROUP")
    assert origins["backend"] == ("tensorboard:./tb?media=off", "argument")
    assert origins["resume"] == ("never", "default")
    assert origins["options.wandb.entity"] == ("e", str(file))
    variable = "environment variable TRACKING_BACKEND_TENSORBOARD_EVERY"
    assert origins["options.tensorboard.every"] == ("10", variable)
    [target] = found["targets"]
    assert {row["option"]: (row["value"], row["origin"]) for row in target["options"]} == {
        "media": ("off", "argument"),
        "every": ("10", variable),
        "hparams": ("off", str(file)),
    }
    text = invoke("doctor")
    assert str(file) in text
    assert "environment variable TRACKING_GROUP" in text


def test_without_an_argument_the_targets_that_are_set_are_checked(monkeypatch):
    monkeypatch.setenv("TRACKING_BACKEND", "tensorboard:./a,tensorboard:./b")
    found = doctor()
    assert [target["target"] for target in found["targets"]] == ["tensorboard:./a", "tensorboard:./b"]
    assert {target["origin"] for target in found["targets"]} == {"environment variable TRACKING_BACKEND"}
    assert [target["target"] for target in doctor("local", "none,local", code=1)["targets"]] == [
        "local",
        "none",
        "local",
    ]


@pytest.mark.parametrize(
    "variables",
    [
        {"TRACKING_BACKEND": f"wandb://me:{SECRET}@host/p,local"},
        {"TRACKING_BACKEND": f"wandb://{SECRET}@host"},
        {"TRACKING_BACKEND": f"wandb?api_key={SECRET}"},
        {"TRACKING_BACKEND": f"wandb?mode=offline&api%5Fkey={SECRET}"},
        {"TRACKING_BACKEND_TENSORBOARD_TOKEN": SECRET, "TRACKING_BACKEND": "tensorboard"},
        {"TRACKING_NOTES": f"password={SECRET}"},
        {"WANDB_API_KEY": SECRET * 3, "TRACKING_NOTES": SECRET * 3},
        {"MY_PASSWORD": SECRET, "TRACKING_NOTES": "x", "TRACKING_BACKEND": f"tensorboard:./tb?hparams={SECRET}"},
    ],
)
def test_secrets_are_never_shown(variables, tmp_path, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    code = 1 if "TRACKING_BACKEND" in variables else 0
    for output in (invoke("doctor", code=code), invoke("doctor", "--json", code=code)):
        assert SECRET not in output
        assert "[redacted]" in output


def test_secrets_in_the_file_are_not_shown_either(tmp_path):
    (tmp_path / "tracking.toml").write_text(f'backend = "tensorboard"\n[options.tensorboard]\napi_key = "{SECRET}"\n')
    for output in (invoke("doctor", code=1), invoke("doctor", "--json", code=1)):
        assert SECRET not in output
        assert "looks like a secret" in output


def test_variables_that_nothing_reads_are_named(monkeypatch):
    monkeypatch.setenv("TRACKING_PROJCT", "x")
    monkeypatch.setenv("TRACKING_BACKEND_TENSORBOARD_HPARAM", "x")
    monkeypatch.setenv("TRACKING_BACKEND_WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKING_BACKEND_NOBODY_X", "x")
    unread, nobody, misspelt = messages(doctor(), "settings", "warning").splitlines()
    assert unread == "nothing reads the environment variable TRACKING_PROJCT: did you mean 'TRACKING_PROJECT'?"
    assert nobody == "no installed backend reads the environment variable TRACKING_BACKEND_NOBODY_X"
    assert "TRACKING_BACKEND_TENSORBOARD_HPARAM: did you mean 'TRACKING_BACKEND_TENSORBOARD_HPARAMS'?" in misspelt


@pytest.mark.parametrize(
    ("name", "value", "level", "says"),
    [
        ("TRACKING_RESUME", "alow", "error", "'alow' is not one of never, allow, must: did you mean 'allow'?"),
        ("TRACKING_DELIVERY", "fast", "error", "'fast' is not one of process, thread, inline"),
        ("TRACKING_RUN_ID", "a/b", "error", "cannot name a directory everywhere"),
        ("TRACKING_RUN_ID", "one", "warning", "gives every run the identity 'one': only the first can start"),
    ],
)
def test_values_that_no_run_would_take_are_found(name, value, level, says, monkeypatch):
    monkeypatch.setenv(name, value)
    assert says in messages(doctor(code=1 if level == "error" else 0), "settings", level)


def test_a_settings_file_that_cannot_be_used_hides_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "tracking.toml").write_text("projet = 'x'")
    monkeypatch.setenv("TRACKING_GROUP", "g")
    found = doctor(code=1)
    assert "unknown setting 'projet': did you mean 'project'?" in messages(found, "settings", "error")
    assert {row["key"]: row["value"] for row in found["settings"]}["group"] == "g"
    assert found["store"]["root"] == str(tmp_path / "tracking_runs")


# ---------------------------------------------------------------- doctor: targets


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("./tb", "argument: './tb' does not start with the name of a backend"),
        ("wandb?mode", "options of 'wandb' are written key=value"),
        ("", "names no backend"),
        ("tensorbord:./tb", "no backend 'tensorbord' is installed: did you mean 'tensorboard'?"),
        ("tensorboard?hparam=on", "has no option 'hparam': did you mean 'hparams'?"),
        ("csv:%ff", "percent-encoded, but not as UTF-8"),
        ("none,local", "'none' records nothing, and cannot be combined with others"),
        ("tensorboard:a?every=2,tensorboard:a?every=3", "one place with two sets of filters"),
    ],
)
def test_a_target_that_cannot_be_used_is_a_finding(target, says, tmp_path):
    found = doctor(target, code=1)
    assert says in messages(found, "targets", "error")
    assert len(found["advice"]) == 4, "the rest is looked at all the same"
    assert "Traceback" not in invoke("doctor", target, code=1)


def test_one_wrong_target_does_not_hide_the_others():
    found = doctor("tensorbord,./x,tensorboard:./tb", code=1)
    assert len(findings(found, "targets", "error")) == 2
    assert any(one["message"].startswith("tensorboard:./tb: ") for one in findings(found, "targets", "ok"))


def test_each_adapter_is_asked_about_its_own_target(tmp_path):
    (tmp_path / "file").write_text("")
    found = doctor("tensorboard:./file/tb", code=1)
    assert f"{tmp_path / 'file'} is a file" in messages(found, "targets", "error")
    found = doctor("wandb?mode=offline")
    assert "wandb?mode=offline: wandb" in messages(found, "targets", "ok")


def test_a_key_that_is_missing_and_a_server_that_does_not_answer_are_found():
    # Nothing listens on the port of a socket that is bound, but does not listen.
    import socket

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        found = doctor(f"wandb?base_url={address}", code=1)
    errors = messages(found, "targets", "error")
    assert f"there is no API key for {address}" in errors
    assert f"{address} cannot be reached" in errors
    assert all(one["remedy"] for one in findings(found, "targets", "error"))


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("0123456789" * 4, None),
        ("local-" + "a" * 40, None),
        ("wandb_v1_" + "a" * 80, None),
        ("aaa.bbb-b.ccc_c", None),
        ("abc123", "it has 6 characters; a key has 40 or more"),
        ("a" * 39 + "!", "it has other characters"),
        ("a" * 40 + "\n", "it begins or ends with a space or a line break"),
        ("https://wandb.ai/authorize", "it has other characters"),
    ],
)
def test_the_form_of_a_key_is_checked(key, says, monkeypatch):
    client = pytest.importorskip("wandb.sdk.lib.wbauth.validation", reason="where version 0.31 of the client has it")
    from tracking_wandb.credentials import key_problem

    monkeypatch.setenv("WANDB_API_KEY", key)
    problem = key_problem("https://api.wandb.ai")
    assert problem is None if says is None else says in problem
    assert (client.check_api_key(key) is None) is (problem is None), "the client judges alike"


def test_a_key_that_is_none_is_found_and_not_shown(monkeypatch):
    import socket

    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        text = invoke("doctor", f"wandb?base_url={address}", code=1)
    end = text.rpartition("errors, 0 warnings:")[2]
    assert f"the API key for {address} in WANDB_API_KEY is none: it has 14 characters" in " ".join(end.split())
    assert SECRET not in text


def test_filters_on_the_local_store_do_nothing_and_that_is_said():
    assert "the local store keeps everything" in messages(doctor("local?every=10"), "targets", "warning")


HANGING = """
import threading

@tracking.hookimpl
def diagnose(target):
    print("this must not get between the JSON")
    threading.Thread(target=threading.Event().wait, daemon=False).start()
    threading.Event().wait()
"""
CHATTY = """
@tracking.hookimpl
def diagnose(target):
    print("this must not get between the JSON")
    return [tracking.Finding("warning", "the moon is full", "wait; password=hunter2hunter2")]
"""


def test_what_hangs_is_left_alone_and_the_command_ends(tmp_path):
    site = tmp_path / "site"
    install(site, "hang-dist", "1.0", {"hang": "hang_m"}, {"hang_m": good("hang") + HANGING})
    install(site, "deaf-dist", "1.0", {"deaf": "deaf_m"}, {"deaf_m": "import threading; threading.Event().wait()"})
    install(site, "chat-dist", "1.0", {"chat": "chat_m"}, {"chat_m": good("chat") + CHATTY})
    arguments = ["doctor", "--json", "--timeout", "0.7", "hang:x", "deaf:x", "chat:x"]
    out, err = command(*arguments, cwd=tmp_path, code=1, PYTHONPATH=str(site))
    found = json.loads(out)
    assert err.count("this must not get between the JSON") == 2
    [hang, deaf] = findings(found, "targets", "error")
    assert hang["message"] == "hang:x: its own checks give no answer within 0.7 s"
    assert deaf["message"] == "deaf:x: importing the adapter gives no answer within 0.7 s"
    [chat] = findings(found, "targets", "warning")
    assert (chat["message"], chat["remedy"]) == ("chat:x: the moon is full", "wait; password=[redacted]")
    [broken] = findings(found, "backends", "error")
    assert "importing deaf_m gives no answer within 0.7 s" in broken["message"]


def test_bounded_work_returns_raises_or_is_left_alone():
    import threading

    assert bounded(lambda: 3, 10) == 3
    assert bounded(lambda: None, 10) is None
    with pytest.raises(KeyError):
        bounded(lambda: {}["x"], 10)
    never = threading.Event()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
        bounded(never.wait, 0.05)
    never.set()


# ---------------------------------------------------------------- doctor: the run store


def test_a_root_that_is_there_is_written_to_and_left_as_it_was(tmp_path):
    root = tmp_path / "tracking_runs"
    root.mkdir()
    store = doctor()["store"]
    assert store["exists"] is True
    assert store["writable"] is True
    assert store["append_seconds"] > 0
    assert store["free_bytes"] > 0
    assert list(root.iterdir()) == []


def test_the_root_of_a_local_target_is_the_one_that_is_checked(tmp_path):
    assert doctor(f"local:{tmp_path}/other")["store"]["root"] == str(tmp_path / "other")


def test_a_root_that_cannot_be_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRACKING_DIR", "file/runs")
    found = doctor(code=1)
    assert f"{tmp_path / 'file'} is a file" in messages(found, "run store", "error")
    assert found["store"]["writable"] is False


@pytest.mark.skipif(not Path("/proc/self/mounts").exists(), reason="no /proc on this system")
def test_a_root_that_cannot_be_written_is_an_error(monkeypatch):
    # Nobody can create a file there, whoever runs the tests.
    monkeypatch.setenv("TRACKING_DIR", "/proc")
    [error] = findings(doctor(code=1), "run store", "error")
    assert "/proc cannot be written" in error["message"]
    assert "TRACKING_DIR" in error["remedy"]


def test_a_root_in_memory_is_a_warning(monkeypatch):
    mount = mount_of(Path("/dev/shm")) if Path("/dev/shm").exists() else None
    if mount is None or mount.filesystem != "tmpfs":
        pytest.skip("no file system in memory here")
    monkeypatch.setenv("TRACKING_DIR", "/dev/shm")
    found = doctor()
    assert "the root is in memory (tmpfs)" in messages(found, "run store", "warning")
    assert "the run store is in memory" in advice(found, "memory grows")[0]


MOUNTS = r"""
overlay / overlay rw,relatime 0 0
/dev/sda1 /data ext4 rw 0 0
server:/export/my\040runs /data/my\040runs nfs4 rw,vers=4.2 0 0
tmpfs /data/quick tmpfs rw 0 0
sshfs#me@host:/ /remote fuse.sshfs rw 0 0
/dev/fuse /near fuse.fuse-overlayfs rw 0 0
10.0.0.1@tcp:/fs /lustre lustre rw 0 0
//host/share /win cifs rw 0 0
share /shared 9p rw 0 0
/dev/sdb1 /twice ext4 rw 0 0
server:/twice /twice nfs rw 0 0
server:/inner /outer/inner nfs rw 0 0
/dev/sdc1 /outer ext4 rw 0 0
garbled
"""


@pytest.mark.parametrize(
    ("path", "filesystem", "kind"),
    [
        ("/", "overlay", "local"),
        ("/home/me", "overlay", "local"),
        ("/data/runs", "ext4", "local"),
        ("/database", "overlay", "local"),
        ("/data/my runs", "nfs4", "network"),
        ("/data/my runs/a/b", "nfs4", "network"),
        ("/data/quick/x", "tmpfs", "memory"),
        ("/remote/x", "fuse.sshfs", "network"),
        ("/near/x", "fuse.fuse-overlayfs", "local"),
        ("/lustre/me", "lustre", "network"),
        ("/win/x", "cifs", "network"),
        ("/shared", "9p", "network"),
        ("/twice/x", "nfs", "network"),
        ("/outer/inner/x", "nfs", "network"),
    ],
)
def test_the_file_system_of_a_path_is_found_among_the_mounts(path, filesystem, kind):
    mount = find_mount(path, MOUNTS)
    assert (mount.filesystem, mount.kind) == (filesystem, kind)


def test_what_a_network_file_system_means_is_said():
    look = storage.StoreLook("/data/runs", True, True, 2**40, "nfs4", "server:/export", "network", 0.02)
    [finding] = storage._filesystem(look)
    assert finding.level == "warning"
    assert "network file system nfs4 (server:/export)" in finding.message
    assert "local disk" in finding.remedy
    [slow] = storage._speed(look)
    assert (slow.level, "20000 µs" in slow.message) == ("warning", True)


@pytest.mark.parametrize(("free", "level"), [(2**40, "ok"), (2**29, "warning"), (2**20, "error")])
def test_little_space_is_said(free, level, tmp_path):
    look = storage.StoreLook(str(tmp_path), True, True, free)
    assert storage._space(look, tmp_path).level == level


# ---------------------------------------------------------------- doctor: recent runs

KILLED = """
import os, signal
import tracking_core as tracking
run = tracking.start_run("digits", run_id="killed")
run.log_scalars({"a": 1.0}, step=0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_crashed_runs_are_found_and_others_are_left_alone(tmp_path):
    run_program(KILLED, tmp_path, code_expected=-9)
    with tracking.start_run("digits", run_id="well") as run:
        run.log_scalars({"a": 1.0}, step=0)
    running = tracking.start_run("digits", run_id="running")
    found = doctor()
    running.finish()
    store = {record.id: record.status for record in tracking.open_store().runs()}
    assert {run["id"]: run["status"] for run in found["runs"]} == {**store, "running": "running"}
    assert store["killed"] == "crashed"
    [warning] = findings(found, "recent runs", "warning")
    assert "(killed) of digits crashed" in warning["message"]
    assert "TRACKING_RUN_ID=killed TRACKING_RESUME=must" in warning["remedy"]
    text = invoke("doctor")
    assert "killed" in text
    assert "finished" in text


def test_the_remedy_for_a_crashed_run_helps(tmp_path, monkeypatch):
    run_program(KILLED, tmp_path, code_expected=-9)
    monkeypatch.setenv("TRACKING_RUN_ID", "killed")
    monkeypatch.setenv("TRACKING_RESUME", "must")
    with tracking.start_run("digits") as run:
        run.log_scalars({"a": 2.0}, step=1)
    monkeypatch.delenv("TRACKING_RUN_ID")
    monkeypatch.delenv("TRACKING_RESUME")
    found = doctor()
    assert [run["status"] for run in found["runs"]] == ["finished"]
    assert not findings(found, "recent runs", "warning")


STUBBORN = """
import tracking_core as tracking
class Stubborn(Lines):
    def log_scalars(self, scalars, *, step, step_axis="step", wall_time=None):
        if step == 1:
            raise tracking.Rejected("not this one")
        if step >= 2 and not os.environ.get("WILLING"):
            raise tracking.RetryLater("not now", after=60.0)
        super().log_scalars(scalars, step=step, step_axis=step_axis, wall_time=wall_time)

@tracking.hookimpl
def open_tracker(target, run):
    return Stubborn(target.path)
import os
"""
RECORD = """
import tracking_core as tracking
with tracking.start_run("digits", run_id="one", backends="stubborn:./lines,local,missing:x") as run:
    for step in range(5):
        run.log_scalars({"a": float(step), "b": "text"}, step=step)
        if step == 1:
            run.flush()
    report = run.finish(timeout=0.3)
    assert report["stubborn"].pending == 3, report
"""


@pytest.fixture
def undelivered(tmp_path):
    """A run with a target that took one record, refused one and left three; and the directory to import it from."""
    site = tmp_path / "site"
    source = good("stubborn").replace("@tracking.hookimpl\ndef open_tracker", "def unused") + STUBBORN
    install(site, "stubborn-dist", "1.0", {"stubborn": "stubborn_m"}, {"stubborn_m": source})
    missing = good("missing").replace("    return Lines(target.path)", "    raise tracking.SettingsError('never')")
    install(site, "missing-dist", "1.0", {"missing": "missing_m"}, {"missing_m": missing})
    run_program(RECORD, tmp_path, PYTHONPATH=str(site))
    return site


def test_what_has_not_reached_a_target_is_counted(tmp_path, undelivered):
    found = doctor()
    [run] = found["runs"]
    targets = {target["target"]: target for target in run["targets"]}
    stubborn = targets[f"stubborn:{tmp_path}/lines"]
    assert (stubborn["pending"], stubborn["exact"], stubborn["failed"], stubborn["opened"]) == (3, True, 1, True)
    missing = targets[f"missing:{tmp_path}/x"]
    assert (missing["pending"], missing["opened"]) == (5, False)
    assert run["dropped"] == {"invalid": 5}
    warnings = messages(found, "recent runs", "warning")
    assert f"3 records not delivered to stubborn:{tmp_path}/lines" in warnings
    assert f"5 records not delivered to missing:{tmp_path}/x, which was never open" in warnings
    assert "refused or failed on 1 record" in warnings
    assert "values were not recorded: 5 invalid" in warnings
    seen, _ = advice(found, "metrics are missing")
    assert "run one: 3 records not delivered to stubborn" in seen
    assert "run one: 5 values dropped" in seen


def test_the_remedy_for_pending_records_helps(tmp_path, undelivered):
    code = """
    import tracking_core as tracking
    with tracking.start_run("digits", backends="stubborn:./lines"):
        pass
    """
    again = {"TRACKING_RUN_ID": "one", "TRACKING_RESUME": "must", "WILLING": "1", "PYTHONPATH": str(undelivered)}
    run_program(code, tmp_path, **again)
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    assert [step for _, step, _ in lines] == [2, 3, 4]
    [run] = doctor()["runs"]
    stubborn = next(target for target in run["targets"] if target["target"].startswith("stubborn"))
    assert stubborn["pending"] == 0


def test_of_a_long_journal_only_the_ends_are_read(tmp_path, undelivered, monkeypatch):
    monkeypatch.setattr(history, "_COUNTED", 0)
    [run] = doctor()["runs"]
    targets = {target["target"].partition(":")[0]: target for target in run["targets"]}
    assert not targets["stubborn"]["exact"]
    # Events that are no records count as well: about so many, never fewer.
    assert 3 <= targets["stubborn"]["pending"] <= 8
    assert 5 <= targets["missing"]["pending"] <= 10


def test_only_the_newest_runs_are_looked_at_and_one_that_is_damaged_hides_no_other(tmp_path):
    for number in range(history.LIMIT + 2):
        with tracking.start_run("digits", run_id=f"run-{number:02}"):
            pass
        moment = 1_700_000_000 + number
        os.utime(f"tracking_runs/digits/run-{number:02}/run.json", (moment, moment))
    (tmp_path / "tracking_runs/digits/run-11/run.json").write_text("{")
    os.utime("tracking_runs/digits/run-11/run.json", (1_800_000_000, 1_800_000_000))
    (tmp_path / "tracking_runs/digits/run-10/journal").rename(tmp_path / "elsewhere")
    looks = doctor()["runs"]
    assert [run["id"] for run in looks] == [f"run-{number:02}" for number in range(10, 1, -1)]
    assert looks[0]["status"] == "crashed"
    assert {run["status"] for run in looks[1:]} == {"finished"}


def test_trackers_that_were_passed_as_objects_are_no_targets(tmp_path):
    fake = tracking.testing.FakeTracker()
    with tracking.start_run("digits", backends=[fake]) as run:
        run.log_scalars({"a": 1.0}, step=0)
    [run] = doctor()["runs"]
    assert run["targets"] == []


def test_names_of_runs_cannot_draw_on_the_terminal(tmp_path):
    with tracking.start_run("pro\x1b[31mject", name="na\nme\x1b[2J"):
        pass
    run_program(KILLED, tmp_path, code_expected=-9)
    text = invoke("doctor")
    assert "\x1b" not in text
    assert "na\\nme\\x1b[2J" in text


# ---------------------------------------------------------------- doctor: if …


def test_advice_begins_with_what_is_seen(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKING_DELIVERY", "inline")
    found = doctor("tensorboard:./tb?include=train/*&every=100")
    assert [one["topic"] for one in found["advice"]] == [
        "logging is slow",
        "metrics are missing",
        "a run does not appear",
        "memory grows",
    ]
    assert all(one["remedies"] for one in found["advice"])
    seen, remedies = advice(found, "logging is slow")
    assert "delivery is inline (environment variable TRACKING_DELIVERY): each call waits for every backend" in seen
    assert remedies.startswith("unset TRACKING_DELIVERY")
    seen, _ = advice(found, "metrics are missing")
    assert "tensorboard has the filter include=train/* (argument)" in seen
    assert "tensorboard has the filter every=100 (argument)" in seen
    seen, _ = advice(found, "a run does not appear")
    assert f"runs go to {tmp_path / 'tracking_runs'} (default): there are no runs yet" in seen
    assert "If logging is slow" not in invoke("doctor")
    text = invoke("doctor", "--advice")
    assert "If logging is slow\n  seen: delivery is inline" in text


def test_the_end_is_what_is_wrong(monkeypatch):
    """Errors first, each with its remedy: what scrolled by need not be looked for."""
    monkeypatch.setenv("TRACKING_PROJCT", "typo")
    text = invoke("doctor", "nothing:./tb", code=1)
    _, _, end = text.rpartition("1 error, 1 warning:\n")
    error, remedy, warning, _, hint = end.splitlines()
    assert error.startswith("  error    ")
    assert "nothing" in error
    assert remedy.strip().startswith("-> ")
    assert warning.startswith("  warning  ")
    assert "TRACKING_PROJCT" in warning
    assert hint.startswith("tracking doctor --advice says")
    assert "--advice" not in invoke("doctor", "--advice", "nothing:./tb", code=1)
    monkeypatch.delenv("TRACKING_PROJCT")
    *_, verdict, hint = invoke("doctor").splitlines()
    assert (verdict, hint.split()[0]) == ("Everything is fine.", "tracking")


def test_a_run_that_does_not_appear_may_be_in_many_places(tmp_path, monkeypatch, troubles):
    (tmp_path / "file").write_text("")
    with tracking.start_run("digits", root="file/runs") as run:
        pass
    seen, remedies = advice(doctor(), "a run does not appear")
    assert f"runs whose root could not be written are in {run.dir.parents[1]}" in seen
    assert "move them under the root" in remedies
    assert "./tracking_runs depends on the directory a program is started in" in seen

    monkeypatch.setenv("TRACKING_BACKEND", "none")
    seen, remedies = advice(doctor(), "a run does not appear")
    assert "the backend is none (environment variable TRACKING_BACKEND): nothing is recorded" in seen
    assert remedies.startswith("unset TRACKING_BACKEND")
