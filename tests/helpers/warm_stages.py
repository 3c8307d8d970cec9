"""What the stages load, in the order and surroundings in which they do."""

import os
import warnings

# As distill.sampling.vllm_engine does, and the CPU whatever else the machine has.
os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
os.environ |= {"VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": "cpu"}

import deepspeed.module_inject.auto_ep_layer  # noqa: F401
import fontTools.subset  # noqa: F401
import matplotlib.backends.backend_agg
import matplotlib.backends.backend_pdf
import matplotlib.backends.backend_svg  # noqa: F401
import matplotlib.figure  # noqa: F401
import openai  # noqa: F401
import rouge_score.rouge_scorer  # noqa: F401
import tensorboard.summary.writer.event_file_writer  # noqa: F401
import torch  # noqa: F401
import transformers.models.gpt2.modeling_gpt2
import transformers.models.llama.modeling_llama
import transformers.models.opt.modeling_opt
import transformers.models.qwen2.modeling_qwen2  # noqa: F401

# What vLLM loads at the start of an engine on the CPU, and three fourths of what that costs.
import vllm.distributed.elastic_ep.elastic_execute
import vllm.model_executor.layers.quantization.online.base
import vllm.model_executor.models.qwen2
import vllm.plugins.lora_resolvers.hf_hub_resolver
import vllm.v1.attention.backends.cpu_attn
import vllm.v1.core.sched.scheduler
import vllm.v1.worker.cpu_worker  # noqa: F401
from vllm import LLM, SamplingParams  # noqa: F401
from vllm.platforms import current_platform

# It looks through every module for kernels to replace: once here, not in each fork, which would copy all their pages.
with warnings.catch_warnings(action="ignore"):
    current_platform.register_triton_kernel_overrides()
type(current_platform).register_triton_kernel_overrides = classmethod(lambda cls: None)
