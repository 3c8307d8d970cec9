import pytest

from distill.config.data import Data
from distill.data.prompts import WRAPPERS, wrap
from distill.files import read_jsonl
from shared_data import shared_data

# Written out, not built from parts: these bytes are what published models were trained on.
ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\nSay hi.\n\n### Response:\n"
)
ALPACA_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\nSay hi.\n\n### Input:\nTo Bo.\n\n### Response:\n"
)
FIGURE_3 = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\nSay hi.\n\n### Input:\n{}\n\n### Response:\n"
)


@pytest.mark.parametrize(
    ("wrapper", "without_input", "with_input"),
    [
        ("alpaca", ALPACA, ALPACA_INPUT),
        ("bd_fig3", FIGURE_3.format(""), FIGURE_3.format("To Bo.")),
        (
            "minillm_qwen",
            f"<|im_start|>{ALPACA}<|im_end|><|im_start|>Assistant:",
            f"<|im_start|>{ALPACA_INPUT}<|im_end|><|im_start|>Assistant:",
        ),
        ("short", "Q: Say hi.\nA:", "Q: Say hi.\nI: To Bo.\nA:"),
        ("bare", "Say hi.", "Say hi.\nTo Bo."),
    ],
)
def test_wrappers_are_exact(wrapper, without_input, with_input):
    assert wrap(wrapper, "Say hi.", "") == without_input
    assert wrap(wrapper, "Say hi.", "To Bo.") == with_input


def test_blank_input_counts_as_none():
    assert wrap("alpaca", "Say hi.", " \n") == ALPACA


def test_braces_in_a_text_stay():
    assert wrap("short", "Fill {input} and {0}", "{instruction}") == "Q: Fill {input} and {0}\nI: {instruction}\nA:"


def test_every_wrapper_of_the_config_exists():
    assert set(Data.model_fields["wrapper"].annotation.__args__) == set(WRAPPERS)


def test_real_prompts_of_minillm_are_reproduced():
    for name in ("dolly_dev_1000", "dolly_test_500", "self_inst_242", "vicuna_80"):
        for _, row in read_jsonl(shared_data(f"eval/{name}.jsonl")):
            assert wrap("alpaca", row["instruction"], row.get("input", "")) == row["prompt"]
