"""Which names hold secrets, decided by the words a name is made of."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")

_SECRET_WORDS = _words("""
    password passwords passwd passphrase passcode secret secrets credential credentials creds
    auth authorization authentication oauth bearer jwt cookie cookies apikey apikeys
""")
_SECRET_ENDINGS = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "apikey",
    "accesskey",
    "privatekey",
    "secretkey",
    "apitoken",
    "authtoken",
    "accesstoken",
    "hubtoken",
    "hftoken",
)
# A bare "key" sorts, seeds or caches far more often than it opens something: the word before it decides.
_BEFORE_KEY = _words("""
    api access private secret signing encryption auth account service subscription ssh deploy master client consumer
    storage shared ai wandb openai anthropic aws azure gcp google github gitlab hf huggingface neptune comet mlflow
""")
_BEFORE_PASS = _words("db smtp user mysql pg postgres redis mail email ftp http admin root login proxy")
# "token" is the unit of text as well as the thing that opens doors. These words decide for the first meaning …
_TEXT_TOKEN_WORDS = _words("""
    acc accuracy alignment audio avg batch begin bos budget choice chunk class classification cls codebook context
    cost count decoder dim dims drop dropout emb embed embedding embeddings encoder end eos expert experts extra first
    freq frequency head hidden id ids idx image img index input label last latent layer learnable len length level
    limit logits loss mask max mean memory merge merging min mixer mixing n new next num number output pad padding
    patch per pool pooling pos position prediction prefix prev prob probs prompt query rate ratio reg register routing
    sample sampling sep seq sequence shift size source special split src start stop style sum target text tgt
    throughput total train type types unk usage vis vision visual vocab video weight weights window
""")
# … and these for the second, whatever else the name says; a plural "tokens" needs one of them.
_DOOR_TOKEN_WORDS = _words("""
    access api refresh session bot personal client github gitlab hf hub huggingface wandb openai anthropic slack
""")
# A name that ends so says where a secret lies or how it works, not what it is.
_ABOUT_WORDS = _words("file path dir directory sock socket method mode enabled required length len size ttl")


def is_secret_name(name: str) -> bool:
    """Whether a field, flag or variable of this name holds a secret.

    The name is compared by its words (split at punctuation and capitals), so `tokenizer`, `num_tokens`,
    `token_embedding_dim`, `pad_token`, `prng_key` and `author` are no secrets, while `hfToken`, `WANDB_API_KEY` and
    `db.password` are.

    Args:
        name: Name of a field, a command line flag, a query parameter or an environment variable.

    Example:
        >>> is_secret_name("OPENAI_API_KEY"), is_secret_name("num_tokens")
        (True, False)
    """
    return _is_secret_name(name[-256:])


@lru_cache(maxsize=4096)
def _is_secret_name(name: str) -> bool:
    words = [word.lower() for word in _WORD.findall(name)]
    if not words or words[-1] in _ABOUT_WORDS:
        return False
    if any(word in _SECRET_WORDS or word.endswith(_SECRET_ENDINGS) for word in words):
        return True
    present = set(words)
    if "token" in present:
        return not present & _TEXT_TOKEN_WORDS or bool(present & _DOOR_TOKEN_WORDS)
    if "tokens" in present:
        return bool(present & _DOOR_TOKEN_WORDS) and not present & _TEXT_TOKEN_WORDS
    if words in (["pass"], ["pwd"]):
        return name.islower()  # PWD in an environment is the working directory
    return any(
        (word in {"key", "keys"} and before in _BEFORE_KEY)
        or (word == "pass" and before in _BEFORE_PASS)
        or (word == "pwd" and before != "old")
        for before, word in pairwise(words)
    )


def may_name_wandb_key(name: str) -> bool:
    """Whether 40 hexadecimal digits under this harmless name are a key: `wandb.login(key="…")`, `wandb login …`."""
    return name.lower() in {"key", "login", "wandb", "wandb_login"}
