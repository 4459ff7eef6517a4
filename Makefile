# make demo   a synthetic corpus, a small training run, its score table
# make test   the whole suite, and which way imports run (tach.toml)
# make lint   ruff mends and formats; tach checks
# make ensembles   text, audio and cross-modal models on that corpus, and four ways to combine them
# make emo_ensemble        two wav2vec2 and three KoBERT on two synthetic corpora, their weighted vote
# make emotion_short_form  highlights of synthetic videos: from sound, from pictures, from both; a clip
# All make .venv by themselves; PYTHON=python3.12 make demo takes another Python (3.11 or newer).

PYTHON ?= python3
PY := .venv/bin/python
CORE := .venv/.core-$(shell cat requirements.txt requirements/constraints.txt | cksum | cut -d' ' -f1)
DEV := .venv/.dev-$(shell cat requirements.txt requirements/*.txt | cksum | cut -d' ' -f1)
# a virtual environment that was moved, half built or made by a Python that is gone does not start
$(shell $(PY) -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || rm -rf .venv)

.PHONY: demo test lint ensembles emo_ensemble emotion_short_form
demo: $(CORE)
	$(PY) main.py @exp/demo.txt

ensembles: $(CORE)
	PYTHONPATH=. $(PY) benchmarks/tiny_bert.py data/tiny_bert --data sample
	$(PY) main.py @exp/ensembles/text.txt --save_name text
	$(PY) main.py @exp/ensembles/audio.txt --save_name audio
	$(PY) main.py @exp/ensembles/cmbert.txt --save_name cmbert
	$(PY) main.py ensemble text audio cmbert --method soft
	$(PY) main.py ensemble text audio cmbert --method hard --weights decision_fusion
	$(PY) main.py ensemble text audio cmbert --method weighted --oof 4
	$(PY) main.py ensemble text audio cmbert --method stack --oof 4

TALK := kemdy20:data/sample_kemdy20
CALLS := aihub_emotion:data/sample_aihub_emotion
emo_ensemble: $(CORE)
	$(PY) main.py prepare sample --layout kemdy20
	$(PY) main.py prepare sample --layout aihub_emotion
	$(PY) main.py prepare --data $(TALK) --train_extra $(CALLS) --labels situation --plot
	PYTHONPATH=. $(PY) benchmarks/tiny_bert.py data/tiny_bert_talk --data $(TALK)
	PYTHONPATH=. $(PY) benchmarks/tiny_wav2vec2.py data/tiny_wav2vec2
	$(PY) main.py sweep exp/tables/emo_ensemble.txt --data $(TALK) --train_extra $(CALLS) \
	  --text_encoder data/tiny_bert_talk --speech_encoder data/tiny_wav2vec2 \
	  --lr 1e-3 --warmup 0.1 --epochs 6 --batch_size 16
	$(PY) main.py ensemble $$(ls -td exp/sweep_emo_ensemble_* | head -1) --method weighted --weights emo_ensemble

FILMS := aihub_highlight:data/sample_aihub_highlight
SEEN := --vision_encoder colour-motion
emotion_short_form: $(DEV)
	$(PY) main.py prepare sample --layout kemdy20
	$(PY) main.py prepare sample --layout aihub_highlight
	$(PY) main.py --model lstm_audio --data $(TALK) --test_split 33 34 35 36 37 38 39 40 \
	  --balance oversample --epochs 8 --save_name felt
	$(PY) main.py sweep exp/tables/emotion_short_form.txt --data $(FILMS) $(SEEN) --emotion_run exp/felt
	$(PY) main.py --model highlight --data $(FILMS) $(SEEN) --emotion_run exp/felt \
	  --test_split 1 2 3 4 --val_split 5 6 7 8 --select ap --save_name highlight
	PYTHONPATH=. $(PY) benchmarks/planted.py exp/highlight
	$(PY) main.py highlight "$$(find data/sample_aihub_highlight -name '*.mp4' | sort | head -1)" \
	  --run highlight --out data/clip.mp4 --timeline

test: $(DEV)
	$(PY) -m ruff check . && $(PY) -m ruff format --check .
	$(PY) -m tach check  # which way imports run: tach.toml
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(PY) -m pytest -n auto --dist loadfile  # small tensors: threads only wait

lint: $(DEV)
	$(PY) -m ruff check --fix . && $(PY) -m ruff format .
	$(PY) -m tach check

$(CORE): | .venv
	$(PY) -m pip install -q --disable-pip-version-check -r requirements.txt -c requirements/constraints.txt
	@rm -f .venv/.core-* && touch $@

$(DEV): | .venv
	$(PY) -m pip install -q --disable-pip-version-check -r requirements/dev.txt -c requirements/constraints.txt
	@rm -f .venv/.dev-* .venv/.core-* && touch $@ $(CORE)

.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V 2>&1); try PYTHON=python3.11 make ..."; exit 2; }
	$(PYTHON) -m venv .venv
