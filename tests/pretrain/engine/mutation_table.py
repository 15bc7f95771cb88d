"""Breaks every layout that has a mutation and tells whether it shows: `python -m tests.pretrain.engine.mutation_table`.

The suite runs one for each mechanism; this runs all. Words after it choose the mutations whose names have one of them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.pretrain.engine.broken_engine import Mutation, check_is_noticed
from tests.pretrain.engine.decoder_mutations import DECODER_MUTATIONS
from tests.pretrain.engine.encoder_decoder_mutations import ENCODER_DECODER_MUTATIONS
from tests.pretrain.engine.encoder_mutations import ENCODER_MUTATIONS
from tests.pretrain.engine.equivalence_table import References
from tests.pretrain.engine.gpt_objective_mutations import GPT_OBJECTIVE_MUTATIONS
from tests.pretrain.engine.instruct_mutations import INSTRUCT_MUTATIONS
from tests.pretrain.engine.low_rank_mutations import LOW_RANK_MUTATIONS
from tests.pretrain.engine.mutations import MUTATIONS
from tests.pretrain.engine.optimizer_mutations import OPTIMIZER_MUTATIONS
from tests.pretrain.engine.width_mutations import WIDTH_MUTATIONS

ALL_MUTATIONS: dict[str, Mapping[str, Mutation]] = {
    "layouts": MUTATIONS,
    "decoders": DECODER_MUTATIONS,
    "encoders": ENCODER_MUTATIONS,
    "encoder-decoders": ENCODER_DECODER_MUTATIONS,
    "objectives": GPT_OBJECTIVE_MUTATIONS,
    "instruct": INSTRUCT_MUTATIONS,
    "low rank": LOW_RANK_MUTATIONS,
    "optimizers": OPTIMIZER_MUTATIONS,
    "width": WIDTH_MUTATIONS,
}
"""By what they break."""


def main() -> int:
    """Print the table; 1 if a mutation is not noticed."""
    words, references = sys.argv[1:] or [""], References()
    tried, unnoticed = 0, []
    print(f"{'mutation':88} {'noticed':>7} {'seconds':>8}")
    for kind, mutations in ALL_MUTATIONS.items():
        for name, mutation in mutations.items():
            title = f"{kind}: {name}"
            if not any(word in title for word in words):
                continue
            started_s, problem = time.perf_counter(), ""
            try:
                check_is_noticed(mutation, references)
            except AssertionError as error:
                problem = str(error).splitlines()[0] if str(error) else "it is not"
                unnoticed.append(title)
            tried += 1
            took_s = time.perf_counter() - started_s
            print(f"{title:88} {'NO' if problem else 'yes':>7} {took_s:8.1f} {problem}", flush=True)
    print(json.dumps({"mutations": tried, "unnoticed": unnoticed}))
    return int(bool(unnoticed))


if __name__ == "__main__":
    sys.exit(main())
