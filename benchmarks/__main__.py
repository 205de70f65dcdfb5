"""`python -m benchmarks`: run all measurements, print the tables, keep the numbers in benchmarks/results/."""

from __future__ import annotations

import argparse

from benchmarks import (
    call_cost,
    continue_cost,
    drain,
    finish_cost,
    jax_cost,
    kill_loss,
    loop_overhead,
    number_cost,
    start_cost,
    store_read,
)
from benchmarks.machine import save


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds; the median over them is shown")
    rounds = parser.parse_args().rounds
    for module in (
        call_cost,
        number_cost,
        start_cost,
        continue_cost,
        jax_cost,
        loop_overhead,
        drain,
        finish_cost,
        kill_loss,
        store_read,
    ):
        results = module.measure(rounds)
        print(module.table(results))
        print()
        print("kept in", save(module.__name__.rpartition(".")[2], results))
        print(flush=True)


if __name__ == "__main__":
    main()
