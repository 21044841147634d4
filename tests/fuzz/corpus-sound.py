#!/usr/bin/env python3
"""corpus-sound.py - makes the stored inputs of fuzz_sound anew, in corpus/fuzz_sound beside this file. Needs nothing but Python."""
import math, os, shutil, struct

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "fuzz_sound")
shutil.rmtree(here, ignore_errors=True)
os.makedirs(here)

def put(name, data):
    with open(os.path.join(here, name), "wb") as f: f.write(data)

def tone(n, rate): return [0.5 * math.sin(2 * math.pi * 440 * i / rate) for i in range(n)]

def pcm(x, bits, big=False):
    if bits == 8: return bytes(int(v * 127) + 128 for v in x)
    return b"".join(int(v * (2 ** (bits - 1) - 1)).to_bytes(bits // 8, "big" if big else "little", signed=True) for v in x)

def chunk(name, data, size=None, big=False):
    return name + struct.pack(">I" if big else "<I", len(data) if size is None else size) + data + b"\0" * (len(data) & 1)

def wav(data, format=1, channels=1, rate=16000, bits=16, extra=b"", before=b"", size=None, head=b"RIFF", riff=None, big=False, align=0):
    o = ">" if big else "<"
    fmt = struct.pack(o + "HHIIHH", format, channels, rate & 0xFFFFFFFF, rate * channels * bits // 8 & 0xFFFFFFFF, align or channels * bits // 8 & 0xFFFF, bits)
    body = b"WAVE" + before + chunk(b"fmt ", fmt + extra, big=big) + chunk(b"data", data, size, big)
    return chunk(head, body, riff, big)

x = tone(60, 16000)
f32 = struct.pack("<60f", *x)
for bits in (8, 16, 24, 32): put("s%d.wav" % bits, wav(pcm(x, bits), bits=bits))
put("f32.wav", wav(f32, format=3, bits=32))
put("f64.wav", wav(struct.pack("<60d", *x), format=3, bits=64))
put("nan.wav", wav(struct.pack("<4f", math.nan, math.inf, -math.inf, 3e38), format=3, bits=32))
put("mulaw.wav", wav(bytes(range(256)), format=7, rate=8000, bits=8))
put("alaw.wav", wav(bytes(range(256)), format=6, rate=8000, bits=8, extra=b"\0\0"))
put("extensible.wav", wav(pcm(x, 24), format=0xFFFE, channels=2, bits=24, rate=44100, extra=struct.pack("<HHIHH12s", 22, 24, 3, 1, 0, bytes.fromhex("00001000800000aa00389b71"))))
put("odd.wav", wav(pcm(x, 16), before=chunk(b"LIST", b"INFOx"), rate=22050))
put("adpcm-ima.wav", wav(bytes(range(36)), format=17, bits=4, rate=8000, align=36, extra=struct.pack("<HH", 2, 65)))
put("adpcm-ms.wav", wav(bytes(64), format=2, bits=4, rate=8000, align=64, extra=struct.pack("<HHH14h", 32, 116, 7, 256, 0, 512, -256, 0, 0, 192, 64, 240, 0, 460, -208, 392, -232)))
for size in (0, 0x7FFFF048, 0xFFFFFFFF, 1000): put("size-%x.wav" % size, wav(pcm(x, 16), size=size, riff=size))
put("big-endian.wav", wav(pcm(x, 16, True), head=b"RIFX", big=True))
put("rate-0.wav", wav(pcm(x, 16), rate=0))
put("rate-huge.wav", wav(pcm(x, 16), rate=0xFFFFFFFF))
put("rate-odd.wav", wav(pcm(x, 16), rate=44099))
put("channels-0.wav", wav(pcm(x, 16), channels=0))
put("channels-huge.wav", wav(pcm(x, 16), channels=4096))
put("channels-7.wav", wav(pcm(x, 16), channels=7, rate=96000))
put("long.wav", wav(bytes(3000), bits=8, rate=1000))
put("header.wav", wav(pcm(x, 16))[:44])
put("cut.wav", wav(pcm(x, 16))[:71])
put("no-data.wav", chunk(b"RIFF", b"WAVE" + chunk(b"LIST", b"INFO")))
put("rf64.wav", chunk(b"RF64", b"WAVE" + chunk(b"ds64", struct.pack("<QQQI", 200, 120, 60, 0)) + chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16)) + chunk(b"data", pcm(x, 16), 0xFFFFFFFF), 0xFFFFFFFF))
put("a.aiff", chunk(b"FORM", b"AIFF" + chunk(b"COMM", struct.pack(">hIh", 1, 60, 16) + bytes.fromhex("400cfa00000000000000"), big=True) + chunk(b"SSND", bytes(8) + pcm(x, 16, True), big=True), big=True))
put("a.au", struct.pack(">4sIIIII", b".snd", 24, 60, 1, 8000, 1) + bytes(range(60)))
put("pipe.au", struct.pack(">4sIIIII", b".snd", 24, 0xFFFFFFFF, 3, 11025, 2) + pcm(x, 16, True))
put("a.caf", b"caff\0\1\0\0" + b"desc" + struct.pack(">Qd4sIIIII", 32, 16000.0, b"lpcm", 0, 2, 1, 1, 16) + b"data" + struct.pack(">QI", 124, 0) + pcm(x, 16, True))
put("text", "nicht jeder Text, der wie Ton heißt, ist Ton\n".encode())
put("empty", b"")
