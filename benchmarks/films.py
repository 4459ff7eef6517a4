"""How fast the features of a video are extracted, and what an hour of it costs in memory.

    PYTHONPATH=. python benchmarks/films.py                    1 min of 640 x 360: about a minute
    PYTHONPATH=. python benchmarks/films.py --hour exp/RUN     `highlight` on 1 h of 720p

Moving shapes and a tone, made on the spot; the hour is a minute sixty times over. The ViT is tiny
(benchmarks/tiny_vit.py) and sees pictures of 224 pixels. RUN: a finished highlight run.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pandas as pd

import utils
from benchmarks import measure, tiny_vit
from media import video

SECONDS, RATE, FPS = 60, 44_100, 25
PAUSE = 0.2  # s: the last frame of sound ends behind the minute
EXTRACTED = ("frames", "mfcc_second")


def write(path: Path, width: int, height: int) -> None:
    """A minute of a moving square over a moving slope, and a tone that rises and falls."""
    with av.open(str(path), "w") as file:
        picture = file.add_stream("libx264", rate=FPS, options={"preset": "veryfast"})
        picture.width, picture.height, picture.pix_fmt = width, height, "yuv420p"
        sound = file.add_stream("aac", rate=RATE, layout="mono")
        slope = np.add.outer(np.arange(height), np.arange(width)).astype(np.uint8)
        for n in range(SECONDS * FPS):
            image = np.repeat((slope + np.uint8(n % 256))[..., None], 3, 2)
            at = (7 * n) % (width - 60)
            image[height // 3 : height // 3 + 60, at : at + 60] = (255, 80, n % 256)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, FPS)
            file.mux(picture.encode(frame))
        times = np.arange(SECONDS * RATE) / RATE
        wave = (0.2 * np.sin(2 * np.pi * (300 + 100 * np.sin(times)) * times)).astype(np.float32)
        for start in range(0, len(wave), 1024):
            frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
            file.mux(sound.encode(frame))
        file.mux(picture.encode(None))
        file.mux(sound.encode(None))


def repeat(path: Path, out: Path, times: int) -> None:
    """The same packets again and again, a minute and PAUSE later each time."""
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        tracks = {
            stream.index: target.add_stream_from_template(stream) for stream in source.streams
        }
        packets = [packet for packet in source.demux() if packet.dts is not None]
        for n in range(times):
            for packet in packets:
                stream = packet.stream
                shift = round(n * (SECONDS + PAUSE) / stream.time_base)
                again = av.Packet(bytes(packet))
                again.stream, again.time_base = tracks[stream.index], stream.time_base
                again.pts, again.dts = packet.pts + shift, packet.dts + shift
                again.duration, again.is_keyframe = packet.duration, packet.is_keyframe
                target.mux(again)


def extraction(folder: Path) -> None:
    """Both features of a minute, in x real time."""
    path, encoder = folder / "minute.mp4", folder / "vit"
    write(path, 640, 360)
    tiny_vit.write(encoder, image=224)
    rows = list(pd.DataFrame({"start": np.arange(SECONDS, dtype=float)}).itertuples())
    settings, total = SimpleNamespace(vision_encoder=str(encoder), sr=16_000), 0.0
    for name in EXTRACTED:
        leaf = utils.leaf("features", name)
        extractor = leaf.Extractor(leaf.parameters(settings))
        extractor(path, rows[:2])  # loads what it needs
        start = time.perf_counter()
        extractor(path, rows)
        seconds = time.perf_counter() - start
        total += seconds
        print(f"{name}: {SECONDS / seconds:.1f} x real time")
    print(f"both, one after the other: {SECONDS / total:.1f} x real time (bar: 5 x)")


def hour(folder: Path, run: Path) -> None:
    """The subcommand on an hour of 720p: seconds, and the peak of its memory."""
    minute, path, clip = folder / "minute720.mp4", folder / "hour.mp4", folder / "clip.mp4"
    write(minute, 1280, 720)
    repeat(minute, path, 60)
    print(f"made: {video.probe(path).seconds:.0f} s, {path.stat().st_size >> 20} MB")
    start = time.perf_counter()
    words = [
        "main.py",
        "highlight",
        str(path),
        "--run",
        run.name,
        "--save_path",
        str(run.parent),
        "--out",
        str(clip),
        "--gpu_id",
        "-1",
    ]
    child = subprocess.Popen([sys.executable, *words], cwd=utils.ROOT, stderr=subprocess.DEVNULL)
    peaks = [0]
    watcher = threading.Thread(target=_watch, args=(child, peaks))
    watcher.start()
    code = child.wait()
    watcher.join()
    print(
        f"highlight of an hour: exit code {code}, {time.perf_counter() - start:.0f} s, peak "
        f"{max(peaks) / 1024:.0f} MB (bar: 2,048)"
    )


def _watch(child: subprocess.Popen, peaks: list[int]) -> None:
    """kB of VmHWM, as the system counts them for that process alone."""
    status = Path(f"/proc/{child.pid}/status")
    while child.poll() is None:
        try:
            lines = status.read_text().splitlines()
        except OSError:
            return
        peaks += [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
        time.sleep(0.5)


def main() -> int:
    """Exit code 0."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hour", type=Path, metavar="RUN")
    options = parser.parse_args()
    print(measure.machine())
    with tempfile.TemporaryDirectory() as folder:
        if options.hour:
            hour(Path(folder), options.hour)
        else:
            extraction(Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
