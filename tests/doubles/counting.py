"""Extractors that count what they are asked, on wavs of a number each."""

import hashlib
from pathlib import Path
from types import FunctionType, SimpleNamespace

import numpy as np
import pandas as pd

import utils
from features.store import contract, extraction
from features.store.store import Store

SETTINGS = SimpleNamespace(sr=16_000, factor=1.0)


def feature(**members) -> type[contract.Feature]:
    """A plugin of these members, as if it stood in features/bytes.py."""
    own = {n: staticmethod(m) if isinstance(m, FunctionType) else m for n, m in members.items()}
    return type("Feature", (contract.Feature,), own | {"__module__": "features.bytes"})


def counting(calls: list, **more) -> type[contract.Feature]:
    """A feature: each byte of a file (or the length of a text), `factor` times; notes its calls."""

    class Extractor(contract.Extractor):
        def __init__(self, parameters):
            self.factor = parameters["factor"]

        def __call__(self, source, rows):
            calls.append(source)
            data = source.read_bytes() if isinstance(source, Path) else source.encode()
            if data.startswith(b"bad"):
                raise utils.Unusable("begins with bad")
            return [np.frombuffer(data, np.uint8).astype(np.float32)[None] * self.factor]

    def gather(arrays, stats, parameters, cut, out):
        for array, known, block in zip(arrays, stats, out, strict=True):
            block[...] = 0 if array is None else [array.shape[1], array.sum(), *known]

    members = dict(
        VERSION=1,
        DTYPE="float16",
        SOURCE="wav",
        Extractor=Extractor,
        parameters=lambda settings: {"factor": settings.factor},
        shape=lambda parameters: (3,),
        stats=lambda array, parameters: [float(array.max())],
        gather=gather,
    )
    return feature(**members | more)


def table(folder: Path, contents: list[bytes]) -> pd.DataFrame:
    """Utterances whose files hold `contents`, as dataset.py would describe them."""
    folder.mkdir(exist_ok=True)
    rows = []
    for i, content in enumerate(contents):
        path = folder / f"{i}.wav"
        if not path.exists() or path.read_bytes() != content:  # another process may be reading it
            path.write_bytes(content)
        rows.append(
            {
                "role": "speaker",
                "segment": f"Sess01_F{i:03}",
                "wav": f"{i}.wav",
                "text": f"line {i}",
                "quarantine": "",
                "silent": False,
                "wav_size": len(content),
                "wav_hash": hashlib.blake2b(content, digest_size=16).hexdigest(),
            }
        )
    return pd.DataFrame(rows)


def several(n: int = 12) -> list[bytes]:
    """Contents of different lengths, the first byte telling them apart."""
    return [bytes([i + 1]) * (5 + 7 * i % 40) for i in range(n)]


def contents(store: Store) -> list[bytes | None]:
    arrays = [store.array(row) for row in range(len(store))]
    return [None if array is None else array.astype(np.uint8).tobytes() for array in arrays]


def extract(utterances, tmp_path, **more) -> Store:
    options = {"progress": False, "settings": SETTINGS, **more}
    return extraction.extract("bytes", utterances, tmp_path / "corpus", tmp_path, **options)


def names(calls: list) -> list[str]:
    return [source.name for source in calls]
