#!/usr/bin/env python3
"""mk_mel_fixtures.py > tests/golden/mel.txt - log-mel values of the published feature extractors for the sound that signal() of
tests/unit/test_sound.c makes. Needs numpy, torch and transformers without torchaudio, whose fbank ASTFeatureExtractor then computes itself, in
float64. Each line: KIND BINS FRAMES CENTRE MEAN STD FRAME, then one value per bin."""
import sys
import numpy as np, torch, transformers
from transformers import ASTFeatureExtractor, WhisperFeatureExtractor
from transformers.utils import is_speech_available

def signal(n):
    x, p, step, noise = np.empty(n, np.float32), 0, 1 << 20, 1
    for i in range(n):
        p, step, noise = (p + step) & 0xFFFFFFFF, step + 12000, (noise * 1664525 + 1013904223) & 0xFFFFFFFF
        saw, hiss = (p >> 16) - 32768, (noise >> 22) - 512
        x[i] = (saw // 4 * (i // 3000 % 3) + hiss) / 32768
    return x

assert not is_speech_available(), "torchaudio is installed"
x = signal(24000)
print("# transformers %s, torch %s, numpy %s" % (transformers.__version__, torch.__version__, np.__version__))
def lines(head, m, frames):
    for f in frames: print(head, f, *("%.5f" % v for v in m[:, f]))
padded = np.pad(x.astype(np.float64), (0, 480000 - len(x)))[None]
for bins in (80, 128):
    m = WhisperFeatureExtractor(feature_size=bins)._np_extract_fbank_features(padded, "cpu")[0]
    lines("whisper %d 3000 0 0 0" % bins, m, (0, 1, 100, 151))
    m = WhisperFeatureExtractor(feature_size=bins)._np_extract_fbank_features(x[None].astype(np.float64), "cpu")[0]
    lines("whisper %d 150 0 0 0" % bins, m, (149,))
def kaldi(v, frames, mean, std): return ASTFeatureExtractor(max_length=frames, mean=mean, std=std)(v, sampling_rate=16000, return_tensors="np").input_values[0].T
lines("kaldi 128 1024 0 -4.2677393 9.1379948", kaldi(x, 1024, -4.2677393, 4.5689974), (0, 60, 147, 148))
lines("kaldi 128 204 1 -4.268 9.138", kaldi((x - x.mean(dtype=np.float64)).astype(np.float32), 204, -4.268, 4.569), (0, 147, 203))
