"""A causal language model on disk or on the hub: its tokenizer, its weights, and what its files say.

Weights are safetensors only; code from the model's folder is never run.
"""

import importlib.util
import inspect
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.captioning.params import BloomParams

log = logging.getLogger(__name__)

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TOKENIZERS = "tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model"
_PICKLED = "*.bin", "*.pt", "*.pth", "*.ckpt"


def is_folder(params: BloomParams) -> bool:
    """Return whether the model is a folder rather than a name on the hub.

    Raises:
        ValueError: it is written like a path, and there is no such folder; or no model is in it.
    """
    if Path(params.model).is_dir():
        if not (Path(params.model) / "config.json").is_file():
            raise _refused(params, "has no config.json, so it is no model's folder")
        return True
    if Path(params.model).exists():
        raise _refused(params, "is a file; give the folder that holds config.json, the tokenizer and the weights")
    if params.model.startswith((".", "/", "~")) or params.model.count("/") > 1:
        raise _refused(params, "there is no such folder")
    return False


def load_tokenizer(params: BloomParams) -> Any:
    """Return the tokenizer.

    Raises:
        ValueError: there is none.
    """
    from transformers import AutoTokenizer

    if is_folder(params) and not any((Path(params.model) / name).is_file() for name in _TOKENIZERS):
        raise _refused(params, f"has no tokenizer ({', '.join(_TOKENIZERS)}); save it there with save_pretrained")
    with _explained(params, "its tokenizer"):
        return AutoTokenizer.from_pretrained(params.model, **_source(params))


def load_model(params: BloomParams, tokenizer: Any) -> Any:
    """Return the model in evaluation mode, where it is to run.

    Raises:
        ValueError: it cannot be loaded, or what it needs to be spread or quantised is missing.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as messages

    messages.disable_progress_bar()  # type: ignore[no-untyped-call]  # it ends up in the run's log, one line per step

    placed = _placement(params)
    config = _config(params)
    if is_folder(params):
        _check_weights(params)
    loader: Any = AutoModelForCausalLM
    with _explained(params, "its weights"):
        model, report = loader.from_pretrained(
            params.model,
            config=config,
            dtype=getattr(torch, params.dtype),
            use_safetensors=True,
            output_loading_info=True,
            **placed,
            **_source(params),
        )
    # transformers would go on with random numbers in their place.
    wrong = sorted(report["missing_keys"]) + sorted(str(key[0]) for key in report["mismatched_keys"])
    if wrong:
        raise _refused(params, f"its weights lack {len(wrong)} of the model's tensors, for one {wrong[0]}")
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise _refused(params, f"its tokenizer has {len(tokenizer)} tokens, more than the model knows")
    if not placed:
        model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    return model.eval()


def context_length(model: Any) -> int | None:
    """Return the most tokens that the model can attend to; None where its positions have no end (ALiBi)."""
    config = model.config.get_text_config(decoder=True)
    if getattr(config, "alibi", False):
        return None
    longest: int | None = getattr(config, "max_position_embeddings", None)
    return longest


def _refused(params: BloomParams, reason: str) -> ValueError:
    """Return the error of a model that cannot be used, in one line."""
    return ValueError(f"captioning.model: {params.model!r} {reason}")


def _source(params: BloomParams) -> dict[str, Any]:
    """Return where files come from; a folder never makes transformers ask the hub."""
    folder = is_folder(params)
    if not folder and not _COMMIT.fullmatch(params.revision):
        log.warning(
            "captioning.revision: %r of %s can come to mean other weights; a commit cannot",
            params.revision,
            params.model,
        )
    where = {"local_files_only": True} if folder else {"revision": params.revision}
    return {**where, "trust_remote_code": False}


def _config(params: BloomParams) -> Any:
    """Return the configuration of a model that can continue a text.

    Raises:
        ValueError: it is missing, broken, or of another kind of model.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    with _explained(params, "config.json"):
        config = AutoConfig.from_pretrained(params.model, **_source(params))
    known: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    names = set(config.architectures or [])
    # An encoder has a causal class too, which nobody has trained: the files must say that they are for it.
    if known is None or (names and known.__name__ not in names):
        said = ", ".join(sorted(names)) or config.model_type
        raise _refused(params, f"is a {said}, not a causal language model such as BLOOM")
    kinds = set(getattr(config.get_text_config(decoder=True), "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or known._is_stateful:
        raise _refused(params, f"is a {known.__name__} with other layers than full attention; take another model")
    # BLOOM reads positions off the attention mask; others must be told them, for padding lies between tokens.
    if config.model_type != "bloom" and "position_ids" not in inspect.signature(known.forward).parameters:
        raise _refused(params, f"is a {known.__name__}, which cannot be told its tokens' positions; take another model")
    return config


def _check_weights(params: BloomParams) -> None:
    folder = Path(params.model)
    if any(folder.glob("*.safetensors")):
        return
    pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
    if pickled:
        raise _refused(
            params, f"has pickled weights only ({pickled[0]}), which can run code; convert them to safetensors"
        )
    raise _refused(params, "has no weights (*.safetensors)")


def _placement(params: BloomParams) -> dict[str, Any]:
    """Return how the weights are stored and spread.

    Raises:
        ValueError: accelerate, bitsandbytes or CUDA is missing.
    """
    import torch

    placed: dict[str, Any] = {}
    if params.device_map != "none":
        _needed("accelerate", f"captioning.device_map: {params.device_map}")
        placed["device_map"] = params.device_map
    if params.quantisation == "none":
        return placed
    asked = f"captioning.quantisation: {params.quantisation}"
    _needed("bitsandbytes", asked)
    _needed("accelerate", asked)
    if not torch.cuda.is_available():
        raise ValueError(f"{asked} needs a GPU with CUDA, and none is here; use none")
    return {"device_map": {"": 0}, **placed, "quantization_config": _quantised(params)}


def _quantised(params: BloomParams) -> Any:
    """Return how bitsandbytes is to store the weights."""
    import torch
    from transformers import BitsAndBytesConfig

    config: Any = BitsAndBytesConfig
    if params.quantisation == "int8":
        return config(load_in_8bit=True)
    compute = getattr(torch, params.dtype)
    return config(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)


def _needed(package: str, asked: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"{asked} needs {package}; install the extra: pip install 'needledrop[hf-gpu]'")


@contextmanager
def _explained(params: BloomParams, what: str) -> Iterator[None]:
    """Turn what transformers raises into one line."""
    import torch
    from safetensors import SafetensorError

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise _refused(params, f"does not fit into memory ({_one_line(error)}); see captioning.device_map") from None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, ImportError, RuntimeError) as error:
        raise _refused(params, f"{what} cannot be loaded: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
