"""Speech encoders (wav2vec2, HuBERT, WavLM): found, checked, built, loaded, and run in batches.

What a clip becomes is the same alone and in any batch: it is normalised over its own samples, and
padding reaches neither convolutions nor attention. transformers' own forward does not promise that:
a feature encoder with group norm takes its averages over the padding, too. How a checkpoint is
found and read is in loading.py, what is made of the states in features/ and models/.
"""

import warnings
from collections import deque
from collections.abc import Iterator
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
    # transformers gives torch WavLM's bias as numbers and the mask as truth values, at every layer
    warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
    if hasattr(module, "masked_spec_embed"):
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

    states, there = _states(module, wave, mask)
    if all_layers:
        return torch.stack([_zeroed(state, there) for state in states]), there
    return _zeroed(_last(states), there), there


def means(
    module: "nn.Module", wave: "Tensor", mask: "Tensor", all_layers: bool = True
) -> tuple["Tensor", "Tensor"]:
    """Clips as in `hidden` -> (L + 1, N, D), (N,): the mean over time of every layer's states, or
    (1, N, D) of the last's; and which clips have a frame."""
    import torch

    states, there = _states(module, wave, mask)
    if not all_layers:
        states = [_last(states)]
    return torch.stack([pooled(state, there) for state in states]), there.any(1)


def pooled(states: "Tensor", mask: "Tensor") -> "Tensor":
    """(..., N, F, D), (N, F) -> (..., N, D): the mean over time, zeros where there is nothing; in
    float32 at least."""
    import torch

    states = _zeroed(states.to(torch.promote_types(states.dtype, torch.float32)), mask)
    return states.sum(-2) / mask.sum(-1, keepdim=True).clamp(min=1)


def _last(states: Iterator["Tensor"]) -> "Tensor":
    """The others are let go of one by one."""
    [last] = deque(states, maxlen=1)
    return last


def _zeroed(states: "Tensor", mask: "Tensor") -> "Tensor":
    return states.masked_fill(~mask.unsqueeze(-1), 0)


def _states(
    module: "nn.Module", wave: "Tensor", mask: "Tensor"
) -> tuple[Iterator["Tensor"], "Tensor"]:
    """Each layer's states (N, F, D), and which of the frames count."""
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
    return _layers(module, features, there), steps < frames(sizes, mask.sum(1)).unsqueeze(1)


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


def _layers(module: "nn.Module", features: "Tensor", there: "Tensor") -> Iterator["Tensor"]:
    """The states (N, F, D) before, between and after the transformer's layers."""
    encoder, config = module.encoder, module.config
    states = module.feature_projection(features)
    states = states[0] if isinstance(states, tuple) else states  # HuBERT's is no pair
    if module.training and getattr(config, "apply_spec_augment", True):
        states = _augmented(module, states, there)
    states = _zeroed(states, there)
    states = states + _positions(encoder.pos_conv_embed, states, there)
    if not config.do_stable_layer_norm:
        states = encoder.layer_norm(states)
    states = encoder.dropout(states)
    yield states
    yield from _attended(module, states, there)


def _attended(module: "nn.Module", states: "Tensor", there: "Tensor") -> Iterator["Tensor"]:
    """What each transformer layer makes of the states before it."""
    import torch

    config, layers = module.config, module.encoder.layers
    relative = config.model_type == "wavlm"  # its layers share a table of distances
    attend, bias = _attention_mask(module, states, there), None
    for i, layer in enumerate(layers):
        if relative:
            made, bias = layer(states, attention_mask=attend, position_bias=bias)
        else:
            made = layer(states, attention_mask=attend)
            made = made[0] if isinstance(made, tuple) else made
        dropped = module.training and config.layerdrop > 0 and torch.rand([]) < config.layerdrop
        # run even so: with several processes each parameter must have a gradient, if of zeros
        states = states + 0 * made if dropped else made
        last = i == len(layers) - 1 and config.do_stable_layer_norm
        yield module.encoder.layer_norm(states) if last else states


def _attention_mask(module: "nn.Module", states: "Tensor", there: "Tensor") -> Any:
    if module.config.model_type == "wavlm":
        return None if there.all() else there
    from transformers.masking_utils import create_bidirectional_mask

    return create_bidirectional_mask(
        config=module.config, inputs_embeds=states, attention_mask=there
    )


def _positions(embed: "nn.Module", states: "Tensor", there: "Tensor") -> "Tensor":
    """Positions by convolution. A batch norm before it (some HuBERT) keeps its averages, and what
    it adds in the padding is taken away again."""
    if getattr(embed, "batch_norm", None) is None:
        return embed(states)
    normed = embed.batch_norm.eval()(states.transpose(1, 2)).masked_fill(~there.unsqueeze(1), 0)
    return embed.activation(embed.padding(embed.conv(normed))).transpose(1, 2)


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
