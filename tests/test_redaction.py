"""Secrets must not reach a disk; numbers, digests and the vocabulary of language models must."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracking_core.redaction import REDACTED, is_secret_name, redact_argv, redact_text, redact_tree, redact_url


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

    def test_hostile_text_takes_no_quadratic_time(self):
        # Together a few seconds; each took minutes when a pattern could look on to the end from every beginning.
        code = """
from tracking_core.redaction import redact_text
for text in (
    "TOKEN=", "token='", "wandb login -a ", "--token ", chr(92), "sk-a-", "TOKEN=x;", "-eyJaaaaaaaaa", "a=",
    "login a password ", "://", "https://a", "token:str|", "-----BEGIN PRIVATE KEY-----", "Bearer ",
):
    redact_text(text * (600_000 // len(text)))
redact_text("wandb login " + "--a " * 150_000)
"""
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


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
    code = "import tracking_core.redaction, sys; print(*sorted(sys.modules))"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    assert not {"numpy", "msgspec", "subprocess", "json", "urllib.request"} & set(modules)
    assert not [name for name in modules if re.match(r"(jax|wandb|pluggy)", name)]
