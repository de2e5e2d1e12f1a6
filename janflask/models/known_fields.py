"""Fields of requests that other servers know: those with another name here, and those that cannot be had here.

Read from the sources of vLLM, llama-server, SGLang, Ollama, TGI, LM Studio, text-generation-webui and KoboldCpp, from
what SillyTavern sends, and from OpenAI's own reference. A field that changes what an answer means works or is refused
by name. Whatever is in neither table and not a field of ours (who asks, how to schedule it, what to trace, how much of
a prompt to keep: none is ever cut) changes no answer and is ignored. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOTHING: tuple[Any, ...] = (False, 0, "", [], {})  # what asks for nothing, unless a field has another default


@dataclass(frozen=True, slots=True)
class Unsupported:
    """``reason`` is to be read behind the field's name; a ``harmless`` value, like null, asks for nothing."""

    reason: str
    harmless: tuple[Any, ...] = NOTHING

    def objection(self, value: object) -> str | None:
        """The reason, unless ``value`` asks for nothing."""
        return None if value is None or value in self.harmless else self.reason


# Another server's name, and ours for the same.
ALIASES: Mapping[str, str] = {
    "repetition_penalty": "repeat_penalty",  # vLLM, SGLang, TGI
    "max_completion_tokens": "max_tokens",  # OpenAI's newer name, where it is no field of its own
    "max_new_tokens": "max_tokens",  # TGI
    "num_predict": "max_tokens",  # Ollama
    "n_predict": "max_tokens",  # llama-server
    "random_seed": "seed",  # Mistral
    "sampler_seed": "seed",  # KoboldCpp
    "stop_sequences": "stop",  # Anthropic, Cohere
    "stop_sequence": "stop",  # KoboldCpp
    "stopping_strings": "stop",  # text-generation-webui, as the next ones
    "ban_eos_token": "ignore_eos",
    "mirostat_mode": "mirostat",
    "typical": "typical_p",
    "typ_p": "typical_p",  # llama.cpp's and Jan's model files
    "rep_pen": "repeat_penalty",  # KoboldCpp
    "nsigma": "top_n_sigma",  # Aphrodite
    "n_cmpl": "n",  # llama-server
    "grammar_string": "grammar",  # text-generation-webui
    "regex_pattern": "regex",  # TabbyAPI
    "ebnf": "grammar",  # SGLang
    "reasoning_budget_tokens": "reasoning_budget",  # llama-server, and its older name
    "thinking_budget_tokens": "reasoning_budget",
    "thinking_token_budget": "reasoning_budget",  # vLLM
    "thinking_budget": "reasoning_budget",  # DashScope, SiliconFlow
}
NEWER = frozenset({"max_completion_tokens"})  # wins over the name that it replaces, as OpenAI has it

_STRUCTURED = Unsupported("is not supported yet but in a request or a run: leave it out here and send it there")
_LIMITED = Unsupported("is not supported yet: tokens cannot be allowed or forbidden but by `logit_bias`")
_BEAMS = Unsupported("is not supported: there is no beam search here, leave it out", (*NOTHING, 1))
_SAMPLER = Unsupported("is not supported: there is no such sampler here, leave it out")
_TAIL_FREE = Unsupported(_SAMPLER.reason, (1,))
_NEUTRAL_AT_ONE = Unsupported(_SAMPLER.reason, (*NOTHING, 1))
_SEARCH = Unsupported("is not supported: nothing is looked up here, leave it out")
_ADAPTER = Unsupported("is not supported yet in a request, only in a model's settings: leave it out")
_DETAILS = Unsupported("is not supported: answers here do not tell it, leave it out")
_THINKING = Unsupported("is not supported: use `reasoning_effort`, `enable_thinking` or `reasoning_budget`", ({},))
_NO_THOUGHTS = Unsupported("is not supported: a completion's text is not taken apart, use /chat/completions", (-1,))
_NOT_OPTIONS = Unsupported("is not supported: give its fields as fields of the request, by their names here")

# What an answer must look like: fields of a request for one, and nowhere else yet.
CONSTRAINTS: Mapping[str, Unsupported] = {
    **dict.fromkeys(("guided_json", "guided_regex", "guided_choice", "guided_grammar"), _STRUCTURED),  # vLLM
    **dict.fromkeys(("structured_outputs", "regex", "ebnf"), _STRUCTURED),  # vLLM, SGLang
    **dict.fromkeys(("grammar", "json_schema"), _STRUCTURED),  # llama-server
    **dict.fromkeys(("grammar_string", "regex_pattern"), _STRUCTURED),  # text-generation-webui, TabbyAPI
}
_FORM = Unsupported("is not supported: use `response_format`, `grammar` or `regex`")

# What changes the text that is generated, or what is told of it.
GENERATION: Mapping[str, Unsupported] = {
    **dict.fromkeys(("structural_tag", "format"), _FORM),  # SGLang, Ollama
    "guided_whitespace_pattern": Unsupported("is not supported: an answer under a schema has no white space"),
    **dict.fromkeys(
        ("min_tokens", "min_new_tokens"), Unsupported("is not supported yet: an answer has no least length")
    ),
    "stop_token_ids": Unsupported("is not supported yet: use `stop` with the tokens' text"),
    "stop_regex": Unsupported("is not supported: use `stop` with the texts themselves"),
    **dict.fromkeys(
        ("include_stop_str_in_output", "no_stop_trim"),
        Unsupported("is not supported: what ends an answer is never part of it"),
    ),
    "skip_special_tokens": Unsupported("must be true: special tokens are never part of an answer", (True,)),
    **dict.fromkeys(("allowed_token_ids", "bad_words", "bad_words_ids"), _LIMITED),
    **dict.fromkeys(("banned_tokens", "banned_strings", "custom_token_bans"), _LIMITED),  # text-generation-webui
    **dict.fromkeys(("use_beam_search", "num_beams"), _BEAMS),
    "length_penalty": Unsupported(_BEAMS.reason, (1, 0)),
    "do_sample": Unsupported("must be true: set `temperature` to 0 for the likeliest tokens", (True,)),
    "samplers": Unsupported("is not supported: the order of the samplers can't be changed, leave it out"),
    "min_keep": Unsupported(_SAMPLER.reason, (0, 1)),
    "penalize_nl": _SAMPLER,
    "penalty_prompt": _SAMPLER,
    "adaptive_target": Unsupported(_SAMPLER.reason, (-1, -0.01)),  # the second is SillyTavern's
    **dict.fromkeys(("tfs", "tfs_z"), _TAIL_FREE),
    **dict.fromkeys(("top_a", "smoothing_factor", "no_repeat_ngram_size", "penalty_alpha", "watermark"), _SAMPLER),
    **dict.fromkeys(("epsilon_cutoff", "eta_cutoff", "temperature_last", "repetition_decay"), _SAMPLER),
    **dict.fromkeys(("encoder_repetition_penalty", "rep_pen_slope"), _NEUTRAL_AT_ONE),
    **dict.fromkeys(
        ("repetition_penalty_range", "rep_pen_range"), Unsupported("is not supported: use `repeat_last_n`")
    ),
    "dynamic_temperature": Unsupported("is not supported: use `temperature` and `dynatemp_range` around it"),
    **dict.fromkeys(("guidance_scale", "cfg_scale"), Unsupported(_SAMPLER.reason, (0, 1))),
    "negative_prompt": _SAMPLER,
    "repetition_detection": _SAMPLER,
    **dict.fromkeys(("custom_logit_processor", "logits_processors"), _SAMPLER),
    "n_indent": _SAMPLER,
    "t_max_predict_ms": Unsupported("is not supported: use `max_tokens`, or close the connection", (0, -1)),
    **dict.fromkeys(("lora", "lora_path", "lora_request", "adapter_id"), _ADAPTER),
    **dict.fromkeys(("options", "sampling_params"), _NOT_OPTIONS),  # Ollama, SGLang
    **dict.fromkeys(
        ("truncate_prompt_tokens", "truncate", "transforms"),
        Unsupported("is not supported: a prompt is never cut, one that is too long is refused"),
    ),
    "prompt_logprobs": Unsupported(_DETAILS.reason, ()),
    **dict.fromkeys(("return_token_ids", "return_tokens", "return_tokens_as_token_ids"), _DETAILS),
    **dict.fromkeys(("return_hidden_states", "decoder_input_details", "top_n_tokens"), _DETAILS),
    **dict.fromkeys(("n_probs", "post_sampling_probs", "response_fields"), _DETAILS),
    "return_full_text": Unsupported("is not supported: an answer begins behind the prompt; /completions has `echo`"),
    "reasoning_budget_message": Unsupported("is not supported: thoughts end with the model's own words for it", ("",)),
    "verbosity": Unsupported("is not supported: say in the instructions how long an answer should be", ("medium",)),
}

# What changes how a conversation is laid out.
CONVERSATION: Mapping[str, Unsupported] = {
    "chat_template": Unsupported("is not supported: the model's own is used, or `prompt_template` in its settings"),
    "documents": Unsupported("is not supported: put their text into a message"),
    "system": Unsupported("is not supported: send a message with the role system"),
    "add_special_tokens": Unsupported("must be false: the chat template says which tokens lead", (False,)),
    **dict.fromkeys(
        ("instruction_template", "instruction_template_str", "chat_template_str"),  # text-generation-webui
        Unsupported("is not supported: the model's own is used, or `prompt_template` in its settings"),
    ),
    "character": Unsupported("is not supported: send a message with the role system"),
    **dict.fromkeys(("plugins", "enable_search", "search_parameters", "data_sources"), _SEARCH),
    "best_of": _BEAMS,
    "echo": Unsupported("is not supported: an answer begins behind the conversation"),
    "safe_prompt": Unsupported("is not supported: send a message with the role system"),
    **dict.fromkeys(("guideline", "tool_prompt"), Unsupported("is not supported: put its text into a message")),
    "reasoning_format": Unsupported(  # llama-server; a chat takes it
        "must be auto: what a model thinks is told apart from its answer; only /chat/completions can leave it in",
        ("auto", "deepseek"),
    ),
    "separate_reasoning": Unsupported(  # SGLang
        "must be true: what a model thinks is told apart; /chat/completions leaves it in with `reasoning_format` none",
        (True,),
    ),
    "include_reasoning": Unsupported(  # vLLM
        "must be true: what a model thinks is told, in a field of its own; with `reasoning_effort` none many think not",
        (True,),
    ),
}

# How much to think, in forms that only requests for an answer may have; `parameters` name the fields themselves.
THINKING: Mapping[str, Unsupported] = dict.fromkeys(("think", "thinking", "reasoning"), _THINKING)

_IN_CONTENT = Unsupported("is not supported yet: the models here read text, and only what is in `content`")
_BEGUN = ("prefix", "partial")  # the message is the beginning of the answer
_BESIDE = dict.fromkeys(
    ("images", "image", "videos", "audios", "files", "documents"), _IN_CONTENT
)  # Ollama's and others'

# One message of it.
MESSAGE: Mapping[str, Unsupported] = {
    **dict.fromkeys(_BEGUN, Unsupported("is not supported: send continue_final_message with the request")),
    **_BESIDE,
    **dict.fromkeys(("file_ids", "attachments"), _IN_CONTENT),  # of stored messages
}

# One message of a thread, which has no place for what a chat's messages may have.
STORED_MESSAGE: Mapping[str, Unsupported] = {
    **dict.fromkeys(_BEGUN, Unsupported("is not supported in a thread: a run gives a new message")),
    **_BESIDE,
    **dict.fromkeys(
        ("tool_calls", "tool_call_id", "function_call"),
        Unsupported("cannot come with a message: add calls and their outputs by POST /v1/conversations/{id}/items"),
    ),
    "audio": Unsupported("is not supported yet in a message: leave it out"),
    **dict.fromkeys(
        ("refusal", "reasoning_content", "reasoning", "thinking"),
        Unsupported("is not kept with a thread's message: leave it out, or put its words into `content`"),
    ),
}

# A prompt that is taken as it is.
PROMPT: Mapping[str, Unsupported] = {
    "system": Unsupported("is not supported: /chat/completions takes a message with the role system"),
    "template": Unsupported("is not supported: a prompt is taken as it is"),
    "context": Unsupported("is not supported: put the text before into the prompt"),
    **dict.fromkeys(
        ("reasoning_budget", *(alias for alias, name in ALIASES.items() if name == "reasoning_budget")), _NO_THOUGHTS
    ),
    **dict.fromkeys(("images", "image_data"), Unsupported("is not supported yet: pictures cannot be read here")),
    **dict.fromkeys(
        ("add_special_tokens", "add_bos_token"),
        Unsupported("must be true: what the model wants in front of a text is added", (True,)),
    ),
}

EMBEDDING: Mapping[str, Unsupported] = {
    **dict.fromkeys(
        ("truncate_prompt_tokens", "truncate", "truncation"),
        Unsupported("is not supported: an input is never cut, one that is too long is refused"),
    ),
    **dict.fromkeys(("normalize", "use_activation"), Unsupported("must be true: vectors have length 1", (True,))),
    "embd_normalize": Unsupported("must be 2: vectors have length 1", (2,)),
    **dict.fromkeys(
        ("input_type", "task", "task_type", "prompt_name", "instruction"),
        Unsupported("is not supported: put what the model wants in front of a text into `input`"),
    ),
    **dict.fromkeys(("pooling", "pooling_type"), Unsupported("is not supported: the model's own is used")),
    "late_chunking": Unsupported("is not supported: each input gives a vector of its own"),
    **dict.fromkeys(
        ("output_dtype", "embed_dtype", "embedding_type", "embedding_types"),
        Unsupported("is not supported: vectors are 32-bit floats", ("float", "float32", ["float"], "", [])),
    ),
    "messages": Unsupported("is not supported: send texts in `input`"),
    **dict.fromkeys(("images", "image_data"), Unsupported("is not supported yet: pictures cannot be read here")),
    "chat_template": Unsupported("is not supported: put what the model wants around a text into `input`"),
    "add_special_tokens": Unsupported("must be true: what the model wants around a text is added", (True,)),
    "options": _NOT_OPTIONS,
}

UPLOAD: Mapping[str, Unsupported] = {
    "expires_after": Unsupported("is not supported: a file is kept until it is deleted, leave it out"),
}
