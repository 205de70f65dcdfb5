"""Secrets must not reach a disk; numbers, digests and the vocabulary of language models must."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracking_core.base.redaction import (
    REDACTED,
    is_secret_name,
    redact_argv,
    redact_document,
    redact_name,
    redact_text,
    redact_tree,
    redact_url,
)


def words(text):
    return text.split()


# Put together here so that no scanner takes this file for a leak.
KNOWN_FORMS = {
    "openai": "sk-" + "aB3d" * 12,
    "openai project": "sk-proj-" + "aB3-d_" * 10,
    "anthropic": "sk-ant-api03-" + "aB3-d_" * 10,
    "github": "ghp_" + "aB3d" * 9,
    "github oauth": "gho_" + "aB3d" * 9,
    "github fine-grained": "github_pat_" + "aB3d_" * 14,
    "hugging face": "hf_" + "aBcd" * 9,
    "aws": "AKIA" + "IOSF7DNN" * 2,
    "slack bot": "xoxb-" + "1234567890-" * 2 + "aB3d" * 6,
    "slack user": "xoxp-" + "1234567890-" * 2 + "aB3d" * 6,
    "gitlab": "glpat-" + "aB3d-" * 4,
    "json web token": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0." + "aB3d-_" * 7,
    "wandb": "wandb_v1_" + "aB3d" * 12,
    "google": "AIza" + "aB3d-" * 7,
}
WANDB_KEY = "0123456789abcdef" * 2 + "89abcdef"
COMMIT = "3f2a91c0d4e5b6a7988776655443322110ffeedd"
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

SECRET_NAMES = words("""
password PASSWORD db_password dbPassword PGPASSWORD passwd secret client_secret clientSecret SECRET_KEY_BASE token
auth_token authToken HF_TOKEN hfToken HUGGING_FACE_HUB_TOKEN access_token api_key apikey apiKey APIKey OPENAI_APIKEY
api-key X-Api-Key api_key_2 WANDB_API_KEY wandb.api_key aws_access_key_id AWS_SECRET_ACCESS_KEY private_key
ssh_private_key credential credentials auth basic_auth Authorization proxy-authorization bearer session_cookie
service_account_key DB_PASS api_tokens passphrase
""")
HARMLESS_NAMES = words("""
tokenizer tokenizer_path num_tokens max_tokens max_token token_embedding_dim tokens tokens_per_second pad_token
eos_token_id mask_token next_token token_type cls_token n_image_tokens key keys prng_key rng_key sort_key key_dim
query_key_norm public_key primary_key author authors authority author_email lr learning_rate seed loss password_length
secretary passthrough pass_rate forward_pass compass monkey keyboard credentials_path token_file auth_mode PWD OLDPWD
access api private_dataset _ 日本 wandb
""")


@pytest.fixture(autouse=True)
def _no_ambient_secrets(monkeypatch):
    import os

    for name in list(os.environ):
        if is_secret_name(name):
            monkeypatch.delenv(name)


class TestNames:
    @pytest.mark.parametrize("name", SECRET_NAMES)
    def test_secret(self, name):
        assert is_secret_name(name)

    @pytest.mark.parametrize("name", [*HARMLESS_NAMES, ""])
    def test_harmless(self, name):
        assert not is_secret_name(name)

    @settings(deadline=None)
    @given(st.text(max_size=300))
    def test_any_name_gets_an_answer(self, name):
        assert is_secret_name(name) in {True, False}


class TestText:
    @pytest.mark.parametrize("secret", KNOWN_FORMS.values(), ids=KNOWN_FORMS.keys())
    @pytest.mark.parametrize(
        "around", ["{}", "see {} there", "x={}", '"{}",', "https://host/{}/y", "({})", "a\n+{}\nb"]
    )
    def test_known_forms(self, secret, around):
        assert redact_text(around.format(secret)) == around.format(REDACTED)

    @pytest.mark.parametrize(
        "text",
        [
            f"commit {COMMIT}",
            f"sha256:{SHA256}",
            f"digest = '{SHA256}'",
            f"index {COMMIT[:7]}..{COMMIT[7:14]} 100644",
            "task-management-for-risk-averse-disk-users-2024 sk-learn-digits-baseline-run-42",
            "hf_hub_download(repo) and ghp_ and AKIA",
            "max_tokens=4096, num_tokens: 512, tokenizer = 'bert-base', pad_token='<pad>'",
            "token = tokenizer.encode(text)",
            "f(token=token, password=None, api_key=args.api_key, secret=os.environ['X'])",
            "def login(user: str, password: str, token: str | None = None) -> None:",
            "['password', 'token']",
            "author: someone, key: value, keys=['a']",
            "x.secret == y",
            "https://host/path?step=3#top",
            "ssh://git@host/repo and git@host:org/repo.git",
            "",
        ],
    )
    def test_harmless_text_stays(self, text):
        assert redact_text(text) == text

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("API_KEY=abc", "API_KEY=[redacted]"),
            ("export DB_PASSWORD=a(b,c;d e", "export DB_PASSWORD=[redacted] e"),
            ("+password = hunter2", "+password = [redacted]"),
            ("password: hunter2 # note", "password: [redacted] # note"),
            ("password=123", "password=[redacted]"),
            ('{"api_key": "a\\"b", "n": 1}', '{"api_key": "[redacted]", "n": 1}'),
            ('"{\\"api_key\\": \\"abc\\", \\"n\\": 1}"', '"{\\"api_key\\": \\"[redacted]\\", \\"n\\": 1}"'),
            ("f(api_key='abc', lr=1)", "f(api_key='[redacted]', lr=1)"),
            ('api_key: str | None = "abc"', 'api_key: str | None = "[redacted]"'),
            ('token: Final[str] = "abc"', 'token: Final[str] = "[redacted]"'),
            ('os.environ["HF_TOKEN"] = "abc"', 'os.environ["HF_TOKEN"] = "[redacted]"'),
            ('setdefault("HF_TOKEN", "abc")', 'setdefault("HF_TOKEN", "[redacted]")'),
            ('secret = """abc"""', 'secret = """[redacted]"""'),
            ("Authorization: Bearer abc", "Authorization: [redacted]"),
            ("-H 'Authorization: Basic dXNlcg=='", "-H 'Authorization: [redacted]'"),
            ("curl bearer " + "abcd" * 6, "curl bearer [redacted]"),
            ("train --api-key abc --lr 3", "train --api-key [redacted] --lr 3"),
            ("ENV API_KEY abc", "ENV API_KEY [redacted]"),
            ("https://me:pw@host/x", "https://[redacted]@host/x"),
            ("https://onlytoken@host/x", "https://[redacted]@host/x"),
            ("postgres://me:p@ss@host/db", "postgres://[redacted]@host/db"),
            ("https://host/?token=abc&n=1", "https://host/?token=[redacted]&n=1"),
            ("url=https://host/?n=1&api_key=abc", "url=https://host/?n=1&api_key=[redacted]"),
            ("machine host login me password abc", "machine host login me password [redacted]"),
            (f'password="pre-{KNOWN_FORMS["openai"]} post"', 'password="[redacted]"'),
            (f"wandb login --relogin {WANDB_KEY}", "wandb login --relogin [redacted]"),
            (f"wandb.login(key='{WANDB_KEY}')", "wandb.login(key='[redacted]')"),
            (f"WANDB_API_KEY={WANDB_KEY}", "WANDB_API_KEY=[redacted]"),
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n+abc=\n-----END RSA PRIVATE KEY-----\nx", "[redacted]\nx"),
            ("-----BEGIN PRIVATE KEY-----\\nMIIE", "[redacted]"),
        ],
    )
    def test_secret_text_goes(self, text, expected):
        assert redact_text(text) == expected
        assert redact_text(expected) == expected

    @settings(deadline=None)
    @given(st.text(alphabet=st.sampled_from("aA_-=:\"'\\ ,/@\n[](){}0") | st.characters(), max_size=80))
    def test_is_idempotent_and_keeps_what_it_does_not_redact(self, text):
        once = redact_text(text)
        assert redact_text(once) == once
        if REDACTED not in once:
            assert once == text

    @settings(deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                [
                    "token",
                    "API_KEY",
                    "password",
                    "=",
                    ": ",
                    '"',
                    "'",
                    "hunter2",
                    " ",
                    "\n",
                    ",",
                    "[redacted]",
                    "--",
                    "://",
                    "@",
                    "str",
                    "Bearer ",
                    "\\",
                ]
            ),
            max_size=12,
        ).map("".join)
    )
    def test_is_idempotent_on_texts_made_of_notation(self, text):
        once = redact_text(text)
        assert redact_text(once) == once

    @pytest.mark.system
    @pytest.mark.parametrize("redact", [redact_text, redact_document])
    @pytest.mark.parametrize("around", ["a line of a log, step=3\n", "lorem ipsum ", "x", "0f3b", "size: 3\n\n"])
    def test_a_long_text_is_searched_like_a_short_one(self, monkeypatch, redact, around):
        filler = (around * 80_000)[:80_000]
        key = (
            "-----BEGIN RSA "
            + "PRIVATE KEY-----\n"
            + "aB3d" * 16
            + "\n"
            + ("aB3d" * 16 + "\n") * 400
            + "-----END RSA "
            + "PRIVATE KEY-----"
        )
        secrets = [
            KNOWN_FORMS["openai"],
            f"password='{'hunter2 ' * 600}'",
            "curl -u me:hunter2 https://a.b",
            '{"name": "api_key",\n "value": "abc"}',
            key,
        ]
        assert redact(filler) == filler
        # At both sides of where a piece ends, at the ends of the text, and inside a piece.
        for at in (0, (1 << 14) - 5, (1 << 14) - 12, (1 << 14) + (1 << 11) - 5, len(filler)):
            for secret in secrets:
                text = f"{filler[:at]} {secret}\n{filler[at:]}"
                found = redact(text)
                with monkeypatch.context() as patch:
                    patch.setattr("tracking_core.base.redaction.text.LARGE", len(text))
                    assert found == redact(text), (at, secret[:20])
        monkeypatch.setenv("MY_TOKEN", "long secret " * 1000)
        assert "long secret" not in redact(f"{filler} {'long secret ' * 1000}{filler}")

    @given(
        st.text("apswdtoken_K=: \"'\n-", max_size=60), st.sampled_from(["token", "Key", "PASS", "login", "auth", "x"])
    )
    def test_only_names_that_can_be_secret_are_looked_at(self, text, word):
        from tracking_core.base.redaction import text as module

        texts = [f"{text}{word}=abc123", f'"{text}{word}": "abc123"', f"--{word}{text} abc123 val default"]
        found = [redact_text(one) for one in texts]
        kept = module._IN_SECRET_NAMES
        try:
            module._IN_SECRET_NAMES = ("",)
            assert found == [redact_text(one) for one in texts]
        finally:
            module._IN_SECRET_NAMES = kept

    def test_hostile_text_takes_no_quadratic_time(self):
        # Together two seconds of a processor; each took more when a pattern could look on to the end from every beginning.
        code = """
import resource
resource.setrlimit(resource.RLIMIT_CPU, (15, 15))
from tracking_core.base.redaction import redact_text
for text in (
    "TOKEN=", "token='", "wandb login -a ", "--token ", chr(92), "sk-a-", "TOKEN=x;", "-eyJaaaaaaaaa", "a=",
    "curl ", "curl -u", "curl -u a:", "name:", "name: token ", '"--token",', "value: ",
    "login a password ", "://", "https://a", "token:str|", "-----BEGIN PRIVATE KEY-----", "Bearer ",
):
    redact_text(text * (200_000 // len(text)))
redact_text("wandb login " + "--a " * 50_000)
"""
        subprocess.run([sys.executable, "-c", code], check=True)


class TestEnvironment:
    def test_exact_values_go_wherever_they_stand(self, monkeypatch):
        monkeypatch.setenv("MY_SERVICE_TOKEN", "horse battery")
        assert redact_text("xhorse batteryx") == "x[redacted]x"
        assert redact_tree({"note": ["horse battery"]}) == {"note": [REDACTED]}
        assert redact_argv(["horse battery"]) == [REDACTED]

    def test_is_read_at_every_call(self, monkeypatch):
        assert redact_text("horse battery") == "horse battery"
        monkeypatch.setenv("MY_SERVICE_TOKEN", "horse battery")
        assert redact_text("horse battery") == REDACTED
        monkeypatch.delenv("MY_SERVICE_TOKEN")
        assert redact_text("horse battery") == "horse battery"

    def test_longer_values_first(self, monkeypatch):
        monkeypatch.setenv("A_TOKEN", "secret")
        monkeypatch.setenv("B_TOKEN", "secretplus")
        assert redact_text("secretplus secret") == f"{REDACTED} {REDACTED}"

    def test_percent_encoded_in_an_address(self, monkeypatch):
        monkeypatch.setenv("A_PASSWORD", "p@ss/word")
        assert redact_text("x?q=p%40ss%2Fword") == "x?q=[redacted]"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("A_TOKEN", "short"),
            ("A_TOKEN", ""),
            ("USE_AUTH", "disabled"),
            ("HARMLESS", "horse battery"),
            ("A_TOKEN", "redacted"),
            ("PWD", "/some/dir"),
            ("TOKENIZERS_PARALLELISM", "something"),
        ],
    )
    def test_what_is_no_secret(self, monkeypatch, name, value):
        monkeypatch.setenv(name, value)
        text = f"mode {value} end"
        assert redact_text(text) == text
        assert redact_text(REDACTED) == REDACTED


class TestArgv:
    @pytest.mark.parametrize(
        ("argv", "expected"),
        [
            (["a.py", "--api-key=x", "--lr=1"], ["a.py", "--api-key=[redacted]", "--lr=1"]),
            (["a.py", "--api-key", "x", "y"], ["a.py", "--api-key", REDACTED, "y"]),
            (["a.py", "-password", "123456"], ["a.py", "-password", REDACTED]),
            (["API_KEY=x", "a.py"], ["API_KEY=[redacted]", "a.py"]),
            (["+wandb.api_key=x", "db.password=y=z"], ["+wandb.api_key=[redacted]", "db.password=[redacted]"]),
            (["--use-auth", "--lr", "1"], ["--use-auth", "--lr", "1"]),
            (["--use-auth", "true"], ["--use-auth", "true"]),
            (["--password", "-x9z"], ["--password", REDACTED]),
            (["--max-tokens", "5", "--tokenizer", "bert"], ["--max-tokens", "5", "--tokenizer", "bert"]),
            (["--max_token=5", "--key=sort"], ["--max_token=5", "--key=sort"]),
            (["wandb", "login", WANDB_KEY], ["wandb", "login", REDACTED]),
            (["--key", WANDB_KEY, "--commit", COMMIT], ["--key", REDACTED, "--commit", COMMIT]),
            (["--url=https://me:pw@host/x"], ["--url=https://[redacted]@host/x"]),
            (['--config={"api_key": "x"}'], ['--config={"api_key": "[redacted]"}']),
            ([KNOWN_FORMS["github"]], [REDACTED]),
            (["--password"], ["--password"]),
            ([], []),
        ],
    )
    def test_forms(self, argv, expected):
        assert redact_argv(argv) == expected

    @settings(deadline=None)
    @given(st.lists(st.text(max_size=20) | st.sampled_from(["--api-key", "--lr", "TOKEN=x"]), max_size=6))
    def test_keeps_the_number_of_words_and_the_input(self, argv):
        before = list(argv)
        assert len(redact_argv(argv)) == len(argv)
        assert argv == before


class TestUrl:
    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("https://user:tok@host/org/repo.git", "https://host/org/repo.git"),
            ("https://tok@host:8443/repo", "https://host:8443/repo"),
            ("https://user:p@ss@host/repo", "https://host/repo"),
            ("ssh://git@host/repo", "ssh://git@host/repo"),
            ("git@host:org/repo.git", "git@host:org/repo.git"),
            ("me:pw@host/repo", "host/repo"),
            ("s3://bucket/path?n=1", "s3://bucket/path?n=1"),
            ("https://h/x?token=a&n=1&X-Amz-Signature=b&sig=c#top", "https://h/x?n=1#top"),
            ("https://h/x?api%5Fkey=a", "https://h/x"),
            ("https://h/x#access_token=a", "https://h/x"),
            ("https://h/a%20b?x=%2F&y=", "https://h/a%20b?x=%2F&y="),
            ("https://h/" + KNOWN_FORMS["gitlab"], "https://h/" + REDACTED),
            ("/srv/git/a@b.git", "/srv/git/a@b.git"),
            ("", ""),
        ],
    )
    def test_forms(self, url, expected):
        assert redact_url(url) == expected

    @settings(deadline=None)
    @given(st.text(max_size=60))
    def test_any_text_is_taken(self, url):
        assert isinstance(redact_url(url), str)


def same_shape(a, b):
    if isinstance(a, dict):
        return isinstance(b, dict) and len(a) == len(b) and all(map(same_shape, a.values(), b.values()))
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same_shape, a, b))
    return isinstance(b, str) if isinstance(a, str) else a is b


trees = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(list(KNOWN_FORMS.values())),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(
            st.text(max_size=8) | st.sampled_from(SECRET_NAMES + HARMLESS_NAMES + list(KNOWN_FORMS.values())),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


class TestTree:
    def test_secret_fields_at_any_depth(self):
        tree = {
            "lr": 0.1,
            "max_token": 5,
            "token": 7,
            "auth": None,
            "use_auth": True,
            "password": "",
            "db": {"host": "h", "password": "hunter2", "credentials": {"user": "me", "pin": ["a", {"b": "c", "n": 1}]}},
            "api_keys": ("a", "b"),
            "secret_bytes": {"secret": b"abc"},
            "tokenizer": "bert",
            "key": "name",
            "wandb": {"key": WANDB_KEY, "commit": COMMIT},
        }
        assert redact_tree(tree) == {
            "lr": 0.1,
            "max_token": 5,
            "token": 7,
            "auth": None,
            "use_auth": True,
            "password": "",
            "db": {
                "host": "h",
                "password": REDACTED,
                "credentials": {"user": REDACTED, "pin": [REDACTED, {"b": REDACTED, "n": 1}]},
            },
            "api_keys": (REDACTED, REDACTED),
            "secret_bytes": {"secret": REDACTED},
            "tokenizer": "bert",
            "key": "name",
            "wandb": {"key": REDACTED, "commit": COMMIT},
        }

    def test_secrets_as_keys_stay_apart(self):
        tree = redact_tree({KNOWN_FORMS["github"]: 1, KNOWN_FORMS["gitlab"]: 2, 3: 4})
        assert tree == {REDACTED: 1, f"{REDACTED}#2": 2, 3: 4}

    @settings(deadline=None)
    @given(trees)
    def test_keeps_structure_numbers_and_the_input(self, tree):
        before = repr(tree)
        redacted = redact_tree(tree)
        assert same_shape(tree, redacted)
        assert repr(tree) == before

    @settings(deadline=None)
    @given(trees)
    def test_no_known_form_survives(self, tree):
        text = json.dumps(redact_tree(tree), default=str)
        assert not any(secret in text for secret in KNOWN_FORMS.values())

    def test_what_is_too_deep_to_look_into_goes(self):
        tree = {"x": KNOWN_FORMS["github"]}
        for _ in range(5000):
            tree = [tree]
        assert KNOWN_FORMS["github"] not in str_without_recursion(redact_tree(tree))


def str_without_recursion(tree):
    while isinstance(tree, list):
        (tree,) = tree
    return str(tree)


def test_imports_nothing_heavy():
    code = "import tracking_core.base.redaction, sys; print(*sorted(sys.modules))"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    assert not {"numpy", "msgspec", "subprocess", "json", "urllib.request"} & set(modules)
    assert not [name for name in modules if re.match(r"(jax|wandb|pluggy)", name)]


class TestStructures:
    """What a command line or a setting is in configurations: lists of words, mappings of a name and a value, pairs."""

    @pytest.mark.parametrize(
        ("tree", "expected"),
        [
            (["--api-key", "v"], ["--api-key", REDACTED]),
            (("train.py", "--password", "v", "--lr", "3"), ("train.py", "--password", REDACTED, "--lr", "3")),
            (["--api-key=v"], ["--api-key=[redacted]"]),
            (["--api-key", 5, "v"], ["--api-key", 5, "v"]),
            (["password", "token"], ["password", "token"]),
            ({"name": "api_key", "value": "v"}, {"name": "api_key", "value": REDACTED}),
            ({"value": "v", "name": "API_KEY"}, {"value": REDACTED, "name": "API_KEY"}),
            ({"key": "api-key", "value": {"a": ["v"]}}, {"key": "api-key", "value": {"a": [REDACTED]}}),
            ({"Name": "HF_TOKEN", "Value": "v"}, {"Name": "HF_TOKEN", "Value": REDACTED}),
            ({"name": "lr", "value": "v"}, {"name": "lr", "value": "v"}),
            ({"name": "max_tokens", "value": 5}, {"name": "max_tokens", "value": 5}),
            ([("Authorization", "Key v"), ("Accept", "x")], [("Authorization", REDACTED), ("Accept", "x")]),
            ([["api_key", ["v"]], ["lr", "0.1"]], [["api_key", [REDACTED]], ["lr", "0.1"]]),
            (["curl", "-u", "me:v", "https://h"], ["curl", "-u", REDACTED, "https://h"]),
            (["/usr/bin/curl", "-sSume:v"], ["/usr/bin/curl", "-sSu[redacted]"]),
            (["curl", "--user=me:v"], ["curl", "--user=[redacted]"]),
            (["python", "-u", "a:b"], ["python", "-u", "a:b"]),
            (["-H", "Authorization: Basic v"], ["-H", "Authorization: [redacted]"]),
            (['{"name": "api_key", "value": "v"}'], ['{"name": "api_key", "value": "[redacted]"}']),
        ],
    )
    def test_tree(self, tree, expected):
        assert redact_tree(tree) == expected
        assert redact_tree({"deep": [tree]}) == {"deep": [expected]}
        assert redact_tree(expected) == expected

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("curl -u me:v https://h", "curl -u [redacted] https://h"),
            ("curl -s -X POST -u 'me:v w' https://h", "curl -s -X POST -u '[redacted]' https://h"),
            ("x; curl --proxy-user=me:v", "x; curl --proxy-user=[redacted]"),
            ("curl \\\n  -u key: https://h", "curl \\\n  -u [redacted] https://h"),
            ('["curl", "-u", "me:v"]', '["curl", "-u", "[redacted]"]'),
            ("curl -u me https://h:1", "curl -u me https://h:1"),
            ("docker run -u 1000:1000 x", "docker run -u 1000:1000 x"),
            ("curl -XPUT http://h:1", "curl -XPUT http://h:1"),
            ('["--api-key", "v"]', '["--api-key", "[redacted]"]'),
            ("['--api-key', 'v', '--lr']", "['--api-key', '[redacted]', '--lr']"),
            ('"[\\"--api-key\\", \\"v\\"]"', '"[\\"--api-key\\", \\"[redacted]\\"]"'),
            ('add_argument("--api-key", "-k", help="x")', 'add_argument("--api-key", "-k", help="x")'),
            ('option("--api-key", "api_key", help="x")', 'option("--api-key", "api_key", help="x")'),
            ("{'name': 'api_key', 'value': 'v'}", "{'name': 'api_key', 'value': '[redacted]'}"),
            ("- name: API_KEY\n  value: v\n", "- name: API_KEY\n  value: [redacted]\n"),
            ("Field(name='token', value=made)", "Field(name='token', value=made)"),
            ("name: lr\nvalue: v", "name: lr\nvalue: v"),
            ("Authorization: ApiKey v", "Authorization: [redacted]"),
        ],
    )
    def test_text(self, text, expected):
        assert redact_text(text) == expected
        assert redact_text(expected) == expected


class TestForms:
    """How an exact value may be written: as it is, or as addresses, JSON, Python, base64 and diffs have it."""

    SECRET = 'p@ss/w"rd ü\\n'

    @pytest.mark.parametrize(
        "form",
        [
            SECRET,
            json.dumps(SECRET)[1:-1],
            json.dumps(SECRET, ensure_ascii=False)[1:-1],
            repr(SECRET)[1:-1],
            quote(SECRET, safe=""),
            quote(SECRET),
            quote(SECRET, safe="").lower(),
            quote_plus(SECRET),
            SECRET.replace("\\n", "\n"),
        ],
    )
    def test_written(self, monkeypatch, form):
        monkeypatch.setenv("A_PASSWORD", self.SECRET)
        assert redact_text(f"x {form} y") == f"x {REDACTED} y"
        assert redact_name(f"x {form} y") == f"x {REDACTED} y"

    @pytest.mark.parametrize("user", ["", "a", "ab", "abc"])
    def test_base64(self, monkeypatch, user):
        monkeypatch.setenv("A_PASSWORD", "horse-battery-staple")
        encoded = base64.b64encode(f"{user}:horse-battery-staple:rest".encode()).decode()
        left = redact_text(f"x {encoded} y").replace(REDACTED, "")
        assert len(left) <= len("x  y") + len(encoded) - 4 * (len("horse-battery-staple") // 3 - 1)

    def test_the_lines_of_a_key_in_a_diff(self, monkeypatch):
        key = "-----BEGIN KEY-----\nMIIEowIBAAKCAQEAx1\nabcdefghijklmnopqrstuv==\n-----END KEY-----"
        monkeypatch.setenv("A_PRIVATE_KEY", key)
        diff = "\n".join("+" + line for line in key.split("\n"))
        assert redact_text(diff) == "+-----BEGIN KEY-----\n+[redacted]\n+[redacted]\n+-----END KEY-----"

    @pytest.mark.parametrize("value", ["postgres", "Password", "changeme", "default", "required"])
    def test_words_that_are_no_secrets(self, monkeypatch, value):
        monkeypatch.setenv("POSTGRES_PASSWORD", value)
        assert redact_name(f"{value}/latency") == f"{value}/latency"

    def test_a_name_is_no_key_because_of_its_beginning(self):
        name = "xai_integrated_gradients_mean"
        assert redact_name(name) == name
        assert redact_text(KNOWN_FORMS["github"]) == REDACTED
        assert redact_name(KNOWN_FORMS["github"]) == KNOWN_FORMS["github"]

    def test_documents_keep_what_stands_behind_a_word(self, monkeypatch):
        monkeypatch.setenv("A_TOKEN", "horse battery")
        text = f"token: the, password: cat, horse battery {KNOWN_FORMS['github']}"
        assert redact_document(text) == f"token: the, password: cat, {REDACTED} {REDACTED}"
