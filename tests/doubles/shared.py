"""Where data that is licensed apart lies, and the flags of the smallest run."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared"
needs_shared = pytest.mark.skipif(
    not (SHARED / "real_speech").is_dir(),
    reason=f"no {SHARED}: real speech is licensed apart from this project",
)
FLAGS = [
    "--text_encoder",
    "char-ngram",
    "--hidden_size",
    "8",
    "--epochs",
    "1",
    "--batch_size",
    "8",
    "--precision",
    "float32",
    "--gpu_id",
    "-1",
]
