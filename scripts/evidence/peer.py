#!/usr/bin/env python3
"""The question of 11-response-time as Python programs answer it: tokenizers and onnxruntime make the vector, numpy or faiss find the ten best of stored ones.
usage: peer.py QUESTION ONNX TOKENIZER_JSON INDEX      11-response-time -p 'python3 peer.py ...' runs it beside mm
INDEX: a file of float32 vectors .npy, mapped (numpy), or one of faiss, mapped where it can be. ONNX takes ids and mask, and gives vectors of length 1."""
import sys
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

question, onnx, tokenizer, index = sys.argv[1:]
e = Tokenizer.from_file(tokenizer).encode(question)
n = sum(e.attention_mask)
v = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"]).run(None, {"ids": np.array([e.ids[:n]]), "mask": np.ones((1, n), np.int64)})[0][0]
if index.endswith(".npy"):
    scores = np.load(index, mmap_mode="r") @ v
    best = np.argpartition(scores, -10)[-10:]
    best = best[np.argsort(-scores[best])]
else:
    import faiss
    best = faiss.read_index(index, faiss.IO_FLAG_MMAP).search(v[None], 10)[1][0]
print(*best)
