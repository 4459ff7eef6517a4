"""What the page of `serve` says, in Korean and in English."""

import constants

LANGUAGES = {"ko": "한국어", "en": "English"}

WORDS = {  # key: (Korean, English)
    # the head and the foot
    "title": ("목소리와 말의 감정", "Emotion in voice and words"),
    "of_speaker": ("말하는 사람의 감정", "the emotion of the one who speaks"),
    "of_listener": ("듣는 사람의 감정", "the emotion of the one who listens"),
    "model": (
        "모델 {name} · {role} · 한 대화의 최근 발화 {ws}개를 함께 봅니다",
        "model {name} · {role} · hears the last {ws} turns of a dialogue together",
    ),
    "synthetic": (
        "합성 말뭉치로 학습한 모델: 결과가 아닙니다",
        "trained on a synthetic corpus: not a result",
    ),
    "limits": (
        "모델의 추정일 뿐입니다. 배운 것과 다른 목소리와 상황에서는 자주 틀리고, "
        "사람의 속마음이나 건강을 알려 주지 않습니다. 사람에 대한 결정에 쓰지 마세요.",
        "An estimate by a model, no more. It is often wrong about voices and situations "
        "unlike those it learned from, and does not tell what a person feels or how they "
        "are. Decide nothing about anybody by it.",
    ),
    "privacy": (
        "녹음은 이 서버에서 처리하고 늦어도 {minutes}분 뒤에 지웁니다. 계산한 값은 "
        "‘새 대화’를 누르거나 한 시간 동안 쓰지 않으면 사라집니다. 녹음 하나는 "
        "{seconds:g}초, {mb:g} MB까지, 대화 하나는 {turns}발화까지입니다.",
        "Recordings are processed on this server and deleted within {minutes} minutes. "
        "What was computed goes with “New dialogue”, or after an hour without use. A "
        "recording may have {seconds:g} s and {mb:g} MB, a dialogue {turns} turns.",
    ),
    "reachable": (
        "이 페이지는 다른 컴퓨터에서도 열 수 있습니다.",
        "This page can be opened from other computers.",
    ),
    "shared": (
        "이 페이지는 공개되어 있으며, 보내는 것은 gradio의 서버를 거칩니다.",
        "This page is public, and what is sent passes through gradio's servers.",
    ),
    # what is asked for
    "sound": ("녹음", "Recording"),
    "drop": (
        "파일을 끌어다 놓거나 눌러서 고르세요 (wav, flac, mp3, ogg)",
        "Drop a file here, or click to choose one (wav, flac, mp3, ogg)",
    ),
    "record": ("녹음 시작", "Record"),
    "stop": ("끝내기", "Stop"),
    "resume": ("이어서", "Resume"),
    "line": ("무슨 말을 했나요?", "What is said?"),
    "line_hint": ("예: 오늘 정말 고마웠어", "for example: 오늘 정말 고마웠어"),
    "speaker": ("누가 말했나요? (선택)", "Who speaks? (optional)"),
    "speaker_hint": ("예: 지민", "for example: Jimin"),
    "split": (
        "{long:g}초가 넘고 대사가 없는 녹음은 쉼에서 나누어 여러 발화로",
        "Cut a recording of more than {long:g} s without a line at its pauses, into turns",
    ),
    "add": ("발화 추가", "Add turn"),
    "undo": ("되돌리기", "Undo"),
    "new": ("새 대화", "New dialogue"),
    "why": ("왜 그렇게 봤나요?", "Why?"),
    # what is shown
    "nothing_yet": (
        "녹음을 올리거나 마이크로 녹음하고, 한 말을 적은 뒤 ‘발화 추가’를 누르세요. "
        "발화를 더할 때마다 앞의 발화를 문맥으로 함께 봅니다.",
        "Upload or record an utterance, type what is said, and press “Add turn”. Each "
        "further turn is judged with the ones before it as its context.",
    ),
    "turn": ("발화 {n}", "Turn {n}"),
    "sure": ("확신도 {p:.0%}", "confidence {p:.0%}"),
    "sure_raw": ("확신도 {p:.0%} (보정 안 함)", "confidence {p:.0%} (not calibrated)"),
    "arousal": ("각성도", "Arousal"),
    "arousal_ends": ("차분함 1|5 흥분", "calm 1|5 excited"),
    "valence": ("긍·부정도", "Valence"),
    "valence_ends": ("부정 1|5 긍정", "negative 1|5 positive"),
    "without_sound": ("소리 없이 판단", "judged without sound"),
    "without_text": ("글 없이 판단", "judged without text"),
    "plane": ("대화의 경로: 각성도와 긍·부정도", "The path of the dialogue: arousal and valence"),
    "mel": ("모델이 들은 소리: 멜 스펙트로그램", "What the model hears: mel spectrogram"),
    "timeline": ("발화별 감정, 각성도, 긍·부정도", "Emotions, arousal and valence, turn by turn"),
    "effects": (
        "무엇이 이 판단을 움직였나: 발화 {n}, {emotion}",
        "What moved it: turn {n}, {emotion}",
    ),
    "effects_scale": ("무엇이 이 판단을 움직였나: 발화 {n}", "What moved it: turn {n}"),
    "effects_how": (
        "그 부분을 가리고 다시 물었을 때 줄어드는 만큼입니다. 파란색은 그렇게 보게 한 "
        "부분, 붉은색은 그렇지 않다고 보게 한 부분입니다.",
        "How much less of it there is with that part hidden. Blue spoke for it, red against.",
    ),
    "effects_none": (
        "가려 볼 부분이 없습니다: 발화 하나를 한 가지로만 보았습니다.",
        "There is no part to hide: one turn, seen in one way alone.",
    ),
    "turns": ("대화", "Dialogue"),
    "who": ("화자", "who"),
    "said": ("말", "line"),
    "emotion": ("감정", "emotion"),
    "recording_only": ("(녹음만)", "(recording alone)"),
    "save_csv": ("표로 내려받기 (CSV)", "Download as a table (CSV)"),
    "save_jsonl": ("JSON 줄로 내려받기", "Download as JSON lines"),
    # what went wrong, what to do
    "bad": (
        "‘{name}’: {reason}. 대화는 그대로입니다.",
        "“{name}”: {reason}. The dialogue is as it was.",
    ),
    "empty": ("녹음을 올리거나 한 말을 적어 주세요.", "Give a recording, or type what is said."),
    "large": (
        "이 파일은 너무 큽니다. {mb:g} MB까지 됩니다.",
        "This file is too large: {mb:g} MB are allowed.",
    ),
    "gone": (
        "올린 녹음이 이미 지워졌습니다. 다시 올려 주세요.",
        "The recording was deleted meanwhile: please upload it again.",
    ),
    "line_long": ("대사는 {most}자까지 쓸 수 있습니다.", "A line may have {most} characters."),
    "too_many": (
        "대화 하나는 {most}발화까지입니다. 새 대화를 시작해 주세요.",
        "A dialogue may have {most} turns: please begin a new one.",
    ),
    "too_much": (
        "대화 하나에는 소리를 모두 {most:g}분까지 담습니다. 새 대화를 시작해 주세요.",
        "A dialogue may hold {most:g} minutes of sound: please begin a new one.",
    ),
    "alone_sound": (
        "이 모델은 소리만 봅니다. 소리가 있는 녹음을 주세요.",
        "This model reads sound alone: give a recording in which something is heard.",
    ),
    "alone_text": (
        "이 모델은 글만 봅니다. 한 말을 적어 주세요.",
        "This model reads text alone: type what is said.",
    ),
    "needs_sound": (
        "이 모델은 소리 없는 발화를 배운 적이 없습니다 (--modality_dropout 0). "
        "소리가 있는 녹음을 주세요.",
        "This model never saw an utterance without sound (--modality_dropout 0): give "
        "a recording in which something is heard.",
    ),
    "needs_text": (
        "이 모델은 글 없는 발화를 배운 적이 없습니다 (--modality_dropout 0). 한 말을 적어 주세요.",
        "This model never saw an utterance without text (--modality_dropout 0): type what is said.",
    ),
    "needs_who": (
        "이 모델은 소리를 화자별로 고르게 맞춥니다 (--speaker_norm). 누가 말했는지 적어 주세요.",
        "This model sets voices off against their speaker (--speaker_norm): say who speaks.",
    ),
    "forced_sound": (
        "이 모델은 소리 없는 발화를 배운 적이 없습니다. 이 답은 쓸모가 없을 수 있습니다.",
        "This model never saw an utterance without sound: what it says here may be worth nothing.",
    ),
    "forced_text": (
        "이 모델은 글 없는 발화를 배운 적이 없습니다. 이 답은 쓸모가 없을 수 있습니다.",
        "This model never saw an utterance without text: what it says here may be worth nothing.",
    ),
}

REASONS = {  # how a trouble of audit.py, recordings.py or dialogue.py begins
    "empty wav": ("빈 파일입니다", "the file is empty"),
    "truncated wav": ("파일이 중간에 끊겼습니다", "the file is cut off"),
    "not audio": ("소리 파일로 읽을 수 없습니다", "it cannot be read as a sound file"),
    "silent": ("처음부터 끝까지 소리가 없습니다", "nothing is heard in it"),
    "long": (
        "{seconds:.0f}초입니다. {most:g}초까지 됩니다",
        "it has {seconds:.0f} s, and {most:g} s are allowed",
    ),
    "dense": (
        "채널이 너무 많거나 표본율이 너무 높습니다",
        "it has too many channels, or too high a sampling rate",
    ),
    "large": ("{mb:g} MB까지 됩니다", "at most {mb:g} MB are allowed"),
    "kind": (
        "{kind} 파일은 읽지 못합니다. wav나 flac으로 바꿔 주세요",
        "{kind} files are not read; make it wav or flac first",
    ),
    "strange": (
        "소리 파일의 이름이 아닙니다 ({kinds})",
        "that is no name of a sound file ({kinds})",
    ),
}


def say(language: str, key: str, **values: object) -> str:
    """The words of `key`, in "ko" or "en"."""
    return WORDS[key][list(LANGUAGES).index(language)].format(**values)


def reason(language: str, trouble: str, **values: object) -> str:
    """Why a recording cannot be used; a trouble that has no words here as it is."""
    found = next((words for start, words in REASONS.items() if trouble.startswith(start)), None)
    return found[list(LANGUAGES).index(language)].format(**values) if found else trouble


def emotion(language: str, name: str) -> tuple[str, str]:
    """An emotion in Korean and English, the language of the page first."""
    korean = constants.KOREAN[name]
    return (korean, name) if language == "ko" else (name, korean)
