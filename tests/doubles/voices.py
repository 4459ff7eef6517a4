"""Recordings of synthetic voices, and what is predicted of them."""

import numpy as np
import pandas as pd
import soundfile

import constants

LINES = ["오늘 정말 기쁘다", "왜 그러세요", "아무 일도 없어요", "무서워서 못 가겠어", "그래 알았어"]


NUMBERS = [*constants.EMOTIONS, "arousal", "valence"]


def voices(folder, count=5, seed=0, text=True):
    """`count` recordings of half a second to two, each of other noise, with a line."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed)
    for i in range(count):
        length = round(16_000 * noise.uniform(0.5, 2.0))
        wave = np.cumsum(noise.normal(0, 0.02, length)) * 0.1 * noise.uniform(0.2, 1)
        soundfile.write(folder / f"{i}.wav", wave.clip(-1, 1), 16_000)
        if text:
            (folder / f"{i}.txt").write_text(LINES[i % len(LINES)], encoding="utf-8")
    return folder


def said(judge, rows, first=0):
    return pd.concat([table for table, _ in judge.stream(rows, first)], ignore_index=True)
