"""What the measurements of this folder share: manifests, the filters, ranks, intervals. The standard library is enough."""
import argparse, array, base64, collections, gzip, json, os, random, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
os.environ["PATH"] = os.environ["PATH"] + os.pathsep + os.path.join(HERE, "..", "..", "build", "bin")


def arguments(doc, model=True, **more):
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("data", help="folder of data sets: SET/manifest.jsonl")
    if model:
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


def tell(claim, figure, **more):
    print(json.dumps({"claim": claim} | figure | more, ensure_ascii=False))


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


# ---- runs of mm-train that differ in one thing ----


def run_arguments(doc, **more):
    """Of measurements that train: small runs, to be made longer by whoever has the time. What is in --work is not done again."""
    args = arguments(doc, model=False, pairs=("pairs.jsonl", "what scripts/data/pairs writes, or a sample of its lines"), teacher=("minilm", "whose vectors of texts are learned"),
                     cache=("", "of decoded media and the teacher's vectors; none: in --work"), work=("", "folder that keeps runs and scores; none: a temporary one"),
                     config=("tiny", "of mm-train"), steps=(200, "of each run"), batch=("text=16,image=32,audio=16,video=2", "inputs of a step"),
                     sets=("caltech101,flowers,emoji,stamps,fsdd,video_synth", "of DATA, to train and to measure on"),
                     seeds=("1,2,3", "of the runs"), threads=(1, "of each run"), **more)
    args.seeds = [int(s) for s in args.seeds.split(",")]
    args.sets = args.sets.split(",")
    if not args.work:
        args.kept = scratch()  # as long as the arguments
        args.work = args.kept.name
    os.makedirs(args.work, exist_ok=True)
    return args


def settings(args):
    return {k: getattr(args, k) for k in ("config", "sets", "steps", "batch", "seeds", "threads")} | {"pairs": os.path.basename(args.pairs)}


def train(args, name, seed, *options):
    """A run with the same learning rate all along, validated five times: {"model", "metrics": its lines, "run": mm-train's summary and its peak memory}."""
    path = os.path.join(args.work, f"{name}-{seed}")
    if not os.path.exists(path + ".json"):
        command = ["mm-train", "-q", "--config", args.config, "--distil", args.teacher, "--pairs", args.pairs, "--cache", args.cache or os.path.join(args.work, "media"),
                   "-o", path + ".gguf", "-t", "q8_0", "--steps", str(args.steps), "--batch", args.batch, "--accumulate", "1", "--lr", "1.2e-3", "--schedule", "constant",
                   "--ema", "0.98", "--validate", str(max(1, args.steps // 5)), "--metrics", path + ".metrics", "--seed", str(seed), "-j", str(args.threads), "--resume"]
        for s in args.sets:
            command += ["--data", os.path.join(args.data, s)]
        summary, peak, _ = run(command + list(options))
        with open(path + ".json", "w", encoding="utf-8") as f:
            json.dump(json.loads(summary) | {"peak_rss": peak}, f)
    return {"model": path + ".gguf", "metrics": read(path + ".metrics"), "run": read(path + ".json")[0]}


def run(command):
    """(what it says, bytes of memory at most, seconds of processors)"""
    p = subprocess.Popen(command, stdout=subprocess.PIPE)
    said = p.stdout.read()
    _, status, used = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    if p.returncode:
        sys.exit(p.returncode if p.returncode > 0 else 4)
    return said, used.ru_maxrss * 1024, used.ru_utime + used.ru_stime


def recalls(args, model, split, only=None, label="", embed=()):
    """Of each query between two modalities, by scripts/evaluate, whether the first answer is right: {task: {query: 0 or 1}}. only: sets, in place of
    those of args; label: of what is embedded otherwise, and embed: by what command in place of mm-embed."""
    kept = model.removesuffix(".gguf") + "." + split + label
    if not os.path.exists(kept + "/done"):
        command = [os.path.join(HERE, "..", "evaluate"), "-m", model, "--split", split, "--only", ",".join(only or args.sets), "--keep", kept, "--json", kept + ".json", args.data]
        if embed:
            command[1:1] = ["--embed", " ".join(embed)]
        r = subprocess.run(command, stderr=subprocess.PIPE)
        if r.returncode:
            sys.stderr.buffer.write(r.stderr)
            sys.exit(r.returncode)
        open(kept + "/done", "w").close()
    return {name: {q["id"]: q.get("R@1", q.get("top-1")) for q in read(os.path.join(kept, "each", name))} for name in sorted(os.listdir(kept + "/each"))}


def pooled(runs, seed, resamples=1000, of=None):
    """Mean over all queries of all tasks and runs, in percent, or with `of`, other runs with the same seeds, how many times theirs; 95 %: runs and each task's queries are drawn again."""
    sides = [runs] + ([of] if of else [])
    rng = random.Random(seed)
    tasks = []
    for task in runs[0]:
        rows = [tuple(tuple(r[task][q] for r in side) for side in sides) for q in runs[0][task]]
        tasks.append(rows)

    def value(drawn, picks):
        sums = [0] * len(sides)
        for rows in drawn:
            for row, times in collections.Counter(rows).items():
                for s, side in enumerate(row):
                    sums[s] += times * sum(side[k] for k in picks)
        return (sums[0] / sums[1] if sums[1] else float("inf")) if of else 100 * sums[0] / (len(picks) * sum(map(len, drawn)))
    n = len(runs)
    means = sorted(value([rng.choices(rows, k=len(rows)) for rows in tasks], rng.choices(range(n), k=n)) for _ in range(resamples))
    return {"value": round(value(tasks, range(n)), 3), "low": round(means[int(0.025 * resamples)], 3), "high": round(means[int(0.975 * resamples) - 1], 3)}


def t_interval(x):
    """Mean of some seeds and Student's 95 %."""
    n, m = len(x), mean(x)
    if n == 1:
        return {"value": round(m, 4), "low": None, "high": None}
    t = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}.get(n, 1.96)
    half = t * (sum((v - m) ** 2 for v in x) / (n - 1) / n) ** 0.5
    return {"value": round(m, 4), "low": round(m - half, 4), "high": round(m + half, 4)}
