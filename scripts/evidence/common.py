"""What the measurements of this folder share: manifests, the filters, ranks, intervals. The standard library is enough."""
import argparse, array, base64, gzip, json, os, random, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
os.environ["PATH"] = os.environ["PATH"] + os.pathsep + os.path.join(HERE, "..", "..", "build", "bin")


def arguments(doc, **more):
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("data", help="folder of data sets: SET/manifest.jsonl")
    p.add_argument("-m", "--model", help="model, as mm-embed takes it (default: mm-embed's)")
    p.add_argument("--seed", type=int, default=1, help="of samples, noise and resamples (default 1)")
    p.add_argument("--table", action="store_true", help="a table on standard error as well")
    for name, (default, text) in more.items():
        p.add_argument("--" + name.replace("_", "-"), type=type(default), default=default, help=f"{text} (default {default})")
    return p.parse_args()


def manifest(data, name):
    path = os.path.join(data, name, "manifest.jsonl")
    opened = open(path, encoding="utf-8") if os.path.exists(path) else gzip.open(path + ".gz", "rt", encoding="utf-8")
    with opened as f:
        return [json.loads(line) for line in f]


def filter_out(command, records, work, name):
    """Records through a filter into work/name. A record that fails says so itself."""
    path = os.path.join(work, name)
    with open(path + ".in", "w", encoding="utf-8") as f:
        f.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
    r = subprocess.run(command + ["-q", "-o", path, path + ".in"], stderr=subprocess.PIPE)
    if r.returncode > 1:
        sys.stderr.buffer.write(r.stderr)
        sys.exit(r.returncode)
    return path


def embed(args, records, work, name, *options):
    return filter_out(["mm-embed", "--encoding", "base64"] + (["-m", args.model] if args.model else []) + list(options), records, work, name)


def read(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def vector(record):
    return array.array("f", base64.b64decode(record["embedding"]))


def measured(metric, gallery, queries, work, key="key"):
    """What mm-eval measures of every query, in their order."""
    out = os.path.join(work, "each.jsonl")
    command = ["mm-eval", *metric, "--key", key, "--resamples", "10", "--per-query", out, gallery, queries]
    r = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
    if r > 1:
        sys.exit(r)
    return read(out)


def mean(x):
    x = list(x)
    return sum(x) / len(x)


def estimate(groups, seed, resamples=1000):
    """The mean of all numbers and 95 % of its resamples; groups are lists of numbers that belong together."""
    rng, n = random.Random(seed), len(groups)
    sums = [(sum(g), len(g)) for g in groups]
    means = []
    for _ in range(resamples):
        drawn = rng.choices(sums, k=n)
        means.append(sum(s for s, _ in drawn) / sum(k for _, k in drawn))
    means.sort()
    return {"value": round(sum(s for s, _ in sums) / sum(k for _, k in sums), 4), "low": round(means[int(0.025 * resamples)], 4), "high": round(means[int(0.975 * resamples) - 1], 4)}


def ranks(x):
    order = sorted(range(len(x)), key=x.__getitem__)
    r, i = [0.0] * len(x), 0
    while i < len(order):
        j = i
        while j + 1 < len(order) and x[order[j + 1]] == x[order[i]]:
            j += 1
        for k in range(i, j + 1):
            r[order[k]] = (i + j) / 2
        i = j + 1
    return r


def spearman(x, y):
    x, y = ranks(x), ranks(y)
    mx, my = mean(x), mean(y)
    a = sum((p - mx) * (q - my) for p, q in zip(x, y))
    b = (sum((p - mx) ** 2 for p in x) * sum((q - my) ** 2 for q in y)) ** 0.5
    return a / b if b else 0.0


def scratch():
    return tempfile.TemporaryDirectory(prefix="mm-evidence-")


def ppm(planes, side):
    """Three planes of bytes as a picture in a record."""
    px = bytearray(3 * side * side)
    for c in range(3):
        px[c::3] = planes[c]
    return {"b64": base64.b64encode(b"P6\n%d %d\n255\n" % (side, side) + bytes(px)).decode()}


def pixels(args, records, work):
    """The pictures of records as the model sees them: [(planes, side)], planes of bytes."""
    model = ["-m", args.model] if args.model else []
    seen = read(filter_out(["mm-embed", *model, "--emit", "inputs", "--modality", "image"], [{"id": r["id"], "image": r["image"]} for r in records], work, "seen"))
    out = []
    for r in seen:
        x, side = array.array("f", base64.b64decode(r["input"]["b64"])), r["input"]["shape"][-1]
        n = side * side
        # the unified model's pictures: (x - 0.5) / 0.25
        px = bytes(min(255, max(0, round((v * 0.25 + 0.5) * 255))) for v in x)
        out.append(([px[c * n:(c + 1) * n] for c in range(3)], side))
    return out
