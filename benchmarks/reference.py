"""The plain way of working, as in 2022: what the fast one is measured and checked against.

A window is made when it is asked for: its eight wavs are decoded and eight log-mel spectrograms
computed, every epoch again, by one worker. The model is float32 in torch's default memory order,
with its pools of kernel 1 and each pool after the ReLU; Adam is torch's default, and every loss is
read at every step. Written here a second time, from the layers alone; names of weights as in 2022,
so `models/mate.py` can take them over.
"""

from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn
from torch.utils.data import DataLoader

import constants
from dataset import Material, Windows

SAMPLES = constants.CLIP_SECONDS * constants.SAMPLE_RATE
FRAMES = 1 + SAMPLES // constants.HOP  # 313
CONVOLUTIONS = ((32, 3, 1), (48, 3, 2), (32, 5, 2))  # channels, kernel, pool; a last one: (W, 7, 2)
LOSSES = ("loss", "loss/emotion", "loss/arousal", "loss/valence")

# --- data ----------------------------------------------------------------------------------------


class PlainWindows(torch.utils.data.Dataset):
    """The windows of `windows`, decoded and transformed when they are asked for.

    An item: audio (W, 229, 313), text (W, 768), emotion (7,), arousal (), valence (). Which rows a
    window holds and what their truth is comes from `windows`; its features are not used.
    """

    def __init__(self, windows: Windows, folder: Path, vectors: dict[str, np.ndarray]) -> None:
        self.windows, self.folder, self.vectors = windows, folder, vectors
        self.transform = nn.Sequential(
            torchaudio.transforms.MelSpectrogram(
                sample_rate=constants.SAMPLE_RATE,
                n_fft=constants.N_FFT,
                hop_length=constants.HOP,
                n_mels=constants.N_MELS,
                f_min=constants.F_MIN,
                f_max=constants.F_MAX,
            ),
            torchaudio.transforms.AmplitudeToDB("power", top_db=None),
        )
        self.shape = (constants.N_MELS, FRAMES)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        judged = self.windows.rows[i]
        rows = self.windows.index[i]
        item = {
            "audio": torch.stack([self._audio(row) for row in rows]),
            "text": torch.stack([self._text(row) for row in rows]),
        }
        truth = self.windows.truth
        for head in constants.HEADS:
            item[head] = torch.as_tensor(truth[head][judged])
        return item

    def _audio(self, row: int) -> Tensor:
        """(229, 313); zeros for padding."""
        if row < 0 or not self.windows.visible[row]:
            return torch.zeros(self.shape)
        return self.log_mel(self.folder / self.windows.utterances["wav"].iloc[row])

    def log_mel(self, path: Path) -> Tensor:
        """(229, 313): the log-mel spectrogram of ten seconds, with mean 0 and variance 1."""
        wave, rate = soundfile.read(path, dtype="float32")
        if rate != constants.SAMPLE_RATE or wave.ndim > 1:
            raise ValueError(f"{path}: the reference reads mono at 16 kHz only")
        decibels = self.transform(torch.from_numpy(ten_seconds(wave)))
        return F.batch_norm(decibels[None, None], None, None, training=True)[0, 0]

    def _text(self, row: int) -> Tensor:
        """(768,); zeros for padding and where there is no vector."""
        nothing = np.zeros(constants.TEXT_DIM, np.float32)
        if row < 0 or not self.windows.visible[row]:
            return torch.from_numpy(nothing)
        segment = self.windows.utterances["segment"].iloc[row]
        return torch.from_numpy(self.vectors.get(f"{segment}.txt", nothing))


def ten_seconds(wave: np.ndarray) -> np.ndarray:
    """Zeros after a short clip; the middle of a long one (2022 drew a place), at a whole hop."""
    spare = max(0, 1 + len(wave) // constants.HOP - FRAMES)
    wave = wave[spare // 2 * constants.HOP :][:SAMPLES]
    return np.pad(wave, (0, SAMPLES - len(wave)))


def plain_windows(material: Material, windows: Windows) -> PlainWindows:
    """The same windows the plain way; the sentence vectors are those our cache holds, as a dict."""
    store = material.stores["sentence"]
    vectors = {
        f"{segment}.txt": np.array(store.array(row))
        for row, segment in enumerate(material.utterances["segment"])
        if store.available[row]
    }
    return PlainWindows(windows, material.corpus.folder, vectors)


def loader(windows: PlainWindows, batch_size: int, shuffle: bool = False) -> DataLoader:
    """One worker, as in 2022; the last batch is kept, so that both sides do the same windows."""
    return DataLoader(windows, batch_size, shuffle=shuffle, num_workers=1)


# --- model ---------------------------------------------------------------------------------------


class Convolution(nn.Module):
    """Convolution, normalisation, ReLU, and a pool even where it pools nothing."""

    def __init__(self, channels: int, out: int, kernel: int, pool: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, bias=False)
        self.bn = nn.BatchNorm2d(out)
        self.pool = nn.MaxPool2d(pool)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.bn(self.conv(x)).relu())


class Dense(nn.Module):
    """Linear, ReLU, normalisation."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(width, out), nn.ReLU(), nn.BatchNorm1d(out))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


def dense(*sizes: int) -> list[nn.Module]:
    """Blocks from each size to the next."""
    return [Dense(width, out) for width, out in zip(sizes, sizes[1:], strict=False)]


class Plain(nn.Module):
    """audio (B, W, 229, 313), text (B, W, 768) -> probabilities (B, 7), arousal and valence (B,).

    `frames` of a spectrogram: fewer in tests.
    """

    def __init__(
        self,
        hidden: int = constants.HIDDEN_SIZE,
        ws: int = constants.WINDOW,
        text_dim: int = constants.TEXT_DIM,
        frames: int = FRAMES,
    ) -> None:
        super().__init__()
        blocks, channels, height = [], ws, constants.N_MELS
        for out, kernel, pool in (*CONVOLUTIONS, (ws, 7, 2)):
            blocks.append(Convolution(channels, out, kernel, pool))
            channels = out
            height, frames = ((size - kernel + 1) // pool for size in (height, frames))
        self.audio_embedding = nn.Sequential(*blocks)
        self.lstm = nn.LSTM(height * frames + text_dim, hidden, 4, batch_first=True)  # 816 + 768
        self.mlp_emotion = nn.Sequential(*dense(ws * hidden, 2048, 512, 256, 64), nn.Linear(64, 7))
        self.mlp_av = nn.Sequential(*dense(ws * hidden, 2048, 1024, 512))
        self.mlp_arousal = nn.Sequential(*dense(519, 128, 32), nn.Linear(32, 1))
        self.mlp_valence = nn.Sequential(*dense(519, 128, 32), nn.Linear(32, 1))

    def forward(self, audio: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        heard = self.audio_embedding(audio).flatten(2)
        sequence, _ = self.lstm(torch.cat([heard, text], dim=2))
        window = sequence.flatten(1)
        emotion = self.mlp_emotion(window).softmax(dim=1)
        affect = torch.cat([self.mlp_av(window), emotion], dim=1)
        arousal = 4 * self.mlp_arousal(affect).sigmoid() + 1
        valence = 4 * self.mlp_valence(affect).sigmoid() + 1
        return emotion, arousal[:, 0], valence[:, 0]


CONFIGURATION = {  # what configuration.json of 2022 said of this model
    "backbone": "lstm",
    "hidden_size": constants.HIDDEN_SIZE,
    "text_dim": constants.TEXT_DIM,
    "bidirectional": False,
    "ws": constants.WINDOW,
    "SorL": "speaker",
    "test_split": "[1,2,3,4]",
}

# --- training and testing ------------------------------------------------------------------------


def adam(model: nn.Module) -> torch.optim.Adam:
    """As torch makes it by default."""
    return torch.optim.Adam(
        model.parameters(), lr=constants.LEARNING_RATE, weight_decay=constants.WEIGHT_DECAY
    )


def train_step(
    model: Plain, optimizer: torch.optim.Optimizer, batch: dict, lam: float = constants.LAMBDA
) -> dict[str, float]:
    """One step; every loss as a number."""
    optimizer.zero_grad()
    emotion, arousal, valence = model(batch["audio"], batch["text"])
    parts = (
        F.kl_div(emotion.log(), batch["emotion"], reduction="batchmean"),
        F.mse_loss(arousal, batch["arousal"]),
        F.mse_loss(valence, batch["valence"]),
    )
    loss = lam * parts[0] + (1 - lam) * parts[1] + (1 - lam) * parts[2]
    loss.backward()
    optimizer.step()
    return {name: value.item() for name, value in zip(LOSSES, (loss, *parts), strict=True)}


@torch.no_grad()
def predict(model: Plain, batches: DataLoader, device: str = "cpu") -> np.ndarray:
    """(N, 9): seven probabilities, arousal, valence of every window."""
    model.eval()
    found = []
    for batch in batches:
        emotion, *scales = model(batch["audio"].to(device), batch["text"].to(device))
        found.append(torch.cat([emotion, torch.stack(scales, dim=1)], dim=1).cpu().numpy())
    return np.concatenate(found)
