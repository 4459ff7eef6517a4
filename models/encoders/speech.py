"""Speech encoders (wav2vec2, HuBERT, WavLM): found, checked, built, loaded, and run in batches.

What a clip becomes is the same alone and in any batch: it is normalised over its own samples, and
padding reaches neither convolutions nor attention. transformers' own forward does not promise that:
a feature encoder with group norm takes its averages over the padding, too. How a checkpoint is
found and read is in loading.py, what is made of the states in features/ and models/.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import utils
from models.encoders import loading
from models.encoders.loading import Kind
from utils import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

TYPES = ("wav2vec2", "hubert", "wavlm")
PREPROCESSING = ("preprocessor_config.json", "processor_config.json")  # the first that is there
KIND = Kind(
    "speech encoder",
    "wav2vec2-like",
    "--speech_encoder",
    PREPROCESSING,
    ("hidden_size", "num_attention_heads", "intermediate_size"),
    # only SpecAugment uses it; facebook/wav2vec2-base-960h was saved without
    spare=("masked_spec_embed",),
)
MAX_SIZE = 1 << 16  # numbers of a state; transformers takes the memory even where torch would not
CONVOLUTIONS = ("conv_dim", "conv_kernel", "conv_stride")  # a number for each of its layers
EPS = 1e-7  # added to the variance of a clip, as Wav2Vec2FeatureExtractor does


# --- which one -----------------------------------------------------------------------------------


def find(encoder: str, otherwise: str = "") -> Path:
    """The folder of a speech encoder, as `loading.find`."""
    return loading.find(encoder, KIND, otherwise)


def identify(encoder: str, weights: bool = True) -> dict:
    """What tells one speech encoder from another, as `loading.identify`."""
    return loading.identify(encoder, KIND, weights)


def described(encoder: str) -> dict:
    """What a model must know of an encoder to be built again without its weights: `speech` (its
    config) and `speech_files` (a digest of that, None of a hub's)."""
    about = config(find(encoder))
    return {"speech": about, "speech_files": identify(encoder, weights=False).get("content")}


def config(folder: Path) -> dict:
    """Its config.json, with the defaults of its kind, and `do_normalize`; as JSON."""
    about = loading.config(folder, KIND)
    try:
        _check(about)
    except ValueError as error:
        raise UserError(f"no {KIND.like} encoder in {folder}: {error}") from error
    return about | {"do_normalize": _normalises(folder)}


def _check(config: dict) -> None:
    """A ValueError unless its type is known and its convolutions are whole numbers, in lists."""
    if config.get("model_type") not in TYPES:
        raise ValueError(
            f"model_type is {str(config.get('model_type'))[:40]!r}; "
            f"those there are: {', '.join(TYPES)}"
        )
    if type(size := config.get("hidden_size")) is not int or not 1 <= size <= MAX_SIZE:
        raise ValueError(f"hidden_size is {size!r}"[:80])
    for name in CONVOLUTIONS:
        values = config.get(name)
        right = isinstance(values, list | tuple) and len(values) == len(config["conv_dim"])
        if not right or not values or not all(type(v) is int and v >= 1 for v in values):
            raise ValueError(f"{name} is {values!r}"[:80])


def _normalises(folder: Path) -> bool:
    """Whether it was trained on clips of mean 0 and variance 1; yes where nothing is said, as in
    Wav2Vec2FeatureExtractor."""
    for name in PREPROCESSING:
        if (folder / name).is_file():
            said = utils.read_json(folder / name)
            said = said.get("feature_extractor", said)  # of processor_config.json
            value = said.get("do_normalize", True) if isinstance(said, dict) else None
            if not isinstance(value, bool):
                raise UserError(f"{folder / name}: do_normalize should be true or false")
            return value
    return True


# --- building and loading ------------------------------------------------------------------------


def encoder(config: dict) -> "nn.Module":
    """The transformers model of a `config`, with random weights, in float32.

    Its convolutional feature encoder is frozen; so is the embedding of SpecAugment where that is
    off. Adapters behind the last layer, which are for decoders, are left out. Raises UserError.
    """
    try:
        _check(config)
    except ValueError as error:
        raise UserError(f"no {KIND.name} can be built from its config: {error}") from error
    module = loading.encoder(config | {"add_adapter": False}, pooler=False, kind=KIND)
    module.feature_extractor.requires_grad_(False)
    if share := module.config.layerdrop:
        module.config.layerdrop = 0.0
        for layer in module.encoder.layers:
            layer.register_forward_hook(partial(_dropped, share))
    # transformers gives torch WavLM's bias as numbers and the mask as truth values, at every layer
    warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
    if hasattr(module, "masked_spec_embed"):  # of transformers, where its config asks for it
        module.masked_spec_embed.requires_grad_(_augments(module.config))
    return module


def load(module: "nn.Module", folder: Path) -> None:
    """Replace the weights of an encoder by those in a folder: all of them, else a UserError."""
    loading.load(module, folder, KIND)


def _augments(config: Any) -> bool:
    """Whether time is masked in training."""
    return bool(getattr(config, "apply_spec_augment", True)) and config.mask_time_prob > 0


# --- running -------------------------------------------------------------------------------------


def frames(config: dict, samples: "Tensor") -> "Tensor":
    """Numbers of samples -> of frames, of the same shape; 0 where a clip is too short for one.

    A wav2vec2 makes a frame every 320 samples (20 ms), of 400.
    """
    for kernel, stride in zip(config["conv_kernel"], config["conv_stride"], strict=True):
        samples = ((samples - kernel).div(stride, rounding_mode="floor") + 1).clamp(min=0)
    return samples


def hidden(
    module: "nn.Module", wave: "Tensor", mask: "Tensor", all_layers: bool = False
) -> tuple["Tensor", "Tensor"]:
    """Clips (N, T) and where they have samples, from the first on -> states (N, F, D), mask (N, F).

    With `all_layers`, states (L + 1, N, F, D): what the first transformer layer is given, what each
    makes of it, the last after the final LayerNorm where there is one (so the last is the same
    either way). Zeros where the mask is false: in the padding, and the one frame of a clip that is
    too short for any. SpecAugment and dropout as the config says, while `module` trains.
    """
    import torch

    states, there = _states(module, wave, mask, all_layers)
    states = [_zeroed(state, there) for state in states]
    return torch.stack(states) if all_layers else states[0], there


def means(
    module: "nn.Module", wave: "Tensor", mask: "Tensor", all_layers: bool = True
) -> tuple["Tensor", "Tensor"]:
    """Clips as in `hidden` -> (L + 1, N, D), (N,): the mean over time of every layer's states, or
    (1, N, D) of the last's; and which clips have a frame."""
    import torch

    states, there = _states(module, wave, mask, all_layers)
    return torch.stack([pooled(state, there) for state in states]), there.any(1)


def pooled(states: "Tensor", mask: "Tensor") -> "Tensor":
    """(..., N, F, D), (N, F) -> (..., N, D): the mean over time, zeros where there is nothing; in
    float32 at least."""
    import torch

    states = _zeroed(states.to(torch.promote_types(states.dtype, torch.float32)), mask)
    return states.sum(-2) / mask.sum(-1, keepdim=True).clamp(min=1)


def _zeroed(states: "Tensor", mask: "Tensor") -> "Tensor":
    return states.masked_fill(~mask.unsqueeze(-1), 0)


def _states(
    module: "nn.Module", wave: "Tensor", mask: "Tensor", all_layers: bool
) -> tuple[Sequence["Tensor"], "Tensor"]:
    """Each layer's states (N, F, D), or the last's alone, and which of the frames count."""
    import torch

    sizes = {name: getattr(module.config, name) for name in CONVOLUTIONS}
    wave = wave.masked_fill(~mask, 0)
    if getattr(module.config, "do_normalize", True):
        wave = _normalised(wave, mask)
    # a clip too short for a frame is read with zeros behind it, and that frame does not count:
    # so each clip has one, and a batch of nothing but such clips goes the same way
    lengths = mask.sum(1).clamp(min=_shortest(sizes))
    longest = int(lengths.max())
    wave = torch.nn.functional.pad(wave[:, :longest], (0, max(0, longest - wave.shape[1])))
    counts = frames(sizes, lengths)
    steps = torch.arange(int(counts.max()), device=wave.device)
    there = steps < counts.unsqueeze(1)
    features = _features(module, wave, lengths, counts)
    states = _transformed(module, features, there, all_layers)
    return states, steps < frames(sizes, mask.sum(1)).unsqueeze(1)


def _shortest(sizes: dict) -> int:
    """Samples of one frame: 400 of a wav2vec2."""
    samples = 1
    for kernel, stride in zip(sizes["conv_kernel"][::-1], sizes["conv_stride"][::-1], strict=True):
        samples = (samples - 1) * stride + kernel
    return samples


def _normalised(wave: "Tensor", mask: "Tensor") -> "Tensor":
    """(N, T), zeros in the padding -> mean 0 and variance 1 of each clip's own samples."""
    count = mask.sum(1, keepdim=True).clamp(min=1)
    centred = (wave - wave.sum(1, keepdim=True) / count).masked_fill(~mask, 0)
    variance = centred.square().sum(1, keepdim=True) / count
    return centred / (variance + EPS).sqrt()


def _features(module: "nn.Module", wave: "Tensor", lengths: "Tensor", counts: "Tensor") -> "Tensor":
    """(N, T) -> (N, F, C) by the convolutions, frozen. Group norm averages over a whole clip, so
    with it those of each length go by themselves, without any padding."""
    import torch

    convolutions = module.feature_extractor.eval()
    with torch.no_grad():
        if module.config.feat_extract_norm != "group":
            return convolutions(wave).transpose(1, 2)
        parts = []
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero().squeeze(1)
            parts.append((rows, convolutions(wave[rows, :length]).transpose(1, 2)))
        out = parts[0][1].new_zeros(len(wave), int(counts.max()), parts[0][1].shape[2])
        for rows, features in parts:
            out[rows, : features.shape[1]] = features
    return out


def _transformed(
    module: "nn.Module", features: "Tensor", there: "Tensor", all_layers: bool
) -> Sequence["Tensor"]:
    """The states (N, F, D) before, between and after the transformer's layers, or the last alone.

    By transformers' own encoder and its `output_hidden_states`, which are given what they would
    compute over padding or draw from NumPy: features of each length and spans to hide.
    """
    from transformers.utils.output_capturing import capture_outputs

    states = module.feature_projection(features)
    states = states[0] if isinstance(states, tuple) else states  # HuBERT's is no pair
    if module.training and getattr(module.config, "apply_spec_augment", True):
        states = _augmented(module, states, there)
    mask = None if there.all() else there
    encoder = capture_outputs(lambda module, **_: module.encoder(states, attention_mask=mask))
    with _without_padding(module.encoder.pos_conv_embed, there):
        made = encoder(module, output_hidden_states=all_layers)
    return made.hidden_states if all_layers else [made.last_hidden_state]


@contextmanager
def _without_padding(embed: "nn.Module", there: "Tensor") -> Iterator[None]:
    """A batch norm before the convolution of positions (some HuBERT) keeps its averages, and what
    it adds in the padding is taken away again: transformers would let it reach the last frames."""
    if getattr(embed, "batch_norm", None) is None:
        yield
        return
    padding = ~there.unsqueeze(1)
    normed = embed.batch_norm.eval()
    hook = normed.register_forward_hook(lambda _, __, made: made.masked_fill(padding, 0))
    try:
        yield
    finally:
        hook.remove()


def _dropped(share: float, layer: "nn.Module", given: tuple, made: Any) -> Any:
    """LayerDrop, as a hook of a layer: it passes on what it was given.

    transformers would not run the layer; then its states are missing among those of all layers, and
    with several processes its parameters lack the gradient, if of zeros, that each must have.
    """
    import torch

    if not layer.training or torch.rand([]) >= share:
        return None
    states, *more = made if isinstance(made, tuple) else (made,)
    states = given[0] + 0 * states
    return (states, *more) if isinstance(made, tuple) else states


# --- SpecAugment ---------------------------------------------------------------------------------


def _augmented(module: "nn.Module", states: "Tensor", there: "Tensor") -> "Tensor":
    """Spans of time replaced by a learned vector, spans of channels by 0, as the config says."""
    import torch

    config, (rows, _, size) = module.config, states.shape
    if config.mask_time_prob > 0:
        spans = _spans(
            there.sum(1).tolist(),
            there.shape[1],
            config.mask_time_prob,
            config.mask_time_length,
            config.mask_time_min_masks,
        )
        spans = spans.to(states.device).unsqueeze(-1)
        states = torch.where(spans, module.masked_spec_embed.to(states.dtype), states)
    if config.mask_feature_prob > 0:
        least = getattr(config, "mask_feature_min_masks", 0)  # WavLM has none
        spans = _spans(
            [size] * rows, size, config.mask_feature_prob, config.mask_feature_length, least
        )
        states = states.masked_fill(spans.to(states.device).unsqueeze(1), 0)
    return states


def _spans(lengths: list[int], width: int, share: float, span: int, least: int) -> "Tensor":
    """(N, width) bool: about `share` of each row's length in spans of `span` steps, that may
    overlap; at least `least` spans, as far as they fit: none in a row shorter than a span.

    transformers draws from NumPy's global generator, which no run seeds, and fails where every
    clip is shorter than a span; this is drawn from torch's.
    """
    import torch

    mask = torch.zeros(len(lengths), width, dtype=torch.bool)
    for row, length in zip(mask, lengths, strict=True):
        count = max(int(share * length / span + torch.rand([]).item()), least)
        starts = torch.randperm(max(0, length - span + 1))[: min(count, length // span)]
        row[(starts.unsqueeze(1) + torch.arange(span)).flatten()] = True
    return mask
