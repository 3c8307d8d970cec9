"""The prompt wrappers: fixed texts around an instruction and its input."""

TASK = "Below is an instruction that describes a task"
REQUEST = "Write a response that appropriately completes the request."
WITHOUT_INPUT = f"{TASK}. {REQUEST}\n\n### Instruction:\n{{instruction}}\n\n### Response:\n"
WITH_INPUT = (
    f"{TASK}, paired with an input that provides further context. {REQUEST}\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
FIGURE_3 = f"{TASK}. {REQUEST}\n\n### Instruction:\n{{instruction}}\n\n### Input:\n{{input}}\n\n### Response:\n"
QWEN = "<|im_start|>{}<|im_end|><|im_start|>Assistant:"

# Name -> (template without input, template with input). alpaca and minillm_qwen: MiniLLM's released processing code;
# bd_fig3: the one template of BD's Figure 3, whose Input block is there even when it is empty.
WRAPPERS = {
    "alpaca": (WITHOUT_INPUT, WITH_INPUT),
    "bd_fig3": (FIGURE_3, FIGURE_3),
    "minillm_qwen": (QWEN.format(WITHOUT_INPUT), QWEN.format(WITH_INPUT)),
    "short": ("Q: {instruction}\nA:", "Q: {instruction}\nI: {input}\nA:"),
    "bare": ("{instruction}", "{instruction}\n{input}"),
}


def template_of(wrapper: str, input: str) -> str:
    """Returns a wrapper's template for an input, with places for `instruction` and `input`."""
    return WRAPPERS[wrapper][bool(input.strip())]


def wrap(wrapper: str, instruction: str, input: str) -> str:
    """Returns the prompt text of an instruction; an input of white space alone counts as none.

    Args:
        wrapper: a name of `WRAPPERS` (config key data.wrapper).
        instruction: what to do.
        input: further context, or "".
    """
    return template_of(wrapper, input).format(instruction=instruction, input=input)
