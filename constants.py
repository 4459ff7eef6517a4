"""Names and numbers that several rooms need, with their unit and where they come from.

Labels, rates and scales are facts of the corpora; the hyper-parameters at the end are defaults of
the command line (`python main.py --help` prints them). What one plugin alone needs stands in it.
"""

from typing import NamedTuple

# --- labels -------------------------------------------------------------------------------

# The order of the 2022 system, used everywhere: in columns, files, heads and pictures.
EMOTIONS = ("disgust", "angry", "sad", "fear", "surprise", "neutral", "happy")
KOREAN = {
    "disgust": "혐오",
    "angry": "분노",
    "sad": "슬픔",
    "fear": "공포",
    "surprise": "놀람",
    "neutral": "중립",
    "happy": "기쁨",
}
RATERS = 10  # people who rated each utterance (KEMDy19, KEMDy20)
SCALE = (1.0, 5.0)  # arousal: 1 calm .. 5 excited; valence: 1 negative .. 5 positive
ROLES = ("speaker", "listener")  # whose emotion: of the one who talks, or of the partner


class Head(NamedTuple):
    """One thing a model predicts: how many numbers, and what kind they are."""

    size: int
    kind: str  # "distribution": log-probabilities; "scale": in SCALE; "event": a logit a step


HEADS = {
    "emotion": Head(len(EMOTIONS), "distribution"),
    "arousal": Head(1, "scale"),
    "valence": Head(1, "scale"),
}

SCALES = tuple(name for name, head in HEADS.items() if head.kind == "scale")  # arousal, valence

EVENTS = {"highlight": Head(1, "event")}  # of each second of a video, in place of HEADS

# --- sound --------------------------------------------------------------------------------

SAMPLE_RATE = 16_000  # Hz, KEMDy19 and KEMDy20 as delivered
CLIP_SECONDS = 10  # the model hears this much of an utterance
N_FFT = 2048  # samples: 128 ms
HOP = 512  # samples: 32 ms
N_MELS = 229
F_MIN, F_MAX = 30.0, 8000.0  # Hz
AMIN = 1e-10  # power floor of the decibel scale: 10 log10(1e-10) = -100 dB
FLOOR_DB = -100.0
STANDARDISE_EPS = 1e-5  # added to the variance of a log-mel block

# --- text ---------------------------------------------------------------------------------

TEXT_ENCODER = "skt/kobert-base-v1"  # any BERT-like hub id or folder; or "char-ngram"
TEXT_VECTORS = "embedding_768.npy"  # taken instead where it lies in the corpus folder (2022)
TEXT_DIM = 768  # numbers in a sentence vector (KoBERT's hidden size)

SPEECH_ENCODER = "kresnik/wav2vec2-large-xlsr-korean"  # any wav2vec2, HuBERT, WavLM id or folder

VISION_ENCODER = "google/vit-base-patch16-224-in21k"  # any ViT id or folder; or "colour-motion"

# --- data ---------------------------------------------------------------------------------

DATA = "data/KEMDy19"
TABLES = "raw"  # the annotation files; "2022": the df_speaker.csv, df_listener.csv of that year
PREPARED = "data/prepared"  # tables and features are written here, never beside the corpus
MAX_BAD = 0.05  # share of rows that may be quarantined before preparing stops

# --- hyper-parameters (the 2022 system's, unless a source is named) -------------------------

MODEL = "mate"  # a file of models/; what a 2022 folder holds, too
SOR_L = "speaker"
TEST_SPLIT = (1, 2, 3, 4)  # sessions
WINDOW = 8  # utterances of one dialogue; the last one is judged
LAMBDA = 0.66  # weight of the emotion loss; arousal and valence get 1 - LAMBDA each
BETA = 0.99  # class-balanced loss, Cui et al. 2019
LOSS = "normal"
CB_COUNTS = "legacy"  # of the class-balanced loss: counts divided by the smallest, as in 2022
TARGET = "votes"  # of the emotion head: the shares of the raters
EPOCHS = 50
BATCH_SIZE = 64  # windows, over all processes together
OPTIMIZER = "adam"
LEARNING_RATE = 1e-3
LR_DECAY = 0.7  # factor applied to the learning rate at 1/3 and at 1/2 of the epochs
SCHEDULE = "step"  # of the learning rate: LR_DECAY twice
WARMUP = 0.0  # share of the steps in which the rate rises from 0
CLIP = 0.0  # largest norm of the gradients; 0: any
WEIGHT_DECAY = 1e-5
MODALITY_DROPOUT = 0.0  # share of training windows that lose one whole modality
MAX_TOKENS = 0  # largest batch in steps of ragged features; 0: any
PRECISION = "auto"  # of training: bf16 where the processor computes in it
BN = "recomputed"  # what BatchNorm tests with: averages over the training windows
SELECT = "macro_f1"  # what the epoch is chosen by, where there are validation sessions
BACKBONE = "lstm"
HIDDEN_SIZE = 512
SEED = 42
SAVE_PATH = "./exp"
SAVE_MINUTES = 10.0  # what a kill can cost at most; an epoch's end is always kept
TIE_POLICIES = ("drop", "first", "any", "soft")  # of rows with several modal labels
TIES = "drop"  # which test rows count in the emotion scores; docs/en/05_scores_and_leakage.md

# --- evidence -------------------------------------------------------------------------------

BOOTSTRAP = 2000  # resamples of whole dialogues
CONFIDENCE = 0.95
