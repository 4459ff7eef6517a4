"""How AI Hub 263 lies on disk: tables, wavs in folders and zips.

Reading is in corpora/aihub_emotion.py, laying a synthetic one down in synthetic/aihub_emotion.py.
"""

import re
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path

from corpora import preparation
from corpora.preparation import columns
from utils import UserError

RELEASES = ("4차년도", "5차년도", "5차년도_2차")
HEADER = (
    "wav_id,발화문,상황,1번 감정,1번 감정세기,2번 감정,2번 감정세기,3번 감정,3번 감정세기,"
    "4번 감정,4번감정세기,5번 감정,5번 감정세기,나이,성별".split(","),
)  # one line of 15 columns, one of them without its space
ID, WORDS, SITUATION, AGE, GENDER = 0, 1, 2, 13, 14  # columns; between, label and intensity by five
BAD = frozenset({"5e2979c25807b852d9e018d5"})  # rows of 4차년도 that readers skip
# Where the wavs of a release are looked for, the first that has one is taken; {} is its name.
OWN = ("{}/*.wav", "{}_wav/*.wav", "{}/{}_wav/*.wav")
SHARED = "wav/*.wav"
LARGEST = 64 << 20  # bytes of a wav in a zip: 11 minutes at 48 kHz
PACKED = 100  # times smaller than the wav, at most: speech shrinks to a half
SPARE = 1 << 20  # bytes that may be packed smaller than that: ten seconds of silence
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # unpacked in little memory

_ID = re.compile(r"[0-9a-f]{24}")


def is_id(name: str) -> bool:
    """Is it 24 hexadecimal digits?

    >>> is_id("5e2979c25807b852d9e018d5"), is_id("5E2979C25807B852D9E018D5"), is_id("../x")
    (True, False, False)
    """
    return bool(_ID.fullmatch(name))


def tables(folder: Path) -> dict[str, preparation.File]:
    """{release: file} of the tables there are, beside the wavs or in annotation/."""
    found = preparation.find_files(folder, "annotation/*.csv") | preparation.find_files(
        folder, "*.csv"
    )
    return {
        release: found[path]
        for release in RELEASES
        for path in (f"annotation/{release}.csv", f"{release}.csv")
        if path in found
    }


def archives(folder: Path, releases: Iterable[str]) -> dict[str, preparation.File]:
    """{release: zip} of those that have one."""
    found = preparation.find_files(folder, "*.zip")
    return {name: found[f"{name}.zip"] for name in releases if f"{name}.zip" in found}


def there(folder: Path) -> dict[str, Path]:
    """`tables` to be opened; a UserError where there is none, or one must not be opened."""
    found = tables(folder)
    if not found:
        names = ", ".join(f"{release}.csv" for release in RELEASES)
        raise UserError(f"{folder} needs one of {names}, beside its wavs or in annotation/")
    return {release: preparation.allowed(folder, file) for release, file in found.items()}


def recordings(folder: Path, releases: Iterable[str]) -> dict[str, dict[str, preparation.File]]:
    """{release: {wav id: file}}; those of wav/ as release "". A UserError where there is none.

    Of a wav that is in a folder and in the zip of its release, the file in the folder is taken.
    """
    packed = {name: members(folder, file) for name, file in archives(folder, releases).items()}
    found = {name: packed.get(name, {}) | files for name, files in loose(folder, releases).items()}
    if not any(found.values()):
        names = ", ".join(f"{release}.zip" for release in releases)
        raise UserError(
            f"{folder} needs wavs in {names}, or in a folder of that name, or in wav/; "
            f"there are none"
        )
    return found


def loose(folder: Path, releases: Iterable[str]) -> dict[str, dict[str, preparation.File]]:
    """`recordings` that are in no zip."""
    found = {name: {} for name in ("", *releases)}
    for name in releases:
        for place in OWN:
            found[name] = _wavs(folder, place.replace("{}", name)) | found[name]
    return found | {"": _wavs(folder, SHARED)}


def _wavs(folder: Path, pattern: str) -> dict[str, preparation.File]:
    found = preparation.find_files(folder, pattern).items()
    named = {path.rpartition("/")[2].removesuffix(".wav"): file for path, file in found}
    return {name: file for name, file in named.items() if is_id(name)}


def members(folder: Path, file: preparation.File) -> dict[str, preparation.File]:
    """{wav id: file} of a zip, as utils.read_bytes finds them: a.zip/a_wav/<id>.wav.

    Nothing is unpacked. What must not be (too large, encrypted, at a path that leads elsewhere) is
    bad. Raises UserError for what is no zip.
    """
    path = preparation.allowed(folder, file)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [archive.getinfo(name) for name in dict.fromkeys(archive.namelist())]
    except (
        OSError,
        ValueError,
        EOFError,
        struct.error,
        NotImplementedError,
        zipfile.BadZipFile,
    ) as error:
        reason = columns.printable(str(error) or type(error).__name__)
        raise UserError(f"{path} should be a zip of wavs; {reason}") from error
    found: dict[str, preparation.File] = {}
    for entry in entries:
        stem, dot, ending = entry.filename.rpartition("/")[2].rpartition(".")
        if is_id(stem) and ending == "wav":
            member = preparation.File(f"{file.path}/{entry.filename}", _fault(entry))
            found.setdefault(stem, member)
    return found


def _fault(entry: zipfile.ZipInfo) -> str:
    """Why a member of a zip must not be unpacked."""
    parts = entry.filename.split("/")
    if not all(
        part.isprintable() and part.strip(". ") and not {*part} & {*"\\:"} for part in parts
    ):
        return preparation.OUTSIDE
    if entry.flag_bits & 1:
        return "encrypted in its zip"
    if entry.compress_type not in PACKINGS:
        return "packed in another way than deflate"
    if entry.file_size > min(LARGEST, SPARE + PACKED * entry.compress_size):
        return "too large in its zip"
    return ""


# --- laying down a synthetic corpus --------------------------------------------------------------
