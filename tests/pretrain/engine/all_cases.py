"""Every layout of the table."""

from __future__ import annotations

from tests.pretrain.engine.decoder_cases import DECODER_CASES
from tests.pretrain.engine.encoder_cases import ENCODER_CASES
from tests.pretrain.engine.encoder_decoder_cases import ENCODER_DECODER_CASES
from tests.pretrain.engine.encoder_decoder_objective_cases import DENOISING_CASES
from tests.pretrain.engine.gpt_objective_cases import GPT_OBJECTIVE_CASES
from tests.pretrain.engine.instruct_cases import INSTRUCT_CASES
from tests.pretrain.engine.layout_cases import CASES, Case
from tests.pretrain.engine.low_rank_cases import LOW_RANK_CASES
from tests.pretrain.engine.objective_cases import OBJECTIVE_CASES
from tests.pretrain.engine.optimizer_cases import OPTIMIZER_CASES
from tests.pretrain.engine.width_cases import WIDTH_CASES

ALL_CASES: tuple[Case, ...] = (
    *CASES,
    *DECODER_CASES,
    *ENCODER_CASES,
    *ENCODER_DECODER_CASES,
    *DENOISING_CASES,
    *OBJECTIVE_CASES,
    *GPT_OBJECTIVE_CASES,
    *INSTRUCT_CASES,
    *LOW_RANK_CASES,
    *OPTIMIZER_CASES,
    *WIDTH_CASES,
)
CASE_BY_NAME = {case.name: case for case in ALL_CASES}
